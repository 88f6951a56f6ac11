"""cloud-init's user-data as the ``setup`` of a role: what it has fields for, and the rest passed through."""

from __future__ import annotations

import email.parser
import email.policy
from typing import TYPE_CHECKING

import yaml

from orchestrator.convert import cloudkeys
from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.setups import all_literal, filled
from orchestrator.engine.template import escaped
from orchestrator.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_VALUES = 50_000
MAX_DEPTH = 40
CONFIG = "text/cloud-config"
_TYPES = {
    "#cloud-config-archive": "text/cloud-config-archive", "#cloud-config-jsonp": "text/cloud-config-jsonp",
    "#cloud-config": CONFIG, "#cloud-boothook": "text/cloud-boothook", "#include-once": "text/x-include-once-url",
    "#include": "text/x-include-url", "#part-handler": "text/part-handler", "## template: jinja": "text/jinja2",
    "#!": "text/x-shellscript",
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
        else:
            draft.note(Kind.CHANGED, source, f"a part of {kind} is passed through in setup.user_data")
            rest.append((kind, escaped(body)))
    return filled(setup | {"user_data": _joined(rest)})


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
    if kind == "text/cloud-config-archive":
        told = "is an archive: give its parts one by one"
        raise InvalidInput(source, (Problem(source, told, 1, 1),))
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
    """A cloud-config's value, with nothing in it that a service file could not say. Raises InvalidInput."""
    try:
        value = yaml.safe_load(text)
        left = [MAX_VALUES]
        value = _plain(value, 0, left)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line + 1 + before, mark.column + 1) if mark else (0, 0)
        raise InvalidInput(source, (Problem(source, f"is not YAML: {error.problem}", line, column),)) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        told = str(error).split("\n", maxsplit=1)[0]
        raise InvalidInput(source, (Problem(source, f"is not YAML: {told}", before + 1, 1),)) from error
    if not isinstance(value, dict):
        raise InvalidInput(source, (Problem(source, "must be a mapping: it is a cloud-config", before + 1, 1),))
    return value


def _plain(value: object, depth: int, left: list[int]) -> object:
    """As JSON could have it; dates become texts. Raises ValueError of what is too large: aliases may be anything."""
    left[0] -= 1
    if depth > MAX_DEPTH or left[0] < 0:
        raise ValueError("it is too large, or too deep, once its aliases are filled in")
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1, left) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item, depth + 1, left) for item in value]
    if isinstance(value, bytes):
        raise ValueError("it has a value that is no text (!!binary)")  # noqa: TRY004 - told as the others are
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):  # noqa: PLR0124 - NaN
        raise ValueError("it has a number that is none")
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)
