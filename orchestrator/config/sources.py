"""Local files that a service file names (``source: FILE``): what they hold takes their place before it is checked."""

from __future__ import annotations

from stat import S_ISREG
from typing import TYPE_CHECKING

from orchestrator.config.reading import UNREADABLE, Fault, Path_, Places, mapping, place, roles

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 1024**2
MAX_TOTAL_BYTES = 4 * 1024**2
_LISTS = ("files", "certificates", "trusted_certificates", "user_data")
_COMMANDS = ("run", "run_every_boot", "startup_tasks")


def filled_in(raw: dict[str, object], places: Places, folder: Path | None) -> list[Fault]:
    """Put the content in the place of each ``source``, and say which cannot be read.

    ``folder``: where relative paths begin; None: there are no local files.
    """
    faults: list[Fault] = []
    room = MAX_TOTAL_BYTES
    for path, item, key in _named(raw):
        source = item.pop("source")
        data, wrong = _read(source, folder, room) if key not in item else (b"", f"has both {key} and source: give one")
        room -= len(data)
        item[key] = UNREADABLE if wrong else _text(data)
        if wrong:
            faults.append(Fault((*path, "source"), wrong, place(places, (*path, "source"))[1]))
    for path, role in roles(raw):
        faults += _unattend(mapping(role, "setup"), (*path, "setup", "unattend"), places)
    return faults


def _named(raw: dict[str, object]) -> Iterator[tuple[Path_, dict[str, object], str]]:
    """Every mapping with a ``source``, and the field that it stands for."""
    for path, role in roles(raw):
        setup = mapping(role, "setup")
        for field in (*_LISTS, *_COMMANDS):
            items = setup.get(field)
            for number, item in enumerate(items if isinstance(items, list) else ()):
                if isinstance(item, dict) and "source" in item:
                    key = "content" if field in _LISTS else _script(item["source"])
                    yield (*path, "setup", field, number), item, key
        unattend = setup.get("unattend")
        if isinstance(unattend, dict) and set(unattend) == {"source"}:
            yield (*path, "setup", "unattend"), unattend, "content"


def _script(source: object) -> str:
    return "powershell" if isinstance(source, str) and source.lower().endswith(".ps1") else "script"


def _read(source: object, folder: Path | None, room: int) -> tuple[bytes, str]:
    """A file's bytes, and why they cannot be had ("": they can)."""
    if not isinstance(source, str) or not source or not source.isprintable():
        return b"", "must be the path of a local file"
    if folder is None:
        return b"", "names a local file, and this text is in no folder"
    path = folder / source
    try:
        found = path.stat()
        is_fit = S_ISREG(found.st_mode) and found.st_size <= min(MAX_BYTES, room)
        data = path.read_bytes() if is_fit else b""
    except (OSError, ValueError) as error:
        return b"", f"{source!r:.100} cannot be read: {getattr(error, 'strerror', None) or error}"
    if not S_ISREG(found.st_mode):
        return b"", f"{source!r:.100} is not a regular file"
    if not is_fit:
        return b"", (
            f"{source!r:.100} is too large: a local file may have {MAX_BYTES // 1024**2} MiB, all together"
            f" {MAX_TOTAL_BYTES // 1024**2} MiB"
        )
    return data, ""


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _unattend(setup: dict[str, object], here: Path_, places: Places) -> list[Fault]:
    """An answer file for Windows is one text, also when it came from a local file (UTF-16 as Windows writes it)."""
    value = setup.get("unattend")
    if not isinstance(value, dict) or set(value) != {"content"}:
        return []
    content = value["content"]
    if isinstance(content, bytes):
        content = content.decode("utf-16", errors="replace")
    setup["unattend"] = content
    if isinstance(content, str) and "\ufffd" in content:
        setup["unattend"] = UNREADABLE
        return [Fault(here, "is no text in UTF-8 or UTF-16", place(places, here)[1])]
    return []
