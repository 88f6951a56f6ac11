"""The right to run the loop of a home folder, as a lock on a file: the kernel takes it back when its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FileLease:
    """``path``'s lock is the lease; its text says who holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def try_hold(self) -> Iterator[bool]:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()}".encode(), 0)
            yield True
        finally:
            os.close(handle)

    def holder(self) -> str:
        with self.try_hold() as is_free:
            if is_free:
                return ""
        return self._path.read_text() or "another process"
