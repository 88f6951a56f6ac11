"""Bringing what was given into a plain file: from standard input, or out of gz, xz and zst.

Holes stay holes, so that a bomb of zeros costs time and no room; output, memory and time have limits.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import zlib
from typing import TYPE_CHECKING, BinaryIO, Protocol

from orchestrator.drivers.imaging.qemu_img import caged
from orchestrator.errors import Refused, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PIECE = 1024**2
HOLE = 64 * 1024  # as much as a cluster of what is stored
_ZEROS = bytes(HOLE)
XZ_MEMORY_BYTES = 256 * 1024**2  # `xz -9` needs 65 MiB; a header may ask for 4 GiB


class _Decoder(Protocol):
    """What the decompressors of zlib and lzma have in common, after :class:`_Gz` made zlib's alike."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gz:
    """One member of a gzip file (RFC 1952)."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def _xz() -> _Decoder:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)


_DECODERS: dict[str, Callable[[], _Decoder]] = {"gz": _Gz, "xz": _xz}


def unpack(source: Path, target: Path, kind: str, *, limit: int, on_read: Callable[[int], None]) -> None:
    """Decompress a file. ``on_read``: how many of its bytes are behind us. Raises UserError when it is damaged."""
    if kind == "zst":
        _unpack_zst(source, target, limit)
        return
    with source.open("rb") as packed:
        pieces = _decoded(packed, _DECODERS[kind], kind, on_read)
        spool(pieces, target, limit=limit)


def _unpack_zst(source: Path, target: Path, limit: int) -> None:
    """By the program of that name, which refuses windows over 128 MiB by itself."""
    argv = ["zstd", "-d", "-q", "-f", "--sparse", "-o", str(target), "--", str(source)]
    try:
        caged(argv, source.stat().st_size, lambda _line: None, file_bytes=limit)
    except Refused as error:
        if type(error) is not Refused:
            raise
        raise UserError(f"the zst file is damaged, or more than {limit} bytes are in it: {error.message}") from error


def _decoded(packed: BinaryIO, make: Callable[[], _Decoder], kind: str, told: Callable[[int], None]) -> Iterator[bytes]:
    """What is in all members of the file, in pieces of a limited size."""
    decoder, data = make(), b""
    try:
        while True:
            if not data and decoder.needs_input:
                data = packed.read(PIECE)
                told(packed.tell())
                if not data:
                    raise UserError(f"the {kind} file is truncated")
            yield decoder.decompress(data, PIECE)
            data = b""
            if decoder.eof:
                data = (decoder.unused_data or packed.read(PIECE)).lstrip(b"\0")  # both formats may be padded
                if not data:
                    return
                decoder = make()
    except (zlib.error, lzma.LZMAError) as error:
        raise UserError(f"the {kind} file is damaged: {error}") from error


def spool(pieces: Iterator[bytes], target: Path, *, limit: int) -> None:
    """Write a file from pieces, without what is zero. Raises UserError when it gets longer than ``limit``."""
    length = 0
    with target.open("xb") as out:
        for piece in pieces:
            _write_sparse(out.fileno(), piece, length)
            length += len(piece)
            if length > limit:
                raise UserError(f"more than {limit // 1024**3} GiB come out of it: the limit")
        out.truncate(length)


def _write_sparse(handle: int, piece: bytes, at: int) -> None:
    if not piece.strip(b"\0"):
        return
    for start in range(0, len(piece), HOLE):
        part = memoryview(piece)[start : start + HOLE]
        if not piece.startswith(_ZEROS[: len(part)], start):
            _write_all(handle, part, at + start)


def _write_all(handle: int, data: memoryview, at: int) -> None:
    while data:
        done = os.pwrite(handle, data, at)
        data, at = data[done:], at + done


def given_pieces(stream: BinaryIO, on_read: Callable[[int], None]) -> Iterator[bytes]:
    """Standard input, piece by piece."""
    done = 0
    while piece := stream.read(PIECE):
        yield piece
        done += len(piece)
        on_read(done)


def check_sha256(path: Path, expected: str) -> None:
    """Raise UserError unless the file's bytes have this SHA-256 (hex, with or without ``sha256:``)."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.removeprefix("sha256:").lower():
        raise UserError(f"{path.name} has the SHA-256 {found}, not {expected}", "get it again from where it comes from")
