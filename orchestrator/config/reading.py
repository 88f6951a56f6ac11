"""YAML read strictly: plain values, where each of them stands, and all that is wrong, each with its path and line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from yaml.constructor import ConstructorError, SafeConstructor

from orchestrator.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_DEPTH = 60
MAX_VALUES = 200_000  # each alias counted as what it stands for: ten lines of them can be a billion
MAX_TABS = 100
MAX_NUMBER = 2**63
TOO_LARGE = "is too large, or too deep, once its aliases are filled in"
_TAG = "tag:yaml.org,2002:"
_TEXTS = {f"{_TAG}{kind}" for kind in ("str", "value", "merge")}  # `=` and `<<` mean something to YAML 1.1 only as keys
_DATE = f"{_TAG}timestamp"
_WORDS = {"int": "number", "float": "number", "bool": "yes or no", "null": "null", "timestamp": "date"}
_KINDS = {f"{_TAG}{kind}": word for kind, word in _WORDS.items()}
_CUT = ""  # no tag that a file could have
_NOT_IN_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HALF = re.compile("[\ud800-\udfff]")  # YAML can spell a lone surrogate; no file, disc or terminal can hold it
# Stands where a value could not be read: no field takes it, so only that field could complain of it, and is not heard.
UNREADABLE = math.nan

Path_ = tuple[str | int, ...]
Places = dict[Path_, tuple[int, yaml.Node]]  # what a file has: its line and its node


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem whose path is still in parts."""

    path: Path_
    message: str
    line: int

    def problem(self) -> Problem:
        return Problem(path_text(self.path), self.message, self.line)


class _Loader(yaml.SafeLoader):
    """YAML's own, but a pit of a thousand brackets has a line here, where Python only knows the end of its stack."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(None, None, "it is nested too deeply", self.get_mark())
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def read(text: str) -> tuple[Places, object, list[Fault]]:
    """A text as plain values, where each of them stands, and all that is wrong with it as YAML."""
    text, faults = _cleaned(text)
    root, found = _compose(text)
    faults += found
    places: Places = {}
    if root is None:
        return places, UNREADABLE if faults else None, faults
    if _is_too_large(_survey(root, (), frozenset(), {}, faults)):
        return places, UNREADABLE, [*faults, Fault((), TOO_LARGE, 1)]
    return places, _plain(root, root.start_mark.line + 1, (), places, faults), faults


def _cleaned(text: str) -> tuple[str, list[Fault]]:
    """A text without what YAML does not allow, and a fault for each line that had such; one if it is no text at all."""
    if "\0" in text:
        return "", [Fault((), "is binary, not a text: it holds a NUL", text.count("\n", 0, text.index("\0")) + 1)]
    faults = []
    for number, line in enumerate(text.split("\n"), start=1):
        if match := _NOT_IN_YAML.search(line):
            code = ord(match.group())
            is_byte = 0xDC80 <= code <= 0xDCFF
            what = f"is not UTF-8: byte 0x{code - 0xDC00:02x}" if is_byte else f"holds the character U+{code:04X}"
            faults.append(Fault((), f"{what} in column {match.start() + 1}", number))
    return _NOT_IN_YAML.sub("\ufffd", text), faults


def _compose(text: str) -> tuple[yaml.Node | None, list[Fault]]:
    """YAML's nodes. A tab is taken for two spaces, so that the next one and whatever else is wrong are told too."""
    faults: list[Fault] = []
    while len(faults) < MAX_TABS:
        loader = _Loader(text)
        try:
            return loader.get_single_node(), faults
        # ValueError: `%YAML 111…` of many digits; OverflowError: "\\UFFFFFFFF"
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            mark = getattr(error, "problem_mark", None) or loader.get_mark()
            rest = text[mark.index :]
            if not rest.startswith("\t"):
                what = getattr(error, "problem", None) or str(error)
                return None, faults or [Fault((), f"is not YAML: {what}", mark.line + 1)]
            spaces = "  " * (len(rest) - len(rest.lstrip("\t")))
            text = text[: mark.index] + spaces + rest.lstrip("\t")
            faults.append(Fault((), "is not YAML: it has a tab where YAML wants spaces", mark.line + 1))
        finally:
            loader.dispose()
    return None, faults


def _survey(
    node: yaml.Node, path: Path_, above: frozenset[int], known: dict[int, tuple[int, int]], faults: list[Fault]
) -> tuple[int, int]:
    """Make a tree of what YAML allows to be a knot; how large and how deep it is with its aliases filled in.

    Looks at each node once. What holds itself or is too large is cut off, and ``<<`` becomes what it stands for.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value) // 64, 1
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, yaml.MappingNode):
        node.value = list(_keyed(node, path, faults))
    size, depth = 1, 1
    kept: list[yaml.Node] = []
    for part, line, child in _children(node):
        here = (*path, part)
        if id(child) in above | {id(node)}:
            faults.append(Fault(here, "holds itself", line))
            kept.append(yaml.ScalarNode(_CUT, ""))
            continue
        found = _survey(child, here, above | {id(node)}, known, faults)
        if _is_too_large(found):
            faults.append(Fault(here, TOO_LARGE, line))
            child.tag, child.value, found = _CUT, [], (1, 1)
            known[id(child)] = found  # so that it is not told again of each alias
        kept.append(child)
        size, depth = size + found[0], max(depth, found[1] + 1)
    if isinstance(node, yaml.MappingNode):
        node.value = [(key, child) for (key, _child), child in zip(node.value, kept, strict=True)]
        faults += _merge(node, path)
    else:
        node.value = kept
    known[id(node)] = size, depth
    return size, depth


def _is_too_large(found: tuple[int, int]) -> bool:
    return found[0] > MAX_VALUES or found[1] > MAX_DEPTH


def _children(node: yaml.Node) -> list[tuple[str | int, int, yaml.Node]]:
    """What a node holds: its part of the path, its line and its own node."""
    if isinstance(node, yaml.MappingNode):
        return [(key.value, key.start_mark.line + 1, value) for key, value in node.value]
    return [(number, (item.start_mark or node.start_mark).line + 1, item) for number, item in enumerate(node.value)]


def _keyed(node: yaml.MappingNode, path: Path_, faults: list[Fault]) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """The pairs of a mapping whose keys can be fields; of keys that are given twice YAML would keep the last."""
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or _HALF.search(key.value):
            faults.append(Fault(path, "has a key that no field could have", line))
            continue
        if key.tag not in _TEXTS:
            faults.append(Fault((*path, key.value), "is a key that is not a text: put it in quotes", line))
        if key.value in seen:
            faults.append(Fault((*path, key.value), "is given twice", line))
        seen.add(key.value)
        yield key, value


def _merge(node: yaml.MappingNode, path: Path_) -> list[Fault]:
    """Replace ``<<: *other`` by the pairs of the other."""
    try:
        SafeConstructor().flatten_mapping(node)
    except ConstructorError as error:
        node.value = [(key, value) for key, value in node.value if key.tag != f"{_TAG}merge"]
        line = error.problem_mark.line if error.problem_mark else node.start_mark.line
        return [Fault((*path, "<<"), "must be an alias of a mapping, or a list of such", line + 1)]
    return []


def _plain(node: yaml.Node, line: int, path: Path_, places: Places, faults: list[Fault]) -> object:
    """A node's value, of what JSON has a form for; notes where everything stands."""
    places[path] = line, node
    if node.tag == _CUT:
        return UNREADABLE
    if isinstance(node, yaml.ScalarNode):
        value, wrong = _scalar(node)
        faults += [Fault(path, wrong, line)] if wrong else []
        return value
    if node.tag not in {f"{_TAG}seq", f"{_TAG}map"}:
        faults.append(Fault(path, _strange(node.tag), line))
    parts = [(part, _plain(child, at, (*path, part), places, faults)) for part, at, child in _children(node)]
    return dict(parts) if isinstance(node, yaml.MappingNode) else [value for _part, value in parts]


def _scalar(node: yaml.ScalarNode) -> tuple[object, str]:
    """A scalar's value, and what is wrong with it ("": nothing)."""
    if node.tag in _TEXTS:
        return (UNREADABLE, "holds half of a character") if _HALF.search(node.value) else (node.value, "")
    if node.tag not in _KINDS:
        return UNREADABLE, _strange(node.tag)
    try:
        value: object = SafeConstructor().construct_object(node) if len(node.value) <= 100 else MAX_NUMBER
    except (ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        why = f" ({error})" if node.tag == _DATE else ""
        return UNREADABLE, f"is read as a {_KINDS[node.tag]}, but is none{why}: put it in quotes if it is a text"
    if node.tag == _DATE:
        return UNREADABLE, "is read as a date, which no field takes: put it in quotes if it is a text"
    if isinstance(value, int | float) and not abs(value) < MAX_NUMBER:
        return UNREADABLE, "is too large a number, or none"
    return value, ""


def _strange(tag: str) -> str:
    return f"has the tag {tag.replace(_TAG, '!!')!r:.60}, which means nothing here"


def ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems), key=lambda problem: (problem.line, problem.path, problem.message)))


def problem(places: Places, loc: Path_, message: str, *, is_missing: bool = False) -> Problem:
    known, line = place(places, loc)
    return Problem(path_text((*known, loc[-1]) if is_missing else known), message, line)


def place(places: Places, loc: Path_) -> tuple[Path_, int]:
    """The part of a location that the file has, and its line; pydantic adds words of its own (``[key]``)."""
    known: Path_ = ()
    for part in loc:
        known = (*known, part) if (*known, part) in places else known
    return known, places[known][0] if places else 1


def path_text(path: Path_) -> str:
    text = ""
    for part in path:
        shown = part if isinstance(part, int) or (part and part.isprintable()) else ascii(part)
        text += f"[{part}]" if isinstance(part, int) else f".{shown}"
    return text.lstrip(".")


def roles(raw: dict[str, object]) -> Iterator[tuple[Path_, dict[str, object]]]:
    """The roles that are well-formed enough to be looked into."""
    found = raw.get("roles")
    for name, role in found.items() if isinstance(found, dict) else ():
        if isinstance(role, dict):
            yield ("roles", name), role


def mapping(raw: dict[str, object], *keys: str) -> dict[str, object]:
    """What is below ``keys``; {} unless it is a mapping."""
    found: object = raw
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
