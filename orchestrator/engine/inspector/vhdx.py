"""VHDX, the disks of Hyper-V since 2012 (Microsoft, [MS-VHDX]; little-endian, checksums are CRC-32C).

An identifier at 0, two headers at 64 and 128 KiB of which the newer valid one counts, two copies of a table of
regions at 192 and 256 KiB; the regions are the table of blocks (BAT) and the metadata.
"""

from __future__ import annotations

import functools
import struct
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.inspector.reading import Unfit, integers
from orchestrator.model.image import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.engine.inspector.reading import Content

MAGIC = b"vhdxfile"
KIB, MIB = 1024, 1024**2
BAT, METADATA = "2dc27766-f623-4200-9d64-115e9bfd4a08", "8b7ca206-4790-4b9a-b8fe-575f050f886e"
PARAMETERS, SIZE = "caa16737-fa36-4d43-b3b6-33f0aa44e76b", "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
SECTOR, PHYSICAL = "8141bf1d-a96f-4709-ba47-f233a8faab5f", "cda348c7-445d-4471-9cc9-e9885251c556"
PAGE83, PARENT = "beca12ab-b2e6-4523-93ef-c309e000c746", "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"
KNOWN = frozenset({PARAMETERS, SIZE, SECTOR, PHYSICAL, PAGE83, PARENT})
MAX_REGIONS, MAX_ITEMS = 2047, 2047
MAX_METADATA = 16 * MIB
REQUIRED, HAS_PARENT = 0b100, 0b10
PRESENT, PARTIAL = 6, 7


@dataclass(frozen=True, slots=True)
class _Region:
    offset: int
    length: int


def inspect_vhdx(content: Content) -> Verdict:
    """The verdict on a file that begins with the identifier of VHDX. Raises Unfit."""
    _check_header(content)
    regions = _regions(content)
    items = _items(content, regions[METADATA])
    if PARENT in items:
        raise Unfit("it stands on another file (VHDX with a parent locator)")
    block, flags = struct.unpack("<II", _item(content, items, PARAMETERS, 8))
    if flags & HAS_PARENT:
        raise Unfit("it stands on another file (differencing VHDX)")
    if not MIB <= block <= 256 * MIB or block & (block - 1):
        raise Unfit(f"damaged: VHDX blocks of {block} bytes")
    (sector,) = struct.unpack("<I", _item(content, items, SECTOR, 4))
    if sector != 512:
        raise Unfit(f"a VHDX with sectors of {sector} bytes: only 512 can be read here")
    (size,) = struct.unpack("<Q", _item(content, items, SIZE, 8))
    virtual_bytes = content.check_virtual(size)
    _check_blocks(content, regions[BAT], block, virtual_bytes)
    return Verdict("vhdx", virtual_bytes)


def _check_header(content: Content) -> None:
    """The newer of the two headers whose checksum is right; with a log in use the disk is not whole without it."""
    found = []
    for offset in (64 * KIB, 128 * KIB):
        raw = content.read(offset, 4096, "a VHDX header")
        if raw[:4] == b"head" and _is_sound(raw):
            found.append((int.from_bytes(raw[8:16], "little"), raw))
    if not found:
        raise Unfit("damaged: neither VHDX header has a right checksum")
    raw = max(found)[1]
    if any(raw[48:64]):
        raise Unfit("the VHDX was not closed properly: its log has to be replayed by what wrote it")
    if int.from_bytes(raw[66:68], "little") != 1:
        raise Unfit("a VHDX of an unknown version")


def _regions(content: Content) -> Mapping[str, _Region]:
    raw = next((t for t in (content.read(o * KIB, 64 * KIB, "the regions") for o in (192, 256)) if _is_table(t)), None)
    if raw is None:
        raise Unfit("damaged: neither VHDX table of regions has a right checksum")
    found = {}
    for number in range(int.from_bytes(raw[8:12], "little")):
        guid, offset, length, required = struct.unpack_from("<16sQII", raw, 16 + 32 * number)
        name = str(uuid.UUID(bytes_le=guid))
        if name not in {BAT, METADATA}:
            if required & 1:
                raise Unfit(f"it needs a VHDX region that is not known here ({name})")
            continue
        if name in found or offset < MIB or offset + length > content.size:
            raise Unfit("truncated or damaged: a VHDX region is not in the file, or there twice")
        found[name] = _Region(offset, length)
    if set(found) != {BAT, METADATA}:
        raise Unfit("damaged: a VHDX without its table of blocks or its metadata")
    return found


def _is_table(raw: bytes) -> bool:
    return raw[:4] == b"regi" and int.from_bytes(raw[8:12], "little") <= MAX_REGIONS and _is_sound(raw)


def _items(content: Content, region: _Region) -> Mapping[str, _Region]:
    """The metadata's items; those that are not known and not needed are left out."""
    table = content.read(region.offset, 64 * KIB, "the VHDX metadata")
    count = int.from_bytes(table[10:12], "little")
    if table[:8] != b"metadata" or count > MAX_ITEMS or region.length > MAX_METADATA:
        raise Unfit("damaged: the VHDX metadata")
    found = {}
    for number in range(count):
        guid, offset, length, flags = struct.unpack_from("<16sIII", table, 32 + 32 * number)
        name = str(uuid.UUID(bytes_le=guid))
        if name not in KNOWN and flags & REQUIRED:
            raise Unfit(f"it needs VHDX metadata that is not known here ({name})")
        if name in found or (length and offset + length > region.length):
            raise Unfit("damaged: an item of the VHDX metadata is outside of it, or there twice")
        found[name] = _Region(region.offset + offset, length)
    return found


def _item(content: Content, items: Mapping[str, _Region], name: str, length: int) -> bytes:
    if name not in items or items[name].length < length:
        raise Unfit("damaged: the VHDX metadata lack an item")
    return content.read(items[name].offset, length, "the VHDX metadata")


def _check_blocks(content: Content, region: _Region, block: int, virtual_bytes: int) -> None:
    """BAT entries: the state in bits 0 to 2, the offset in MiB from bit 20; a bitmap entry after each chunk."""
    ratio = 2**23 * 512 // block
    blocks = -(-virtual_bytes // block)
    entries = blocks + (blocks - 1) // ratio
    if entries * 8 > region.length:
        raise Unfit("damaged: the VHDX table of blocks is too short for the disk")
    table = integers("Q", content.read(region.offset, entries * 8, "the VHDX table of blocks"), "little")
    payload = [raw for number, raw in enumerate(table) if number % (ratio + 1) != ratio]
    if any(raw & 7 == PARTIAL for raw in payload):
        raise Unfit("it stands on another file (differencing VHDX)")
    offsets = [raw >> 20 << 20 for raw in payload if raw & 7 == PRESENT]
    if offsets and max(offsets) + block > content.size:
        raise Unfit("truncated: the VHDX refers to blocks beyond the end of the file")
    if offsets and (min(offsets) < MIB or len(set(offsets)) != len(offsets)):
        raise Unfit("damaged: a block of the VHDX is in the header, or two are in the same place")


def _is_sound(raw: bytes) -> bool:
    return int.from_bytes(raw[4:8], "little") == crc32c(raw[:4] + bytes(4) + raw[8:])


def crc32c(data: bytes) -> int:
    """CRC-32 with Castagnoli's polynomial (RFC 3720, appendix B.4)."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


@functools.cache
def _crc_table() -> tuple[int, ...]:
    return tuple(functools.reduce(lambda c, _bit: (c >> 1) ^ (0x82F63B78 * (c & 1)), range(8), n) for n in range(256))
