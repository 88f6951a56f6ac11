"""qcow2, versions 2 and 3 (QEMU, docs/interop/qcow2: all fields big-endian, offsets in bytes).

What it may not have: any other file (backing file, external data file), encryption, bits that nobody here knows, and
tables that lie outside of it: QEMU reads zeros beyond the end of a file, so that a truncated disk would pass unseen.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine.inspector.reading import Unfit, integers
from orchestrator.model.image import Verdict
from orchestrator.model.text import line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.engine.inspector.reading import Content

_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")  # 72 bytes, the whole of a version 2 header
_FEATURES = struct.Struct(">QQQII")  # what version 3 has after it
_OFFSET = 0x00FFFFFFFFFFFE00  # bits 9 to 55 of an L1 or L2 entry: a host offset
_COMPRESSED = 1 << 62
DIRTY, CORRUPT, DATA_FILE, COMPRESSION, EXTENDED_L2 = (1 << bit for bit in range(5))
BACKING_FORMAT, EXTERNAL_DATA, ENCRYPTION = 0xE2792ACA, 0x44415441, 0x0537BE77
MAX_L1_BYTES = 32 * 1024**2  # QEMU's own limits: block/qcow2.h
MAX_REFCOUNT_TABLE_BYTES = 8 * 1024**2
MAX_SNAPSHOTS = 65536
MAX_SNAPSHOT_TABLE_BYTES = 16 * 1024**2
MAX_BACKING_NAME = 1023
L2_BYTES_LOOKED_AT = 32 * 1024**2  # tables of a fuller disk than this covers are left to qemu-img


@dataclass(frozen=True, slots=True)
class _Header:
    magic: bytes
    version: int
    backing_offset: int
    backing_size: int
    cluster_bits: int
    size: int
    crypt: int
    l1_entries: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = 72

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits


def inspect_qcow2(content: Content) -> Verdict:
    """The verdict on a file that begins with the magic of qcow2. Raises Unfit."""
    header = _header(content)
    _check_layout(header)
    _check_features(content, header)
    _check_extensions(content, header)
    _check_other_files(content, header)
    virtual_bytes = content.check_virtual(header.size)
    _check_tables(content, header)
    _check_snapshots(content, header)
    return Verdict("qcow2", virtual_bytes)


def _header(content: Content) -> _Header:
    fixed = _HEADER.unpack(content.read(0, _HEADER.size, "the qcow2 header"))
    version = fixed[1]
    if version not in {2, 3}:
        raise Unfit(f"qcow version {version}: only qcow2 of versions 2 and 3 is taken")
    if version == 2:
        return _Header(*fixed)
    return _Header(*fixed, *_FEATURES.unpack(content.read(72, _FEATURES.size, "the qcow2 header")))


def _check_layout(header: _Header) -> None:
    if not 9 <= header.cluster_bits <= 21:
        raise Unfit(f"damaged: clusters of 2^{header.cluster_bits} bytes; qcow2 has 2^9 to 2^21")
    if header.version == 3 and not (104 <= header.length <= header.cluster and header.length % 8 == 0):
        raise Unfit(f"damaged: a header length of {header.length} bytes")
    if header.refcount_order > 6:
        raise Unfit(f"damaged: reference counts of 2^{header.refcount_order} bits")
    if header.crypt:
        raise Unfit(f"it is encrypted (qcow2 method {header.crypt})")


def _check_features(content: Content, header: _Header) -> None:
    bits = header.incompatible
    if bits & DATA_FILE:
        raise Unfit("it has its data in another file (qcow2 external data file)")
    if bits & CORRUPT:
        raise Unfit("it is marked corrupt; `qemu-img check -r all` on a copy may mend it")
    if bits & DIRTY:
        raise Unfit("it is marked dirty: somebody has it open, or was killed; `qemu-img check -r all` mends it")
    unknown = bits & ~(COMPRESSION | EXTENDED_L2)
    if unknown:
        raise Unfit(f"it needs features that are not known here (incompatible bits {unknown:#x})")
    if bits & EXTENDED_L2 and header.cluster_bits < 14:
        raise Unfit("damaged: extended L2 entries with clusters under 16 KiB")
    kind = content.read(104, 1, "the compression type")[0] if header.length > 104 else 0
    if kind > 1 or bool(kind) != bool(bits & COMPRESSION):
        raise Unfit(f"damaged: compression type {kind} with incompatible bits {bits:#x}")


def _check_extensions(content: Content, header: _Header) -> None:
    """Header extensions: type, length, data padded to 8 bytes, until type 0, before the first cluster's end."""
    end = min(header.backing_offset or header.cluster, header.cluster, content.size)
    at = header.length
    while at + 8 <= end:
        kind, length = struct.unpack(">II", content.read(at, 8, "a header extension"))
        if kind == 0:
            return
        if kind == EXTERNAL_DATA:
            raise Unfit("it names another file for its data (qcow2 external data file)")
        if kind == ENCRYPTION:
            raise Unfit("it is encrypted (qcow2 with LUKS)")
        at += 8 + (length + 7) // 8 * 8
        if at > end:
            raise Unfit("damaged: a header extension reaches beyond the header's cluster")


def _check_other_files(content: Content, header: _Header) -> None:
    if not header.backing_offset and not header.backing_size:
        return
    said = content.peek(header.backing_offset, min(header.backing_size, MAX_BACKING_NAME))
    name = line(said.decode(errors="replace"))
    raise Unfit(f"it stands on another file (backing file {name!r}); `qemu-img convert` makes it one whole file")


def _check_tables(content: Content, header: _Header) -> None:
    entry = 16 if header.incompatible & EXTENDED_L2 else 8
    covered = header.cluster * (header.cluster // entry)
    if header.l1_entries * 8 > MAX_L1_BYTES or header.l1_entries < -(-header.size // covered):
        raise Unfit(f"damaged: an L1 table of {header.l1_entries} entries for a disk of {header.size} bytes")
    _check_offset(content, header, header.l1_offset, header.l1_entries * 8, "the L1 table")
    refcounts = header.refcount_clusters * header.cluster
    if not 0 < refcounts <= max(MAX_REFCOUNT_TABLE_BYTES, header.cluster):
        raise Unfit(f"damaged: a reference count table of {refcounts} bytes")
    _check_offset(content, header, header.refcount_offset, refcounts, "the reference count table")
    for table in _l2_tables(content, header, header.l1_offset, header.l1_entries):
        _check_l2(content, header, table, entry // 8)


def _check_offset(content: Content, header: _Header, offset: int, length: int, what: str) -> None:
    if length and (offset < header.cluster or offset % header.cluster):
        raise Unfit(f"damaged: {what} at {offset:#x}")
    if offset + length > content.size:
        raise Unfit(f"truncated or damaged: {what} lies beyond the end of the file")


def _l2_tables(content: Content, header: _Header, l1_offset: int, l1_entries: int) -> Iterator[int]:
    """Offsets of the L2 tables, as many as are looked at."""
    l1 = integers("Q", content.read(l1_offset, l1_entries * 8, "the L1 table"), "big")
    offsets = (raw & _OFFSET for raw in l1 if raw & _OFFSET)
    for _number, offset in zip(range(L2_BYTES_LOOKED_AT // header.cluster), offsets, strict=False):
        _check_offset(content, header, offset, header.cluster, "an L2 table")
        yield offset


def _check_l2(content: Content, header: _Header, offset: int, step: int) -> None:
    """Every cluster of an L2 table begins inside the file; the last one may be cut (QEMU pads it with zeros)."""
    entries = integers("Q", content.read(offset, header.cluster, "an L2 table"), "big")[::step]
    compressed = (1 << (62 - (header.cluster_bits - 8))) - 1
    last = max((raw & compressed if raw & _COMPRESSED else raw & _OFFSET) for raw in entries)
    if last >= content.size:
        raise Unfit("truncated: it refers to data beyond the end of the file")


def _check_snapshots(content: Content, header: _Header) -> None:
    """Internal snapshots: a table of entries of 40 bytes and more, each with an L1 table of its own."""
    if header.snapshots > MAX_SNAPSHOTS:
        raise Unfit(f"damaged: {header.snapshots} internal snapshots")
    at = header.snapshots_offset
    for _number in range(header.snapshots):
        entry = content.read(at, 40, "the table of snapshots")
        l1_offset, l1_entries, id_length, name_length = struct.unpack_from(">QIHH", entry)
        (extra,) = struct.unpack_from(">I", entry, 36)
        if l1_entries * 8 > MAX_L1_BYTES or extra > 1024:
            raise Unfit("damaged: the table of snapshots")
        _check_offset(content, header, l1_offset, l1_entries * 8, "a snapshot's L1 table")
        at += (40 + extra + id_length + name_length + 7) // 8 * 8
        if at - header.snapshots_offset > MAX_SNAPSHOT_TABLE_BYTES:
            raise Unfit("damaged: the table of snapshots is too long")
