"""VMDK, hosted sparse extents with their descriptor inside (VMware, "Virtual Disk Format 5.0"; little-endian).

Only the two kinds that are one file are taken: monolithicSparse and streamOptimized. A descriptor can name any file
as an extent (CVE-2022-47951), so it has to name one sparse extent, without a path, as long as this disk is.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.inspector.reading import Unfit, integers
from orchestrator.model.image import Verdict
from orchestrator.model.text import line

if TYPE_CHECKING:
    from orchestrator.engine.inspector.reading import Content

MAGIC, TEXT_MAGIC = b"KDMV", b"# Disk DescriptorFile"
SECTOR = 512
AT_END = 0xFFFFFFFFFFFFFFFF
COMPRESSED = 1 << 16
MAX_DESCRIPTOR = 64 * 1024
TABLE_ENTRIES = 512
TABLES_LOOKED_AT = 4096  # 128 GiB of disk in grains of 64 KiB; what a fuller one has is left to qemu-img
KINDS = ("monolithicSparse", "streamOptimized")
_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
_EXTENT = re.compile(r"\s*(RW|RDONLY|NOACCESS)\b", re.IGNORECASE)
_SPARSE = re.compile(r'RW\s+(\d+)\s+SPARSE\s+"([^"/\\:]+)"\s*')
_SETTING = re.compile(r"\s*([A-Za-z]+)\s*=\s*\"?([^\"]*)\"?\s*")


@dataclass(frozen=True, slots=True)
class _Header:
    magic: bytes
    version: int
    flags: int
    capacity: int
    grain: int
    descriptor: int
    descriptor_sectors: int
    table_entries: int
    redundant: int
    directory: int
    overhead: int
    unclean: int
    newlines: bytes
    compression: int


def inspect_vmdk(content: Content) -> Verdict:
    """The verdict on a file that begins with the magic of a sparse extent. Raises Unfit."""
    header = _header(content, 0)
    if header.directory == AT_END:
        tail = _header(content, content.size - 2 * SECTOR)
        if (tail.capacity, tail.grain, tail.descriptor) != (header.capacity, header.grain, header.descriptor):
            raise Unfit("damaged: the VMDK's header and footer differ")
        directory = tail.directory
    else:
        directory = header.directory
    _check_header(header)
    virtual_bytes = content.check_virtual(header.capacity * SECTOR)
    _check_descriptor(_descriptor(content, header), header)
    _check_tables(content, header, directory)
    return Verdict("vmdk", virtual_bytes)


def _header(content: Content, offset: int) -> _Header:
    header = _Header(*_HEADER.unpack(content.read(offset, SECTOR, "the VMDK's header or footer")[: _HEADER.size]))
    if header.magic != MAGIC:
        raise Unfit("truncated: the VMDK's footer is not at the end")
    return header


def _check_header(header: _Header) -> None:
    if header.version not in {1, 2, 3}:
        raise Unfit(f"a VMDK of version {header.version}: 1 to 3 are known")
    if header.newlines != b"\n \r\n":
        raise Unfit("damaged: the VMDK went through something that changes line ends")
    if not 8 <= header.grain <= 2048 or header.grain & (header.grain - 1) or header.table_entries != TABLE_ENTRIES:
        raise Unfit(f"damaged: VMDK grains of {header.grain} sectors, tables of {header.table_entries}")
    if header.compression > 1 or bool(header.compression) != bool(header.flags & COMPRESSED):
        raise Unfit(f"damaged: VMDK compression {header.compression} with flags {header.flags:#x}")


def _descriptor(content: Content, header: _Header) -> str:
    length = header.descriptor_sectors * SECTOR
    if not header.descriptor or not length:
        raise Unfit("the VMDK has no descriptor inside: it is a part of a disk that another file describes")
    if length > MAX_DESCRIPTOR:
        raise Unfit(f"the VMDK's descriptor is {length} bytes long, more than the limit of {MAX_DESCRIPTOR}")
    raw = content.read(header.descriptor * SECTOR, length, "the VMDK's descriptor")
    return raw.partition(b"\0")[0].decode("utf-8", "replace")


def _check_descriptor(text: str, header: _Header) -> None:
    matches = [found for found in map(_SETTING.fullmatch, text.splitlines()) if found]
    names = [found[1].lower() for found in matches]
    settings = dict(zip(names, (found[2] for found in matches), strict=True))
    if settings.get("createtype") not in KINDS or names.count("createtype") != 1:
        raise Unfit(
            f"a VMDK of type {line(settings.get('createtype', '')) or '?'}: only {' and '.join(KINDS)} are taken"
        )
    if "parentfilenamehint" in settings or settings.get("parentcid", "").lower() != "ffffffff":
        raise Unfit("it stands on another file (VMDK with a parent)")
    if "changetrackpath" in settings:
        raise Unfit("it refers to another file (VMDK with change tracking)")
    extents = [row for row in text.splitlines() if _EXTENT.match(row)]
    found = _SPARSE.fullmatch(extents[0]) if len(extents) == 1 else None
    if found is None or int(found[1][:20]) != header.capacity:
        raise Unfit(f"it refers to other files (VMDK extents: {line('; '.join(extents)) or 'none'})")


def _check_tables(content: Content, header: _Header, directory: int) -> None:
    grains = -(-header.capacity // header.grain)
    tables = -(-grains // TABLE_ENTRIES)
    found = integers("I", content.read(directory * SECTOR, tables * 4, "the VMDK's grain directory"), "little")
    used = [sector for sector in found if sector > 1]
    for sector in used[:TABLES_LOOKED_AT]:
        raw = content.read(sector * SECTOR, TABLE_ENTRIES * 4, "a VMDK grain table")
        _check_last_grain(content, header, max(integers("I", raw, "little")) * SECTOR)


def _check_last_grain(content: Content, header: _Header, last: int) -> None:
    """A grain is whole, or compressed after its number and its length (8 and 4 bytes)."""
    length = header.grain * SECTOR
    if header.flags & COMPRESSED and last:
        length = 12 + int.from_bytes(content.peek(last + 8, 4), "little")
    if last and last + length > content.size:
        raise Unfit("truncated: the VMDK refers to grains beyond the end of the file")
