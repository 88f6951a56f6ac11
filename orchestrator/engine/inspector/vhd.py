"""VHD, the disks of Virtual PC, Hyper-V and Azure (Microsoft, "Virtual Hard Disk Image Format Specification").

A footer of 512 bytes at the end of the file, in front of which a fixed disk has nothing but its bytes; dynamic and
differencing disks have a copy of it at the start, a header, and a table of blocks (BAT, in sectors of 512 bytes).
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.inspector.reading import Unfit, integers
from orchestrator.model.image import Verdict

if TYPE_CHECKING:
    from array import array

    from orchestrator.engine.inspector.reading import Content

COOKIE, SPARSE_COOKIE = b"conectix", b"cxsparse"
FIXED, DYNAMIC, DIFFERENCING = 2, 3, 4
SECTOR = 512
UNUSED = 0xFFFFFFFF
_FOOTER = struct.Struct(">8sIIQI4sI4sQQ4sII16sB")
_HEADER = struct.Struct(">8sQQIIII16sI4x512s192s")
MAX_BLOCK = 256 * 1024**2
MAX_ENTRIES = 4 * 1024**2  # 2 TiB in blocks of 512 KiB


@dataclass(frozen=True, slots=True)
class Footer:
    """What a footer says that matters here; ``identity`` is the disk's UUID."""

    data_offset: int
    size: int
    kind: int
    identity: str


@dataclass(frozen=True, slots=True)
class Blocks:
    """Where a dynamic or differencing disk has its blocks: for each the sector that its bitmap begins at, or UNUSED."""

    block: int
    table: array[int]
    parent: str

    @property
    def bitmap(self) -> int:
        """Bytes of the bitmap before each block: a bit for each sector, in whole sectors."""
        return (self.block // SECTOR // 8 + SECTOR - 1) // SECTOR * SECTOR


def inspect_vhd(content: Content) -> Verdict:
    """The verdict on a file with the cookie of VHD at its start or its end. Raises Unfit."""
    footer = read_footer(content)
    virtual_bytes = content.check_virtual(footer.size)
    if footer.kind == FIXED:
        if content.read(0, len(COOKIE), "the disk") == COOKIE:
            raise Unfit("it is two VHDs at once: a fixed one by its end, another by its start")
        if footer.size + SECTOR != content.size:
            raise Unfit(f"truncated or damaged: a fixed VHD of {footer.size} bytes in a file of {content.size}")
        return Verdict("vhd", virtual_bytes, identity=footer.identity)
    if content.read(0, SECTOR, "the VHD's first footer") != content.read(content.size - SECTOR, SECTOR, "the footer"):
        raise Unfit("damaged: the VHD's two footers differ")
    blocks = read_blocks(content, footer)
    _check_blocks(content, blocks, footer)
    return Verdict("vhd", virtual_bytes, parent=blocks.parent, identity=footer.identity)


def read_footer(content: Content) -> Footer:
    """The footer at the end. Raises Unfit."""
    if content.size < 2 * SECTOR:
        raise Unfit("truncated: a VHD of less than two sectors")
    raw = content.read(content.size - SECTOR, SECTOR, "the VHD's footer")
    if raw[:8] != COOKIE:
        raise Unfit("truncated: the VHD's footer is not at the end")
    fields = _FOOTER.unpack_from(raw)
    if fields[12] != _checksum(raw, 64):
        raise Unfit("damaged: the checksum of the VHD's footer is wrong")
    version, data_offset, size, kind, state = fields[2], fields[3], fields[9], fields[11], fields[14]
    if version >> 16 != 1:
        raise Unfit(f"VHD of version {version >> 16}: only version 1 is known")
    if kind not in {FIXED, DYNAMIC, DIFFERENCING}:
        raise Unfit(f"damaged: a VHD of type {kind}")
    if state:
        raise Unfit("the VHD is of a machine in saved state: its disk is not at rest")
    return Footer(data_offset, size, kind, str(uuid.UUID(bytes=fields[13])))


def read_blocks(content: Content, footer: Footer) -> Blocks:
    """The table of blocks of a dynamic or differencing disk. Raises Unfit."""
    raw = content.read(footer.data_offset, 1024, "the VHD's header")
    cookie, _next, table, _version, entries, block, checksum, parent, _at, name, locators = _HEADER.unpack_from(raw)
    if cookie != SPARSE_COOKIE or checksum != _checksum(raw, 36):
        raise Unfit("damaged: the VHD's header or its checksum is wrong")
    if block < SECTOR or block > MAX_BLOCK or block & (block - 1):
        raise Unfit(f"damaged: VHD blocks of {block} bytes")
    if entries > MAX_ENTRIES or entries * block < footer.size:
        raise Unfit(f"damaged: a VHD with {entries} blocks of {block} bytes for {footer.size} bytes")
    is_child = footer.kind == DIFFERENCING
    if not is_child and (any(name) or any(locators)):
        raise Unfit("the VHD names a parent without being a differencing disk")
    found = integers("I", content.read(table, entries * 4, "the VHD's table of blocks"), "big")
    return Blocks(block, found, str(uuid.UUID(bytes=parent)) if is_child else "")


def _check_blocks(content: Content, blocks: Blocks, footer: Footer) -> None:
    used = [sector for sector in blocks.table[: -(-footer.size // blocks.block)] if sector != UNUSED]
    if used and max(used) * SECTOR + blocks.bitmap + blocks.block > content.size - SECTOR:
        raise Unfit("truncated: the VHD refers to blocks beyond the end of the file")
    if used and min(used) * SECTOR < footer.data_offset + 1024:
        raise Unfit("damaged: a block of the VHD lies in its own header")
    if len(set(used)) != len(used):
        raise Unfit("damaged: two blocks of the VHD are in the same place")


def _checksum(raw: bytes, at: int) -> int:
    """The one's complement of the sum of all bytes but the checksum's own four."""
    return ~(sum(raw) - sum(raw[at : at + 4])) & 0xFFFFFFFF
