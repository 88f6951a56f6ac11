"""What a disk file is and whether it may be taken in, by its own bytes, before any other program opens it.

Everything that a format can do beside being one disk is refused: other programs would follow what a file names, and
that was a hole in whole clouds (CVE-2022-47951, CVE-2024-32498, CVE-2024-40767). Nothing here opens anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engine.inspector.qcow2 import inspect_qcow2
from orchestrator.engine.inspector.reading import Content, Unfit
from orchestrator.engine.inspector.vhd import COOKIE, inspect_vhd
from orchestrator.engine.inspector.vhdx import inspect_vhdx
from orchestrator.engine.inspector.vmdk import TEXT_MAGIC, inspect_vmdk
from orchestrator.model.image import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SECTOR = 512
COMPRESSIONS: Mapping[str, bytes] = {"gz": b"\x1f\x8b\x08", "xz": b"\xfd7zXZ\0", "zst": b"\x28\xb5\x2f\xfd"}
FORMATS: Mapping[str, Callable[[Content], Verdict]] = {
    "qcow2": inspect_qcow2, "vhd": inspect_vhd, "vhdx": inspect_vhdx, "vmdk": inspect_vmdk,
}  # fmt: skip
# What begins at which place in a file. Only those in FORMATS and COMPRESSIONS are taken; the rest is named.
_MAGICS: tuple[tuple[str, int, bytes], ...] = (
    ("qcow2", 0, b"QFI\xfb"), ("vhdx", 0, b"vhdxfile"), ("vmdk", 0, b"KDMV"), ("vhd", 0, COOKIE),
    *((name, 0, magic) for name, magic in COMPRESSIONS.items()),
    ("VMDK descriptor (its disk is in other files)", 0, TEXT_MAGIC), ("VMDK of ESX (COWD)", 0, b"COWD"),
    ("VDI", 0x40, b"\x7f\x10\xda\xbe"), ("QED", 0, b"QED\0"), ("LUKS (encrypted)", 0, b"LUKS\xba\xbe"),
    ("Parallels disk", 0, b"WithoutFreeSpace"), ("Parallels disk", 0, b"WithouFreSpacExt"),
    ("Bochs disk", 0, b"Bochs Virtual HD Image"), ("cloop disk", 0, b"#!/bin/sh\n#V2.0 Format"),
    ("bz2", 0, b"BZh"), ("zip archive", 0, b"PK\x03\x04"), ("7z archive", 0, b"7z\xbc\xaf\x27\x1c"),
    ("lz4", 0, b"\x04\x22\x4d\x18"), ("tar archive (an OVA?)", 257, b"ustar"), ("WIM", 0, b"MSWIM\0\0\0"),
    ("Xen saved domain", 0, b"LibvirtQemudSave"), ("blkdebug or blkverify script", 0, b"[inject-error]"),
)  # fmt: skip
_TRAILERS: tuple[tuple[str, bytes], ...] = (("vhd", COOKIE), ("DMG", b"koly"))
ISO, TABLE = "ISO 9660", "a partition table"


def inspect(content: Content, claimed: str = "") -> Verdict:
    """The verdict on a file. ``claimed``: the format that it is said to have, "" if nobody said."""
    found = tuple(sorted(signatures(content)))
    if content.size < SECTOR and not COMPRESSIONS.keys() & set(found):
        return Verdict("", why="the file is empty" if not content.size else "the file is too short for a disk")
    if len(found) > 1:
        return Verdict("", why=f"it is several things at once: {', '.join(found)}")
    kind = found[0] if found else "raw"
    if claimed and claimed != kind:
        return Verdict(kind, why=f"it is said to be {claimed}, but it is {kind}")
    if kind == "raw":
        return _raw(content, claimed)
    return _judged(content, kind)


def signatures(content: Content) -> frozenset[str]:
    """All formats, apart from raw, whose mark the file carries; more than one is a file with two faces.

    A fixed VHD has the disk itself in front of its footer, so that marks of a disk's content say nothing against it.
    """
    heads = {name for name, offset, magic in _MAGICS if content.peek(offset, len(magic)) == magic}
    heads |= {name for name, magic in _TRAILERS if content.peek(content.size - SECTOR, len(magic)) == magic}
    if heads and heads != {"vhd"} and not heads & COMPRESSIONS.keys():
        heads |= contents(content)
    if content.peek(0, 8) == COOKIE:
        heads |= contents(content)
    return frozenset(heads)


def contents(content: Content) -> frozenset[str]:
    """What a disk's own bytes show: a partition table (MBR or GPT), ISO 9660."""
    has_table = content.peek(510, 2) == b"\x55\xaa" or content.peek(512, 8) == b"EFI PART"
    is_iso = any(content.peek(0x8001 + 2048 * number, 5) == b"CD001" for number in range(2))
    return frozenset({name for name, is_there in ((TABLE, has_table), (ISO, is_iso)) if is_there})


def _raw(content: Content, claimed: str) -> Verdict:
    if contents(content) == {ISO, TABLE} and not claimed:
        return Verdict("raw", why="it is an ISO 9660 and a partitioned disk at once; `--format raw` takes it as a disk")
    try:
        return Verdict("raw", content.check_virtual(-(-content.size // SECTOR) * SECTOR))
    except Unfit as error:
        return Verdict("raw", why=str(error))


def _judged(content: Content, kind: str) -> Verdict:
    if kind in COMPRESSIONS:
        return Verdict(kind)
    if kind not in FORMATS:
        return Verdict(kind, why=f"{kind}: only raw, {', '.join(FORMATS)} are taken, also as {', '.join(COMPRESSIONS)}")
    try:
        return FORMATS[kind](content)
    except Unfit as error:
        return Verdict(kind, why=str(error))
