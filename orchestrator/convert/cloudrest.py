"""What of a cloud-config is passed through, without anything in it that may be a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.convert.cloudusers import HASH
from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.secrecy import in_command, is_secretive

if TYPE_CHECKING:
    from collections.abc import Iterator

TOLD = "may be a secret, and is not passed through: give it as a file of setup.files, with its content in a secret"
_HASHES = {"passwd", "hashed_passwd"}


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
