"""Reading a file that nobody vouches for: every length has a limit, and what is not there is an answer."""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.image import MAX_VIRTUAL_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_READ = 64 * 1024**2


class Unfit(Exception):
    """The file is refused; the text says why. It never leaves the inspector, which makes a verdict of it."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file's bytes, to be read piece by piece. ``fetch`` takes offset and length, and may return less at the end."""

    size: int
    fetch: Callable[[int, int], bytes]
    max_virtual_bytes: int = MAX_VIRTUAL_BYTES

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Exactly these bytes. Raises Unfit when they are not all in the file, or too many."""
        if length > MAX_READ:
            raise Unfit(f"{what} is {length} bytes long, more than the limit of {MAX_READ}")
        if offset < 0 or offset + length > self.size:
            raise Unfit(f"truncated or damaged: {what} lies beyond the end of the file")
        found = self.fetch(offset, length)
        if len(found) != length:
            raise Unfit(f"truncated: {what} could not be read whole")
        return found

    def peek(self, offset: int, length: int) -> bytes:
        """What there is of these bytes: less at the end of the file, nothing beyond it."""
        return self.fetch(offset, length) if 0 <= offset < self.size else b""

    def check_virtual(self, virtual_bytes: int) -> int:
        """The size of a disk that may be taken in. Raises Unfit for none at all and for more than the limit."""
        if virtual_bytes <= 0:
            raise Unfit("the disk in it is empty")
        if virtual_bytes > self.max_virtual_bytes:
            limit = self.max_virtual_bytes // 1024**3
            raise Unfit(f"its virtual size of {virtual_bytes // 1024**3} GiB is beyond the limit of {limit} GiB")
        return virtual_bytes


def integers(code: str, data: bytes, order: str) -> array[int]:
    """A table of unsigned integers: ``code`` as in the module array, ``order`` as in sys.byteorder."""
    found = array(code, data)
    if order != sys.byteorder:
        found.byteswap()
    return found
