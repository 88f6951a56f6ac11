"""What of a cloud-config is passed through, without anything in it that may be a secret."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING

from orchestrator.convert.cloudusers import HASH
from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.secrecy import holds_secret, in_command, is_secretive

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLD = "may be a secret, and is not passed through: give it as a file of setup.files, with its content in a secret"
_HASHES = {"passwd", "hashed_passwd"}


_GZIP, _BASE64 = {"gz", "gzip"}, {"b64", "base64"}
MAX_BYTES = 2 * 1024**2


def as_text(item: dict[object, object]) -> dict[object, object]:
    """A file of write_files whose content is bytes (``!!binary``), as the same in base64."""
    content, how = item.get("content"), str(item.get("encoding") or "text/plain").lower()
    if not isinstance(content, bytes) or how not in _GZIP | {"text/plain"}:
        return item
    encoding = "gz+b64" if how in _GZIP else "b64"
    return item | {"content": base64.b64encode(content).decode(), "encoding": encoding}


def _opened(item: dict[str, object]) -> str:
    """What a file of write_files has in it, if it is said in base64; "" if it is not, or if that is no text."""
    first, _, second = str(item.get("encoding", "")).lower().rpartition("+")
    if second not in _BASE64 or first not in {"", *_GZIP}:
        return ""
    try:
        data = base64.b64decode(str(item.get("content", "")))
        return (zlib.decompressobj(wbits=31).decompress(data, MAX_BYTES) if first else data).decode(errors="replace")
    except (ValueError, zlib.error):
        return ""


class _Gone:
    """In the place of a secret."""


_GONE = _Gone()


def without_secrets(config: dict[str, object], draft: Draft) -> dict[str, object]:
    """The same without secrets; each is told by where it was."""
    cleaned = _cleaned(config, "", draft)
    return cleaned if isinstance(cleaned, dict) else {}


def _cleaned(value: object, where: str, draft: Draft, *, is_in_list: bool = False) -> object:
    """A value without secrets; _GONE of one itself. A list in a list (a mount, a command) goes whole."""
    if isinstance(value, dict):
        if holds_secret(_opened(value)):
            draft.note(Kind.DROPPED, f"{where}/{value.get('path', '')}", TOLD)
            return _GONE
        fields = dict(_fields(value, where, draft))
        return fields if fields or not value else _GONE
    if isinstance(value, list):
        items = [_cleaned(item, where, draft, is_in_list=True) for item in value]
        if is_in_list and any(item is _GONE for item in items):
            return _GONE
        kept = [item for item in items if item is not _GONE]
        return kept if kept or not value else _GONE
    if isinstance(value, str) and in_command(value):
        draft.note(Kind.DROPPED, where, TOLD)
        return _GONE
    return value


def _fields(value: dict[str, object], where: str, draft: Draft) -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        here = f"{where}/{key}".lstrip("/")
        is_hash = key in _HASHES and HASH.fullmatch(str(item))
        if not is_hash and isinstance(item, str | int) and is_secretive(key, str(item)):
            draft.note(Kind.DROPPED, here, TOLD)
            continue
        cleaned = _cleaned(item, here, draft)
        if cleaned is not _GONE:
            yield key, cleaned
