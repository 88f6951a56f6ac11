"""The digest of an image's content: of what a guest sees on the disk, whatever file it lies in (docs/adr/0006).

The disk is cut into chunks of 1 MiB, the last of which may be shorter. The digest is SHA-256 over the ASCII text
``vmrole-image-1`` and a zero byte, the disk's length in bytes (8 bytes, big-endian), and the SHA-256 of each chunk in
order. A chunk of zeros has a known hash, so that a hole costs nothing. It is read back from the stored file, by our
own reader of the one layout that is stored (qcow2 version 3, clusters of 64 KiB, nothing compressed, nothing below).
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.inspector.reading import integers
from orchestrator.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CHUNK = 1024**2
CLUSTER = 64 * 1024
ENTRIES = CLUSTER // 8
CHUNK_CLUSTERS = CHUNK // CLUSTER
TABLE_BYTES = ENTRIES * CLUSTER  # of a disk, that one L2 table tells of
DOMAIN = b"vmrole-image-1\0"
_HEADER = struct.Struct(">4sIQIIQIIQ")
_OFFSET, _ZERO, _COMPRESSED = 0x00FFFFFFFFFFFE00, 1, 1 << 62


@dataclass(frozen=True, slots=True)
class Stored:
    """An open file of the repository: its descriptor, the disk's size, and where its L2 tables are."""

    handle: int
    virtual_bytes: int
    tables: tuple[int, ...]


def content_digest(path: Path, on_progress: Callable[[int], None] = lambda _done: None) -> str:
    """``sha256:`` and the digest of a stored image's content. Raises Refused when the file is not of our layout."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        stored = stored_disk(handle, path.name)
        total = hashlib.sha256(DOMAIN + stored.virtual_bytes.to_bytes(8, "big"))
        done = 0
        for count, piece in chunks(stored):
            total.update(hashlib.sha256(piece).digest() if piece else zero_leaf(CHUNK) * count)
            done += count * CHUNK
            on_progress(min(done, stored.virtual_bytes))
        return f"sha256:{total.hexdigest()}"
    finally:
        os.close(handle)


def stored_disk(handle: int, name: str) -> Stored:
    """The disk in an open file of ours. Raises Refused when the file is not of our layout."""
    header = os.pread(handle, 104, 0)
    if len(header) < 104:
        raise Refused(f"{name} is damaged: too short for an image")
    magic, version, backing, _length, bits, size, crypt, entries, at = _HEADER.unpack_from(header)
    incompatible = int.from_bytes(header[72:80], "big")
    if (magic, version, backing, bits, crypt, incompatible) != (b"QFI\xfb", 3, 0, 16, 0, 0):
        raise Refused(f"{name} is damaged: not a standalone qcow2 with clusters of 64 KiB")
    count = -(-size // TABLE_BYTES)
    raw = os.pread(handle, count * 8, at) if count <= entries else b""
    if len(raw) != count * 8:
        raise Refused(f"{name} is damaged: its L1 table is cut off")
    return Stored(handle, size, tuple(entry & _OFFSET for entry in integers("Q", raw, "big")))


def chunks(stored: Stored) -> Iterator[tuple[int, bytes]]:
    """The disk in order: so many whole chunks of zeros and ``b""``, or 1 and a chunk's bytes."""
    for number, table in enumerate(stored.tables):
        start = number * TABLE_BYTES
        length = min(TABLE_BYTES, stored.virtual_bytes - start)
        entries = integers("Q", _read(stored.handle, table, CLUSTER), "big") if table else None
        for first in range(-(-length // CHUNK)):
            size = min(CHUNK, length - first * CHUNK)
            own = entries[first * CHUNK_CLUSTERS : (first + 1) * CHUNK_CLUSTERS] if entries else ()
            if any(entry & _OFFSET and not entry & _ZERO for entry in own):
                yield 1, _chunk(stored.handle, list(own), size)
            else:
                yield 1, b"" if size == CHUNK else bytes(size)


def _chunk(handle: int, entries: list[int], size: int) -> bytes:
    """A chunk's bytes; clusters that lie one after the other in the file are read at once."""
    first = entries[0] & _OFFSET
    if all(entry & ~(1 << 63) == first + number * CLUSTER for number, entry in enumerate(entries)):
        return _read(handle, first, size)
    return b"".join(_cluster(handle, entry) for entry in entries)[:size]


def _cluster(handle: int, entry: int) -> bytes:
    if entry & _COMPRESSED:
        raise Refused("a stored image is damaged: it has compressed clusters")
    return _read(handle, entry & _OFFSET, CLUSTER) if entry & _OFFSET and not entry & _ZERO else bytes(CLUSTER)


def _read(handle: int, offset: int, length: int) -> bytes:
    """Bytes of the file; the last cluster of a file may be cut, and has zeros there (as QEMU reads it)."""
    return os.pread(handle, length, offset).ljust(length, b"\0")


def zero_leaf(size: int) -> bytes:
    """The hash of a chunk of ``size`` zeros."""
    return _ZERO_LEAF if size == CHUNK else hashlib.sha256(bytes(size)).digest()


_ZERO_LEAF = hashlib.sha256(bytes(CHUNK)).digest()


def first_bytes(path: Path, length: int) -> bytes:
    """The beginning of the disk in a stored image, at most one chunk of it."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _count, piece = next(chunks(stored_disk(handle, path.name)), (0, b""))
        return piece[:length]
    finally:
        os.close(handle)
