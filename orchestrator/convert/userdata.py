"""cloud-init's user-data as the ``setup`` of a role: what it has fields for, and the rest passed through."""

from __future__ import annotations

import email.parser
import email.policy
from typing import TYPE_CHECKING

import yaml

from orchestrator.convert import cloudkeys, cloudrest
from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.secrecy import in_command
from orchestrator.convert.setups import all_literal, filled, secret_command
from orchestrator.engine.template import escaped
from orchestrator.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VALUES = 50_000
MAX_DEPTH = 40
CONFIG, ARCHIVE, SCRIPT = "text/cloud-config", "text/cloud-config-archive", "text/x-shellscript"
_TYPES = {
    "#cloud-config-archive": ARCHIVE, "#cloud-config-jsonp": "text/cloud-config-jsonp",
    "#cloud-config": CONFIG, "#cloud-boothook": "text/cloud-boothook", "#include-once": "text/x-include-once-url",
    "#include": "text/x-include-url", "#part-handler": "text/part-handler", "## template: jinja": "text/jinja2",
    "#!": SCRIPT,
}  # fmt: skip


def kind_of(text: str) -> str:
    """The MIME type that a text says it has, as cloud-init sees it; "" if it says none."""
    if "mime-version:" in text[:4096].lower():
        return "multipart/mixed"
    return next((kind for start, kind in _TYPES.items() if text.startswith(start)), "")


def convert(text: str, source: str, role: str, draft: Draft) -> dict[str, object]:
    """The fields of ``setup``. Raises InvalidInput with what is wrong in it."""
    setup: dict[str, object] = {}
    rest: list[tuple[str, object]] = []
    for kind, body, before in _parts(text, source):
        if kind == CONFIG:
            left = cloudkeys.taken(_mapping(body, source, before), setup, cloudkeys.Place(role, draft, source))
            rest += [(kind, all_literal(left))] if left else []
        elif not in_command(body):
            draft.note(Kind.CHANGED, source, f"a part of {kind} is passed through in setup.user_data")
            rest.append((kind, escaped(body)))
        elif kind == SCRIPT:
            _secret_script(setup, source, role, draft)
        else:
            told = f"a part of {kind} may hold a secret, and is left out: take that out of it, and convert it again"
            draft.decide(("roles", role, "image"), source, told)
    return filled(setup | {"user_data": _joined(rest)})


def _secret_script(setup: dict[str, object], source: str, role: str, draft: Draft) -> None:
    """A script with a secret in it is a file whose content is one, and a command that runs it."""
    file, _command = secret_command(draft, role, f"a script of {source}")
    for field, item in (("files", file), ("run", str(file["path"]))):
        known = setup.setdefault(field, [])
        if isinstance(known, list):
            known.append(item)


def _joined(rest: list[tuple[str, object]]) -> object:
    """What is passed through: a mapping if it is one cloud-config, a text if it is one of another kind, else a list."""
    if len(rest) <= 1:
        return rest[0][1] if rest else None
    return [
        {"type": kind, "content": body if isinstance(body, str) else "#cloud-config\n" + yaml.safe_dump(body)}
        for kind, body in rest
    ]


def _parts(text: str, source: str) -> Iterator[tuple[str, str, int]]:
    """(type, text, lines before it) of each part."""
    kind = kind_of(text)
    if kind == ARCHIVE:
        yield from _archived(_value(text, source, 0), source)
        return
    if kind != "multipart/mixed":
        yield kind, text, 0
        return
    message = email.parser.Parser(policy=email.policy.default).parsestr(text)
    if message.defects or not message.is_multipart():
        what = type(message.defects[0]).__name__ if message.defects else "it has no parts"
        raise InvalidInput(source, (Problem(source, f"is not MIME: {what}", 1, 1),))
    for part in message.walk():
        if not part.is_multipart():
            yield _part(part.get_content_type(), part.get_payload(decode=True), text, source)


def _archived(value: object, source: str) -> Iterator[tuple[str, str, int]]:
    """The items of an archive: texts, or mappings with a type and a content."""
    for number, item in enumerate(value if isinstance(value, list) else [value], 1):
        content = item.get("content") if isinstance(item, dict) else item
        if not isinstance(content, str):
            raise InvalidInput(source, (Problem(source, f"has no text in item {number} of the archive", 1, 1),))
        said = str(item.get("type", "")) if isinstance(item, dict) else ""
        kind = said if said not in {"", "text/plain"} else kind_of(content) or CONFIG
        if kind in {ARCHIVE, "multipart/mixed"}:
            raise InvalidInput(source, (Problem(source, f"has parts within parts in item {number}", 1, 1),))
        yield kind, content, 0


def _part(declared: str, payload: object, text: str, source: str) -> tuple[str, str, int]:
    data = payload if isinstance(payload, bytes) else b""
    try:
        body = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(source, (Problem(source, f"has a part of {declared} that is not UTF-8", 1, 1),)) from error
    kind = (kind_of(body) or "text/plain") if declared in {"text/plain", "text/x-not-multipart"} else declared
    first = body.split("\n", 1)[0].strip()
    at = text.find(first) if first else 0
    return kind, body, text.count("\n", 0, max(0, at))


def _mapping(text: str, source: str, before: int) -> dict[str, object]:
    """A cloud-config; an empty one says nothing. Raises InvalidInput."""
    value = _value(text, source, before)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(source, (Problem(source, "must be a mapping: it is a cloud-config", before + 1, 1),))
    return value


def _value(text: str, source: str, before: int) -> object:
    """A YAML text's value, with nothing in it that a service file could not say. Raises InvalidInput."""
    try:
        return _plain(yaml.safe_load(text), 0, [MAX_VALUES])
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1 + before, mark.column + 1) if mark else (0, 0)
        raise InvalidInput(source, (Problem(source, f"is not YAML: {error.problem}", line, column),)) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        told = str(error).split("\n", maxsplit=1)[0]
        raise InvalidInput(source, (Problem(source, f"is not YAML: {told}", before + 1, 1),)) from error


def _plain(value: object, depth: int, left: list[int]) -> object:
    """As JSON could have it; dates become texts. Raises ValueError of what is too large: aliases may be anything."""
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        raise ValueError("it is too large, or too deep, once its aliases are filled in")
    if isinstance(value, dict):
        fields = cloudrest.as_text(value)
        return {str(key): _plain(item, depth + 1, left) for key, item in fields.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, depth + 1, left) for item in value]
    if isinstance(value, bytes):
        raise ValueError("it has a value that is no text (!!binary)")  # noqa: TRY004 - told as the others are
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):  # noqa: PLR0124 - NaN
        raise ValueError("it has a number that is none")
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
