"""Opening a file that somebody gives us, without waking a device, waiting for a FIFO or following it elsewhere.

A link is followed only to a file in its own folder (``debian.qcow2 -> debian-20261120.qcow2``): one that leads out of
the place that was named may have been put there by somebody else, and reads what only we may read.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from orchestrator.engine.inspector import inspect
from orchestrator.engine.inspector.reading import Content
from orchestrator.errors import Refused, UserError
from orchestrator.model.image import MAX_VIRTUAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.model.image import Verdict

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
          stat.S_IFSOCK: "a socket"}  # fmt: skip


def settled(path: Path) -> Path:
    """The regular file that a path means. Raises UserError for anything else, and for a link out of its folder."""
    try:
        real = path.resolve(strict=True)
        if path.is_symlink() and real.parent != path.parent.resolve():
            raise UserError(f"{path} is a link to another folder", f"if it is meant, name the file itself: {real}")
        mode = real.stat().st_mode
    except (OSError, RuntimeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else error
        raise UserError(f"{path} cannot be read: {why}") from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is {_KINDS.get(stat.S_IFMT(mode), 'no file')}, not a disk file")
    return real


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a regular file, for reading. Raises UserError.

    Whatever takes the file's place between the look at it and the opening is not followed, and does not block us.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UserError(f"{path} is not a regular file")
        yield handle
    finally:
        os.close(handle)


def content_of(handle: int, max_virtual_bytes: int = MAX_VIRTUAL_BYTES) -> Content:
    """An open file, as the inspector reads it."""
    return Content(os.fstat(handle).st_size, lambda at, length: os.pread(handle, length, at), max_virtual_bytes)


def verdict_on(path: Path, claimed: str = "", max_virtual_bytes: int = MAX_VIRTUAL_BYTES) -> Verdict:
    """What the inspector says of a file. Raises UserError when it is no file at all, Refused when it cannot be read."""
    with opened(path) as handle:
        try:
            return inspect(content_of(handle, max_virtual_bytes), claimed)
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}") from error


def synced(path: Path) -> None:
    """Bring a file's bytes to the disk."""
    with opened(path) as handle:
        os.fsync(handle)
