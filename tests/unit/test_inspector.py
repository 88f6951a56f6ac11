"""The inspector's own parts, without any program: checksums, signatures, traits."""

import struct
import uuid

from orchestrator.engine.inspector import contents, inspect, signatures
from orchestrator.engine.inspector.reading import Content, integers
from orchestrator.engine.inspector.traits import BIOS_BOOT, ESP, guess_traits
from orchestrator.engine.inspector.vhdx import crc32c
from orchestrator.model.image import Traits


def content(data):
    return Content(len(data), lambda at, length: data[at : at + length])


def test_crc32c_of_the_check_value():
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720


def test_tables_are_read_in_either_order():
    assert list(integers("I", b"\0\0\0\1", "big")) == [1]
    assert list(integers("I", b"\1\0\0\0", "little")) == [1]


def test_a_raw_disk_rounds_up_to_a_sector():
    assert inspect(content(b"x" * 700)).virtual_bytes == 1024


def test_signatures_at_the_start_and_at_the_end():
    assert signatures(content(b"QFI\xfb".ljust(2048, b"\0"))) == {"qcow2"}
    assert signatures(content(b"conectix".rjust(1024 - 504, b"\0").ljust(1024, b"\0"))) == {"vhd"}
    assert signatures(content(b"KDMV".ljust(1536, b"\0") + b"conectix".ljust(512, b"\0"))) == {"vmdk", "vhd"}


def test_an_iso_alone_is_a_raw_disk_and_a_hybrid_only_if_that_is_said():
    iso = bytearray(64 * 1024)
    iso[0x8001:0x8006] = b"CD001"
    assert inspect(content(bytes(iso))).why == ""
    iso[510:512] = b"\x55\xaa"
    assert len(contents(content(bytes(iso)))) == 2
    assert "--format raw" in inspect(content(bytes(iso))).why
    assert inspect(content(bytes(iso)), "raw").why == ""


def mbr(kind):
    return (b"\0" * 450 + bytes([kind])).ljust(510, b"\0") + b"\x55\xaa"


def gpt(*types):
    entries = b"".join(uuid.UUID(kind).bytes_le.ljust(128, b"\0") for kind in types)
    return mbr(0xEE) + b"EFI PART".ljust(512, b"\0") + entries.ljust(128 * 128, b"\0")


def test_traits_are_guessed_from_the_partition_table():
    linux, windows = "0fc63daf-8483-4772-8e79-3d69d8477de4", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
    assert guess_traits(b"\0" * 20000) == Traits()
    assert guess_traits(mbr(0x83)) == Traits(os="linux", firmware="bios")
    assert guess_traits(mbr(0x07)) == Traits(os="windows", firmware="bios", virtio=False)
    assert guess_traits(gpt(ESP, linux)) == Traits(os="linux", firmware="uefi")
    assert guess_traits(gpt(BIOS_BOOT, ESP, linux)) == Traits(os="linux", firmware="bios")
    assert guess_traits(gpt(ESP, windows)) == Traits(os="windows", firmware="uefi", virtio=False)


def test_a_length_beyond_any_sense_is_not_read():
    header = bytearray(512)
    struct.pack_into(">4sI", header, 0, b"QFI\xfb", 2)
    struct.pack_into(">IQ", header, 20, 16, 1 << 30)
    struct.pack_into(">IQQI", header, 36, 4, 65536, 65536, 0x10000000)
    assert "beyond the end" in inspect(content(bytes(header))).why
