"""What a disk's partition table tells of the machine that it is for: a guess, which `--os` and `--firmware` overrule.

MBR: types at 446 (16 bytes each). GPT: its header at sector 1, entries at sector 2 with a type GUID each (UEFI 2.10,
chapter 5).
"""

from __future__ import annotations

import uuid

from orchestrator.model.image import Traits

SECTOR, ENTRY, ENTRIES = 512, 128, 128
BYTES_LOOKED_AT = 2 * SECTOR + ENTRY * ENTRIES
ESP, BIOS_BOOT = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "21686148-6449-6e6f-744e-656564454649"
WINDOWS = frozenset({"e3c9e316-0b5c-4db8-817d-f92df00215ae", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"})
MBR_WINDOWS, MBR_LINUX, MBR_BSD, MBR_PROTECTIVE = 0x07, frozenset({0x82, 0x83, 0x8E}), frozenset({0xA5, 0xA6}), 0xEE


def guess_traits(start: bytes) -> Traits:
    """``start``: the disk's first BYTES_LOOKED_AT bytes. What cannot be told stays ""."""
    if start[510:512] != b"\x55\xaa":
        return Traits()
    types = {start[at] for at in range(446 + 4, 510, 16)} - {0}
    if MBR_PROTECTIVE in types and start[SECTOR : SECTOR + 8] == b"EFI PART":
        return _of_gpt(start)
    if MBR_WINDOWS in types:
        return Traits(os="windows", firmware="bios", virtio=False)
    family = "linux" if types & MBR_LINUX else "bsd" if types & MBR_BSD else ""
    return Traits(os=family, firmware="bios" if types else "")


def _of_gpt(start: bytes) -> Traits:
    """An EFI system partition without a place for a BIOS boot loader boots by UEFI alone."""
    offsets = range(2 * SECTOR, min(len(start), BYTES_LOOKED_AT) - 15, ENTRY)
    types = {str(uuid.UUID(bytes_le=start[at : at + 16])) for at in offsets}
    firmware = "uefi" if ESP in types and BIOS_BOOT not in types else "bios"
    if types & WINDOWS:
        return Traits(os="windows", firmware=firmware, virtio=False)
    return Traits(os="linux", firmware=firmware)
