"""A differencing VHD on its parent, made one whole raw disk. qemu-img cannot; the inspector has judged the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from orchestrator.drivers.imaging.opening import content_of
from orchestrator.engine.inspector.vhd import SECTOR, UNUSED, read_blocks, read_footer
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator.engine.inspector.vhd import Blocks


def lay_over(child: Path, disk: Path, on_done: Callable[[float], None]) -> None:
    """Write every sector that a differencing VHD has into ``disk``, which holds its parent as raw bytes.

    Raises UserError when the two are not of the same size: then it is not this child's parent.
    """
    source, target = os.open(child, os.O_RDONLY | os.O_CLOEXEC), os.open(disk, os.O_RDWR | os.O_CLOEXEC)
    try:
        content = content_of(source)
        footer = read_footer(content)
        if footer.size != os.fstat(target).st_size:
            raise UserError(f"{child.name} is of {footer.size} bytes, its parent of {os.fstat(target).st_size}")
        blocks = read_blocks(content, footer)
        for number, start in enumerate(blocks.table):
            if start != UNUSED and number * blocks.block < footer.size:
                _copy_block(source, target, blocks, (start, number * blocks.block), footer.size)
            on_done((number + 1) / len(blocks.table))
    finally:
        os.close(source)
        os.close(target)


def _copy_block(source: int, target: int, blocks: Blocks, places: tuple[int, int], size: int) -> None:
    """``places``: the sector of the block's bitmap in the child, and the byte in the disk where the block belongs."""
    bitmap = os.pread(source, blocks.bitmap, places[0] * SECTOR)
    data = places[0] * SECTOR + blocks.bitmap
    for first, last in runs(bitmap, blocks.block // SECTOR):
        at = places[1] + first * SECTOR
        length = min((last - first) * SECTOR, size - at)
        if length > 0:
            os.pwrite(target, os.pread(source, length, data + first * SECTOR), at)


def runs(bitmap: bytes, sectors: int) -> Iterator[tuple[int, int]]:
    """The runs of set bits, as first and one past last; the first sector is the highest bit of the first byte."""
    bits = bin(int.from_bytes(b"\1" + bitmap, "big"))[3 : 3 + sectors]
    at = bits.find("1")
    while at >= 0:
        end = bits.find("0", at)
        yield at, end if end >= 0 else len(bits)
        at = bits.find("1", end) if end >= 0 else -1
