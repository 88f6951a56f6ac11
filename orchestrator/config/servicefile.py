"""Reading a service file: every problem in it at once, each with its path and line, or the service as a value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from stat import S_ISREG
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError
from yaml.constructor import ConstructorError, SafeConstructor

from orchestrator.config.endpointform import misfits, ports_of
from orchestrator.config.schema import ServiceForm, in_words
from orchestrator.errors import InvalidInput, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from orchestrator.model.spec import Service

MAX_BYTES = 4 * 1024**2
MAX_DEPTH = 60
MAX_VALUES = 200_000  # each alias counted as what it stands for: ten lines of them can be a billion
MAX_TABS = 100
MAX_NUMBER = 2**63
TOO_LARGE = "is too large, or too deep, once its aliases are filled in"
EXAMPLE = "name a service file, like examples/hello.yaml"
HINT = "the README's guide shows every field"
_TAG = "tag:yaml.org,2002:"
_TEXTS = {f"{_TAG}{kind}" for kind in ("str", "value", "merge")}  # `=` and `<<` mean something to YAML 1.1 only as keys
_DATE = f"{_TAG}timestamp"
_WORDS = {"int": "number", "float": "number", "bool": "yes or no", "null": "null", "timestamp": "date"}
_KINDS = {f"{_TAG}{kind}": word for kind, word in _WORDS.items()}
_CUT = ""  # no tag that a file could have
_NOT_IN_YAML = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_HALF = re.compile("[\ud800-\udfff]")  # YAML can spell a lone surrogate; no file, disc or terminal can hold it
# Stands where a value could not be read: no field takes it, so only that field could complain of it, and is not heard.
_UNREADABLE = math.nan
# What both the user's cloud-config and fields of ours can ask for, so that the two lists are joined.
_JOINED = {
    "ssh_authorized_keys": ("setup.ssh_authorized_keys",),
    "write_files": ("setup.files", "setup.settings"),
    "runcmd": ("setup.run", "local_storage", "volumes"),
    "bootcmd": ("local_storage", "volumes"),
}

Path_ = tuple[str | int, ...]
_Places = dict[Path_, tuple[int, yaml.Node]]  # what a file has: its line and its node
ImageProblem = Callable[[str], str]


def load(path: Path, image_problem: ImageProblem) -> Service:
    """Read a file. Raises UserError when it cannot be read, InvalidInput when something is wrong in it.

    ``image_problem``: says what is wrong with a reference to an image, "" if nothing.
    """
    try:
        found = path.stat()
        data = path.read_bytes() if S_ISREG(found.st_mode) and found.st_size <= MAX_BYTES else b""
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", EXAMPLE) from error
    if not S_ISREG(found.st_mode):
        raise UserError(f"{path} is not a regular file", EXAMPLE)
    if found.st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than a service file may be ({MAX_BYTES // 1024**2} MiB)")
    return parse(data.decode(errors="surrogateescape"), str(path), image_problem)


def parse(text: str, source: str, image_problem: ImageProblem = lambda _reference: "") -> Service:
    """Read a text, in which bytes that were not UTF-8 are surrogates; ``source`` names it. Raises InvalidInput."""
    places, raw, faults = _read(text)
    if not isinstance(raw, dict):
        told = faults or [_Fault((), "must be a mapping with `service` and `roles`", 1)]
        raise InvalidInput(source, _ordered(fault.problem() for fault in told), HINT)
    faults += _cloud_configs(raw, places)
    problems = [
        *(fault.problem() for fault in faults),
        *_ports(raw, places),
        *_disks(raw, places),
        *_beside(raw, places),
        *_images(raw, places, image_problem),
    ]
    try:
        form = ServiceForm.model_validate(raw)
    except ValidationError as error:
        problems += [
            _problem(places, found["loc"], in_words(found), is_missing=found["type"] == "missing")
            for found in error.errors()
            if found["input"] is not _UNREADABLE
        ]
        raise InvalidInput(source, _ordered(problems), HINT) from error
    if problems:
        raise InvalidInput(source, _ordered(problems), HINT)
    return form.value()


def line_of(text: str, path: Path_) -> int:
    """The line of a field in a service file's text, for problems that are found later."""
    return _place(_read(text)[0], path)[1]


@dataclass(frozen=True, slots=True)
class _Fault:
    """A problem whose path is still in parts."""

    path: Path_
    message: str
    line: int

    def problem(self) -> Problem:
        return Problem(_text(self.path), self.message, self.line)


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


def _read(text: str) -> tuple[_Places, object, list[_Fault]]:
    """A text as plain values, where each of them stands, and all that is wrong with it as YAML."""
    text, faults = _cleaned(text)
    root, found = _compose(text)
    faults += found
    places: _Places = {}
    if root is None:
        return places, _UNREADABLE if faults else None, faults
    if _is_too_large(_survey(root, (), frozenset(), {}, faults)):
        return places, _UNREADABLE, [*faults, _Fault((), TOO_LARGE, 1)]
    return places, _plain(root, root.start_mark.line + 1, (), places, faults), faults


def _cleaned(text: str) -> tuple[str, list[_Fault]]:
    """A text without what YAML does not allow, and a fault for each line that had such; one if it is no text at all."""
    if "\0" in text:
        return "", [_Fault((), "is binary, not a text: it holds a NUL", text.count("\n", 0, text.index("\0")) + 1)]
    faults = []
    for number, line in enumerate(text.split("\n"), start=1):
        if match := _NOT_IN_YAML.search(line):
            code = ord(match.group())
            is_byte = 0xDC80 <= code <= 0xDCFF
            what = f"is not UTF-8: byte 0x{code - 0xDC00:02x}" if is_byte else f"holds the character U+{code:04X}"
            faults.append(_Fault((), f"{what} in column {match.start() + 1}", number))
    return _NOT_IN_YAML.sub("\ufffd", text), faults


def _compose(text: str) -> tuple[yaml.Node | None, list[_Fault]]:
    """YAML's nodes. A tab is taken for two spaces, so that the next one and whatever else is wrong are told too."""
    faults: list[_Fault] = []
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
                return None, faults or [_Fault((), f"is not YAML: {what}", mark.line + 1)]
            spaces = "  " * (len(rest) - len(rest.lstrip("\t")))
            text = text[: mark.index] + spaces + rest.lstrip("\t")
            faults.append(_Fault((), "is not YAML: it has a tab where YAML wants spaces", mark.line + 1))
        finally:
            loader.dispose()
    return None, faults


def _survey(
    node: yaml.Node, path: Path_, above: frozenset[int], known: dict[int, tuple[int, int]], faults: list[_Fault]
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
            faults.append(_Fault(here, "holds itself", line))
            kept.append(yaml.ScalarNode(_CUT, ""))
            continue
        found = _survey(child, here, above | {id(node)}, known, faults)
        if _is_too_large(found):
            faults.append(_Fault(here, TOO_LARGE, line))
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


def _keyed(node: yaml.MappingNode, path: Path_, faults: list[_Fault]) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """The pairs of a mapping whose keys can be fields; of keys that are given twice YAML would keep the last."""
    seen: set[str] = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or _HALF.search(key.value):
            faults.append(_Fault(path, "has a key that no field could have", line))
            continue
        if key.tag not in _TEXTS:
            faults.append(_Fault((*path, key.value), "is a key that is not a text: put it in quotes", line))
        if key.value in seen:
            faults.append(_Fault((*path, key.value), "is given twice", line))
        seen.add(key.value)
        yield key, value


def _merge(node: yaml.MappingNode, path: Path_) -> list[_Fault]:
    """Replace ``<<: *other`` by the pairs of the other."""
    try:
        SafeConstructor().flatten_mapping(node)
    except ConstructorError as error:
        node.value = [(key, value) for key, value in node.value if key.tag != f"{_TAG}merge"]
        line = error.problem_mark.line if error.problem_mark else node.start_mark.line
        return [_Fault((*path, "<<"), "must be an alias of a mapping, or a list of such", line + 1)]
    return []


def _plain(node: yaml.Node, line: int, path: Path_, places: _Places, faults: list[_Fault]) -> object:
    """A node's value, of what JSON has a form for; notes where everything stands."""
    places[path] = line, node
    if node.tag == _CUT:
        return _UNREADABLE
    if isinstance(node, yaml.ScalarNode):
        value, wrong = _scalar(node)
        faults += [_Fault(path, wrong, line)] if wrong else []
        return value
    if node.tag not in {f"{_TAG}seq", f"{_TAG}map"}:
        faults.append(_Fault(path, _strange(node.tag), line))
    parts = [(part, _plain(child, at, (*path, part), places, faults)) for part, at, child in _children(node)]
    return dict(parts) if isinstance(node, yaml.MappingNode) else [value for _part, value in parts]


def _scalar(node: yaml.ScalarNode) -> tuple[object, str]:
    """A scalar's value, and what is wrong with it ("": nothing)."""
    if node.tag in _TEXTS:
        return (_UNREADABLE, "holds half of a character") if _HALF.search(node.value) else (node.value, "")
    if node.tag not in _KINDS:
        return _UNREADABLE, _strange(node.tag)
    try:
        value: object = SafeConstructor().construct_object(node) if len(node.value) <= 100 else MAX_NUMBER
    except (ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as error:
        why = f" ({error})" if node.tag == _DATE else ""
        return _UNREADABLE, f"is read as a {_KINDS[node.tag]}, but is none{why}: put it in quotes if it is a text"
    if node.tag == _DATE:
        return _UNREADABLE, "is read as a date, which no field takes: put it in quotes if it is a text"
    if isinstance(value, int | float) and not abs(value) < MAX_NUMBER:
        return _UNREADABLE, "is too large a number, or none"
    return value, ""


def _strange(tag: str) -> str:
    return f"has the tag {tag.replace(_TAG, '!!')!r:.60}, which means nothing here"


def _ordered(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems), key=lambda problem: (problem.line, problem.path, problem.message)))


def _problem(places: _Places, loc: Path_, message: str, *, is_missing: bool = False) -> Problem:
    known, line = _place(places, loc)
    return Problem(_text((*known, loc[-1]) if is_missing else known), message, line)


def _place(places: _Places, loc: Path_) -> tuple[Path_, int]:
    """The part of a location that the file has, and its line; pydantic adds words of its own (``[key]``)."""
    known: Path_ = ()
    for part in loc:
        known = (*known, part) if (*known, part) in places else known
    return known, places[known][0] if places else 1


def _text(path: Path_) -> str:
    text = ""
    for part in path:
        shown = part if isinstance(part, int) or (part and part.isprintable()) else ascii(part)
        text += f"[{part}]" if isinstance(part, int) else f".{shown}"
    return text.lstrip(".")


def _roles(raw: dict[str, object]) -> Iterator[tuple[Path_, dict[str, object]]]:
    """The roles that are well-formed enough to be looked into."""
    roles = raw.get("roles")
    for name, role in roles.items() if isinstance(roles, dict) else ():
        if isinstance(role, dict):
            yield ("roles", name), role


def _mapping(raw: dict[str, object], *keys: str) -> dict[str, object]:
    """What is below ``keys``; {} unless it is a mapping."""
    found: object = raw
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _cloud_configs(raw: dict[str, object], places: _Places) -> list[_Fault]:
    """Put the mapping in the place of each cloud-config that is written as a text, and say what is wrong with it."""
    faults = []
    for path, role in _roles(raw):
        setup = _mapping(role, "setup")
        text = setup.get("user_data")
        if isinstance(text, str) and text.startswith("#cloud-config"):
            here: Path_ = (*path, "setup", "user_data")
            line, node = places[here]
            is_block = isinstance(node, yaml.ScalarNode) and node.style == "|"
            _places, setup["user_data"], found = _read(text)
            for fault in found:
                at = node.start_mark.line + 1 + fault.line if is_block else line
                faults.append(_Fault((*here, *fault.path), fault.message, at))
    return faults


def _beside(raw: dict[str, object], places: _Places) -> Iterator[Problem]:
    """What the user's cloud-config would have instead of ours, because only lists can be joined."""
    for path, role in _roles(raw):
        for key, value in _mapping(role, "setup", "user_data").items():
            ours = [f for f in _JOINED.get(key, ()) if _mapping(role, *f.split(".")[:-1]).get(f.split(".")[-1])]
            if ours and not isinstance(value, list) and value is not _UNREADABLE:
                here: Path_ = (*path, "setup", "user_data", key)
                message = f"must be a list: it is joined to that of {' and '.join(ours)}"
                yield Problem(_text(here), message, _place(places, here)[1])


def _disks(raw: dict[str, object], places: _Places) -> Iterator[Problem]:
    """Names and mounts that two disks of a role want."""
    for path, role in _roles(raw):
        taken: dict[tuple[str, str], str] = {}
        for kind in (key for key in role if key in {"local_storage", "volumes"}):
            for name in _mapping(role, kind):
                here: Path_ = (*path, kind, name)
                mount = _mapping(role, kind, name).get("mount")
                for what, told, place in (("name", name, here), ("mount", mount, (*here, "mount"))):
                    owner = taken.setdefault((what, str(told)), _text(here))
                    if isinstance(told, str) and owner != _text(here):
                        yield _problem(places, place, f"{told!r:.60} is taken: {owner} has the same {what}")


def _ports(raw: dict[str, object], places: _Places) -> Iterator[Problem]:
    """Ports that two endpoints want, ranges too short for their role, fields that do not go together."""
    taken: dict[int, str] = {}
    every = ((path, role, name) for path, role in _roles(raw) for name in _mapping(role, "endpoints"))
    for above, role, name in every:
        path: Path_ = (*above, "endpoints", name)
        endpoint = _mapping(role, "endpoints", name)
        yield from (_problem(places, (*path, *field), message) for field, message in misfits(endpoint))
        ports = ports_of(endpoint.get("port"))
        count = role.get("instances", 1)
        if endpoint.get("visibility") == "instance" and isinstance(count, int) and 0 < len(ports) < count:
            yield _problem(places, (*path, "port"), f"has {len(ports)} ports for {count} instances")
        if (port := next((port for port in ports if port in taken), 0)) != 0:
            yield _problem(places, (*path, "port"), f"port {port} is given twice: {taken[port]} has it already")
        taken = {**dict.fromkeys(ports, _text(path)), **taken}


def _images(raw: dict[str, object], places: _Places, image_problem: ImageProblem) -> Iterator[Problem]:
    for path, role in _roles(raw):
        reference = role.get("image")
        is_sayable = isinstance(reference, str) and reference.strip() and reference.isprintable()
        if is_sayable and (message := image_problem(str(reference))):
            yield _problem(places, (*path, "image"), message)
