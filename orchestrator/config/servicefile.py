"""Reading a service file: every problem in it at once, each with its path and line, or the service as a value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import yaml
from pydantic import ValidationError

from orchestrator.config.schema import ServiceForm
from orchestrator.errors import InvalidInput, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orchestrator.model.spec import Service

MAX_BYTES = 4 * 1024**2
HINT = "the README's guide shows every field"
# How pydantic's own words are said to a user; the rest of its messages are plain enough.
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field here",
    "int_type": "must be a whole number",
    "string_type": "must be a text",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}

Path_ = tuple[str | int, ...]
ImageProblem = Callable[[str], str]


def load(path: Path, image_problem: ImageProblem) -> Service:
    """Read a file. Raises UserError when it cannot be read, InvalidInput when something is wrong in it.

    ``image_problem``: says what is wrong with a reference to an image, "" if nothing.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file", "name a service file, like examples/hello.yaml")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}", "name a service file, like examples/hello.yaml"
        ) from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{path} is larger than a service file may be ({MAX_BYTES // 1024**2} MiB)")
    return parse(data.decode(errors="replace"), str(path), image_problem)


def parse(text: str, source: str, image_problem: ImageProblem = lambda _reference: "") -> Service:
    """Read a service file's text; ``source`` names it in the problems. Raises InvalidInput."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
        repeated = list(_repeated(root, ())) if root is not None else []
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
        AttributeError,
        KeyError,
        TypeError,
    ) as error:  # ValueError: a date like 2024-99-99
        raise InvalidInput(source, (_syntax(error),), HINT) from error
    if not isinstance(root, yaml.MappingNode) or not isinstance(raw, dict):
        raise InvalidInput(source, (Problem("", "must be a mapping with `service` and `roles`", 1),), HINT)
    problems = [*repeated, *_ports(raw, root), *_images(raw, root, image_problem)]
    try:
        form = ServiceForm.model_validate(raw)
    except ValidationError as error:
        problems += [
            _problem(root, found["loc"], _words(found), is_missing=found["type"] == "missing")
            for found in error.errors()
        ]
        raise InvalidInput(source, _ordered(problems), HINT) from error
    if problems:
        raise InvalidInput(source, _ordered(problems), HINT)
    return form.value()


def line_of(text: str, path: Path_) -> int:
    """The line of a field in a service file's text, for problems that are found later."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return _place(root, path)[1] if isinstance(root, yaml.Node) else 0


def _ordered(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(problems), key=lambda problem: (problem.line, problem.path, problem.message)))


def _syntax(error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    return Problem("", f"is not YAML: {what}", mark.line + 1 if mark is not None else 0)


def _words(found: object) -> str:
    details = dict(found)  # type: ignore[call-overload]
    kind, message = details["type"], str(details["msg"])
    if kind in WORDS:
        return WORDS[kind]
    message = message.removeprefix("Value error, ").replace("Input should be", "must be")
    is_plain = isinstance(details.get("input"), int | str) and kind != "value_error"
    return f"{message}, got {details['input']!r}" if is_plain else message


def _problem(root: yaml.Node, loc: Path_, message: str, *, is_missing: bool = False) -> Problem:
    known, line = _place(root, loc)
    return Problem(_text((*known, loc[-1]) if is_missing else known), message, line)


def _place(root: yaml.Node, loc: Path_) -> tuple[Path_, int]:
    """The part of a location that the file has, and its line; pydantic adds words of its own (``str``, ``[key]``)."""
    node, line, known = root, root.start_mark.line + 1, []
    for part in loc:
        child = _child(node, part)
        if child is not None:
            node, line = child[1], child[0].start_mark.line + 1
            known.append(part)
    return tuple(known), line


def _child(node: yaml.Node, part: str | int) -> tuple[yaml.Node, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        # Of a key that is given twice YAML takes the last.
        return next(((key, value) for key, value in reversed(node.value) if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    return None


def _text(path: Path_) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _repeated(node: yaml.Node, path: Path_) -> Iterator[Problem]:
    """Keys that are given twice: YAML would silently keep the last."""
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _repeated(item, (*path, number))
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, value in node.value:
        if key.value in seen:
            yield Problem(_text((*path, key.value)), "is given twice", key.start_mark.line + 1)
        seen.add(key.value)
        yield from _repeated(value, (*path, key.value))


def _ports(raw: dict[str, object], root: yaml.Node) -> Iterator[Problem]:
    """VIP ports that two endpoints want, and ranges too short for their role; read from what is well-formed."""
    taken: dict[int, str] = {}
    for path, role, endpoint in _endpoints(raw):
        ports = _range(endpoint.get("port"))
        count = role.get("instances", 1)
        if endpoint.get("visibility") == "instance" and isinstance(count, int) and 0 < len(ports) < count:
            message = f"has {len(ports)} ports for {count} instances"
            yield _problem(root, (*path, "port"), message)
        for port in ports:
            if port in taken:
                yield _problem(root, (*path, "port"), f"port {port} is given twice: {taken[port]} has it already")
                break
            taken[port] = _text(path)


def _images(raw: dict[str, object], root: yaml.Node, image_problem: ImageProblem) -> Iterator[Problem]:
    roles = raw.get("roles")
    for name, role in roles.items() if isinstance(roles, dict) else ():
        reference = role.get("image") if isinstance(role, dict) else None
        if isinstance(reference, str) and reference.strip() and (message := image_problem(reference)):
            yield _problem(root, ("roles", str(name), "image"), message)


def _endpoints(raw: dict[str, object]) -> Iterator[tuple[Path_, dict[str, object], dict[str, object]]]:
    roles = raw.get("roles")
    for role_name, role in roles.items() if isinstance(roles, dict) else ():
        endpoints = role.get("endpoints") if isinstance(role, dict) else None
        for name, endpoint in endpoints.items() if isinstance(endpoints, dict) else ():
            if isinstance(endpoint, dict):
                yield ("roles", str(role_name), "endpoints", str(name)), role, endpoint


def _range(port: object) -> range:
    first, _, last = str(port).partition("-")
    if not all(re.fullmatch("[0-9]{1,5}", text) for text in (first, last or first)):
        return range(0)
    return range(int(first), min(int(last or first), 65535) + 1)
