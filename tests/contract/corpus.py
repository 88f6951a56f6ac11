"""Disk files for the image repository: good ones in every accepted format, and hostile or damaged ones.

They are made by public tools and by hand-written headers. Each hostile file that names another names ``secret``.
"""

import gzip
import lzma
import os
import shutil
import stat
import struct
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from orchestrator.engine.inspector.vhdx import crc32c

MIB = 1024**2
SIZE = 3 * MIB
VMDK_HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")


@dataclass(frozen=True)
class Good:
    path: Path
    format: str
    virtual_bytes: int = SIZE


@dataclass(frozen=True)
class Bad:
    """``why``: a part of the reason that has to be given. ``claimed``: what ``--format`` says."""

    path: Path
    why: str
    claimed: str = ""


def qemu_img(*args):
    subprocess.run(["qemu-img", *map(str, args)], check=True, capture_output=True)


def disk_bytes(seed=1, size=SIZE):
    """A partitioned disk with some data, mostly empty."""
    table = b"\0" * 446 + b"\x80\0\x01\0\x83\0\0\0\x01\0\0\0\xff\x0f\0\0" + b"\0" * 48 + b"\x55\xaa"
    data = (b"%d: all the world's a disk; " % seed * 20000)[: MIB // 4]
    return (table + data + b"\0" * MIB + data).ljust(size, b"\0")


def convert(raw, to, kind, *options):
    qemu_img("convert", "-f", "raw", "-O", kind, *options, raw, to)
    return to


def good_files(folder):
    """Name → Good: every accepted format, as public tools write it."""
    raw = folder / "plain.raw"
    raw.write_bytes(disk_bytes())

    def made(name, kind, *options):
        return convert(raw, folder / name, kind, *options)

    snapshot = made("snapshot.qcow2", "qcow2")
    qemu_img("snapshot", "-c", "before", snapshot)
    whole = disk_bytes()
    packed = {"disk.raw.gz": gzip.compress(whole, 1), "disk.raw.xz": lzma.compress(whole, preset=0)}
    for name, data in packed.items():
        (folder / name).write_bytes(data)
    subprocess.run(["zstd", "-q", "-f", raw, "-o", folder / "disk.raw.zst"], check=True)
    vhd = made("fixed.vhd", "vpc", "-o", "subformat=fixed,force_size=on")
    (folder / "fixed.vhd.gz").write_bytes(gzip.compress(vhd.read_bytes(), 1))
    paths = {
        "raw": raw,
        "qcow2": made("v3.qcow2", "qcow2"),
        "qcow2-v2": made("v2.qcow2", "qcow2", "-o", "compat=0.10"),
        "qcow2-zlib": made("zlib.qcow2", "qcow2", "-c"),
        "qcow2-zstd": made("zstd.qcow2", "qcow2", "-c", "-o", "compression_type=zstd"),
        "qcow2-small": made("small.qcow2", "qcow2", "-o", "cluster_size=512"),
        "qcow2-extended": made("extended.qcow2", "qcow2", "-o", "extended_l2=on"),
        "qcow2-snapshot": snapshot,
        "vhd-fixed": vhd,
        "vhd-dynamic": made("dynamic.vhd", "vpc", "-o", "subformat=dynamic,force_size=on"),
        "vhdx-dynamic": made("dynamic.vhdx", "vhdx", "-o", "subformat=dynamic"),
        "vhdx-fixed": made("fixed.vhdx", "vhdx", "-o", "subformat=fixed"),
        "vmdk-sparse": made("sparse.vmdk", "vmdk", "-o", "subformat=monolithicSparse"),
        "vmdk-stream": made("stream.vmdk", "vmdk", "-o", "subformat=streamOptimized"),
    }
    paths["vmdk-footer"] = footed_vmdk(paths["vmdk-stream"], folder / "footer.vmdk")
    found = {name: Good(path, name.partition("-")[0]) for name, path in paths.items()}
    for suffix in ("gz", "xz", "zst"):
        found[f"raw.{suffix}"] = Good(folder / f"disk.raw.{suffix}", suffix, 0)
    return {**found, "vhd.gz": Good(folder / "fixed.vhd.gz", "gz", 0)}


def footed_vmdk(stream, to):
    """A streamOptimized VMDK as VMware streams it: where the grain directory is stands in a footer, at the end."""
    data = stream.read_bytes()
    header = list(VMDK_HEADER.unpack_from(data))
    footer = VMDK_HEADER.pack(*header).ljust(512, b"\0")
    header[9] = 2**64 - 1
    marker = struct.pack("<QII", 1, 0, 3).ljust(512, b"\0")
    to.write_bytes(VMDK_HEADER.pack(*header).ljust(512, b"\0") + data[512:] + marker + footer + bytes(512))
    return to


def patched(source, to, *changes):
    """A copy with some bytes replaced: pairs of an offset (from the end if negative) and bytes."""
    data = bytearray(source.read_bytes())
    for offset, new in changes:
        at = offset if offset >= 0 else len(data) + offset
        data[at : at + len(new)] = new
    to.write_bytes(data)
    return to


def cut(source, to, length):
    to.write_bytes(source.read_bytes()[:length])
    return to


def big(number, width=8):
    return number.to_bytes(width, "big")


def hostile_files(folder, good, secret):
    """Name → Bad. ``good``: what good_files gave."""
    (folder / "bad").mkdir(exist_ok=True)
    makers = (_qcow2_files, _vhd_files, _vhdx_files, _vmdk_files, _strange_files)
    return {name: bad for maker in makers for name, bad in maker(folder / "bad", good, str(secret)).items()}


def _qcow2_files(to, good, secret):
    v3, v2 = good["qcow2"].path, good["qcow2-v2"].path

    def edit(name, *changes):
        return patched(v3, to / f"{name}.qcow2", *changes)

    name = secret.encode()
    with_data = to / "data-file.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", f"data_file={to / 'outside.raw'},data_file_raw=on", with_data, "2M")
    extension = big(0x44415441, 4) + big(len(name), 4) + name.ljust(-(-len(name) // 8) * 8, b"\0") + bytes(8)
    url = b'json:{"driver":"nbd","host":"198.51.100.1"}'
    return {
        "qcow2-backing": Bad(edit("backing", (8, big(600)), (16, big(len(name), 4)), (600, name)), "backing file"),
        "qcow2-backing-url": Bad(edit("url", (8, big(600)), (16, big(len(url), 4)), (600, url)), "backing file"),
        "qcow2-backing-v2": Bad(
            patched(v2, to / "b2.qcow2", (8, big(600)), (16, big(len(name), 4)), (600, name)), "backing file"
        ),
        "qcow2-backing-beyond": Bad(edit("far", (8, big(2**40)), (16, big(20, 4))), "backing file"),
        "qcow2-data-file": Bad(with_data, "external data file"),
        "qcow2-data-bit": Bad(edit("data-bit", (72, big(4))), "external data file"),
        "qcow2-data-name": Bad(edit("data-name", (104 + 8, extension)), "external data file"),
        "qcow2-unknown-bit": Bad(edit("unknown", (72, big(1 << 40))), "features that are not known"),
        "qcow2-dirty": Bad(edit("dirty", (72, big(1))), "dirty"),
        "qcow2-corrupt": Bad(edit("corrupt", (72, big(2))), "corrupt"),
        "qcow2-aes": Bad(edit("aes", (32, big(1, 4))), "encrypted"),
        "qcow2-luks": Bad(edit("luks", (32, big(2, 4))), "encrypted"),
        "qcow2-huge": Bad(edit("huge", (24, big(2**42))), "beyond the limit"),
        "qcow2-nothing": Bad(edit("nothing", (24, big(0))), "empty"),
        "qcow2-l1-long": Bad(edit("l1-long", (36, big(0x7FFFFFFF, 4))), "L1 table"),
        "qcow2-l1-short": Bad(edit("l1-short", (24, big(2**40))), "L1 table"),
        "qcow2-l1-beyond": Bad(edit("l1-beyond", (40, big(1 << 40))), "beyond the end"),
        "qcow2-l1-in-header": Bad(edit("l1-header", (40, big(0))), "L1 table"),
        "qcow2-clusters": Bad(edit("clusters", (20, big(40, 4))), "clusters of"),
        "qcow2-header-long": Bad(edit("length", (100, big(2**31, 4))), "header length"),
        "qcow2-extension-long": Bad(edit("extension", (112, big(7, 4) + big(0xFFFFFFF0, 4))), "header extension"),
        "qcow2-compression": Bad(edit("compression", (72, big(8)), (104, b"\x07")), "compression type"),
        "qcow2-snapshots": Bad(edit("snapshots", (60, big(2**31, 4))), "snapshots"),
        "qcow2-snapshots-beyond": Bad(edit("snapshots2", (60, big(5, 4)), (64, big(1 << 44))), "snapshots"),
        "qcow2-cut": Bad(cut(v3, to / "cut.qcow2", v3.stat().st_size // 2), "truncated"),
        "qcow2-cut-in-header": Bad(cut(v3, to / "cut2.qcow2", 4096), "truncated"),
        "qcow1": Bad(edit("one", (4, big(1, 4))), "version 1"),
        "qcow2-and-partitions": Bad(edit("mbr", (510, b"\x55\xaa")), "several things"),
        "qcow2-and-iso": Bad(edit("iso", (0x8001, b"CD001")), "several things"),
        "qcow2-and-vhd": Bad(edit("vhd", (-512, good["vhd-fixed"].path.read_bytes()[-512:])), "several things"),
        "qcow2-as-raw": Bad(v3, "said to be raw", "raw"),
        "raw-as-qcow2": Bad(good["raw"].path, "said to be qcow2", "qcow2"),
    }  # fmt: skip


def vhd_sum(block, at):
    block = bytearray(block)
    block[at : at + 4] = bytes(4)
    block[at : at + 4] = big(~sum(block) & 0xFFFFFFFF, 4)
    return bytes(block)


def differencing_vhd(parent, to, blocks, *, names=b""):
    """A hand-written child of a dynamic VHD. ``blocks``: block number → {sector in it: 512 bytes}."""
    footer, header = parent.read_bytes()[:512], bytearray(parent.read_bytes()[512:1536])
    block, entries = int.from_bytes(header[32:36], "big"), int.from_bytes(header[28:32], "big")
    header[40:56] = footer[68:84]
    header[64 : 64 + len(names)] = names
    own = bytearray(footer)
    own[60:64], own[68:84] = big(4, 4), uuid.uuid4().bytes
    bat, tail, at = bytearray(b"\xff" * (-(-entries * 4 // 512) * 512)), b"", 0
    start = 1536 + len(bat)
    for number, sectors in blocks.items():
        bits, data = bytearray(-(-block // 512 // 8 // 512) * 512), bytearray(block)
        for sector, piece in sectors.items():
            bits[sector // 8] |= 0x80 >> sector % 8
            data[sector * 512 : sector * 512 + 512] = piece
        bat[number * 4 : number * 4 + 4] = big((start + at) // 512, 4)
        tail += bytes(bits) + bytes(data)
        at = len(tail)
    first = vhd_sum(own, 64)
    to.write_bytes(first + vhd_sum(header, 36) + bytes(bat) + tail + first)
    return to


def _vhd_files(to, good, secret):
    fixed, dynamic = good["vhd-fixed"].path, good["vhd-dynamic"].path
    data = dynamic.read_bytes()
    header = bytearray(data[512:1536])
    header[64 : 64 + len(secret) * 2] = secret.encode("utf-16-be")
    named = patched(dynamic, to / "named.vhd", (512, vhd_sum(header, 36)))
    endless = bytearray(data[512:1536])
    endless[28:32] = big(2**31, 4)
    saved = bytearray(data[:512])
    saved[84] = 1
    far = bytearray(data[:512])
    far[48:56] = big(2**43)
    both, over = vhd_sum(saved, 64), vhd_sum(far, 64)
    child = differencing_vhd(dynamic, to / "child.vhd", {0: {3: b"x" * 512}}, names=secret.encode("utf-16-be"))
    two = fixed.read_bytes()
    (to / "two.vhd").write_bytes(data[:1536] + two[1536:])
    return {
        "vhd-child": Bad(child, "--parent"),
        "vhd-named-parent": Bad(named, "names a parent"),
        "vhd-checksum": Bad(patched(fixed, to / "sum.vhd", (-500, b"\x01")), "checksum"),
        "vhd-header-checksum": Bad(patched(dynamic, to / "sum2.vhd", (512 + 33, b"\x01")), "checksum"),
        "vhd-footers-differ": Bad(patched(dynamic, to / "differ.vhd", (20, b"\x01")), "differ"),
        "vhd-no-footer": Bad(cut(dynamic, to / "cut.vhd", len(data) - 512), "truncated"),
        "vhd-cut": Bad(patched(cut(fixed, to / "cut2.vhd", MIB), to / "cut2.vhd", (-512, two[-512:])), "truncated"),
        "vhd-cut-blocks": Bad(
            patched(cut(dynamic, to / "cut3.vhd", MIB), to / "cut3.vhd", (-512, data[-512:])), "truncated"
        ),
        "vhd-endless": Bad(patched(dynamic, to / "endless.vhd", (512, vhd_sum(endless, 36))), "blocks"),
        "vhd-saved-state": Bad(patched(dynamic, to / "saved.vhd", (0, both), (-512, both)), "saved state"),
        "vhd-huge": Bad(patched(dynamic, to / "huge.vhd", (0, over), (-512, over)), "beyond the limit"),
        "vhd-two": Bad(to / "two.vhd", "two VHDs"),
        "vhd-as-raw": Bad(fixed, "said to be raw", "raw"),
    }


def vhdx_sum(block):
    block = bytearray(block)
    block[4:8] = bytes(4)
    block[4:8] = crc32c(bytes(block)).to_bytes(4, "little")
    return bytes(block)


def _vhdx_files(to, good, secret):
    vhdx = good["vhdx-dynamic"].path
    data = vhdx.read_bytes()
    metadata = data.index(b"metadata\0\0")
    parameters = data.index(uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b").bytes_le, metadata)
    flags = metadata + int.from_bytes(data[parameters + 16 : parameters + 20], "little") + 4
    heads = [bytearray(data[at : at + 4096]) for at in (65536, 131072)]
    for head in heads:
        head[48:64] = uuid.uuid4().bytes
    table = bytearray(data[192 * 1024 : 256 * 1024])
    table[16 + 64 : 16 + 96] = uuid.uuid4().bytes + struct.pack("<QII", 2 * MIB, MIB, 1)
    table[8:12] = (3).to_bytes(4, "little")
    region = vhdx_sum(table)
    count = int.from_bytes(data[metadata + 10 : metadata + 12], "little")
    item = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c").bytes_le + struct.pack(
        "<IIII", 0x11000, len(secret) * 2, 4, 0
    )
    at = metadata + 32 + 32 * count
    parent = (
        (at, item),
        (metadata + 10, (count + 1).to_bytes(2, "little")),
        (metadata + 0x11000, secret.encode("utf-16-le")),
    )
    changed = [vhdx_sum(head) for head in heads]
    return {
        "vhdx-parent-bit": Bad(patched(vhdx, to / "bit.vhdx", (flags, b"\x02")), "another file"),
        "vhdx-parent-locator": Bad(patched(vhdx, to / "locator.vhdx", *parent), "another file"),
        "vhdx-log": Bad(patched(vhdx, to / "log.vhdx", (65536, changed[0]), (131072, changed[1])), "closed properly"),
        "vhdx-headers": Bad(patched(vhdx, to / "h.vhdx", (65540, b"\1\2"), (131076, b"\1\2")), "checksum"),
        "vhdx-region": Bad(patched(vhdx, to / "r.vhdx", (192 * 1024, region), (256 * 1024, region)), "not known here"),
        "vhdx-cut": Bad(cut(vhdx, to / "cut.vhdx", len(data) - 2 * MIB), "truncated"),
    }  # fmt: skip


def _vmdk_files(to, good, secret):
    sparse, stream, footed = (good[f"vmdk-{name}"].path for name in ("sparse", "stream", "footer"))
    data = sparse.read_bytes()
    header = list(VMDK_HEADER.unpack_from(data))
    at, length = header[5] * 512, header[6] * 512
    text = data[at : at + length].partition(b"\0")[0].decode()
    extent = next(row for row in text.splitlines() if row.startswith("RW"))

    def described(name, new):
        return patched(sparse, to / f"{name}.vmdk", (at, new.encode().ljust(length, b"\0")))

    def headed(name, field, value):
        fields = [value if number == field else old for number, old in enumerate(header)]
        return patched(sparse, to / f"{name}.vmdk", (0, VMDK_HEADER.pack(*fields)))

    flat = text.replace("monolithicSparse", "monolithicFlat").replace(extent, f'RW 6144 FLAT "{secret}" 0')
    alone = to / "descriptor.vmdk"
    alone.write_text(flat.ljust(2048))
    return {
        "vmdk-descriptor": Bad(alone, "descriptor"),
        "vmdk-flat": Bad(described("flat", flat), "only monolithicSparse"),
        "vmdk-path": Bad(described("path", text.replace(extent, f'RW 6144 SPARSE "{secret}"')), "other files"),
        "vmdk-two-extents": Bad(described("extents", text + f'\nRW 6144 FLAT "{secret}" 0\n'), "other files"),
        "vmdk-lower-case": Bad(described("lower", text + f'\nrw 6144 flat "{secret}" 0\n'), "other files"),
        "vmdk-parent": Bad(described("parent", text + f'\nparentFileNameHint="{secret}"\n'), "another file"),
        "vmdk-parent-cid": Bad(described("cid", text.replace("parentCID=ffff", "parentCID=1234")), "another file"),
        "vmdk-capacity-0": Bad(headed("capacity", 3, 0), "empty"),
        "vmdk-huge": Bad(headed("huge", 3, 2**40), "beyond the limit"),
        "vmdk-no-descriptor": Bad(headed("none", 5, 0), "no descriptor inside"),
        "vmdk-long-descriptor": Bad(headed("long", 6, 2**33), "limit"),
        "vmdk-grain": Bad(headed("grain", 4, 3), "grains"),
        "vmdk-cut": Bad(cut(sparse, to / "cut.vmdk", len(data) // 2), "truncated"),
        "vmdk-stream-cut": Bad(cut(stream, to / "cut2.vmdk", stream.stat().st_size // 2), "truncated"),
        "vmdk-footer-cut": Bad(cut(footed, to / "cut3.vmdk", footed.stat().st_size - 512), "footer"),
        "vmdk-footer-other": Bad(patched(footed, to / "other.vmdk", (-1012, b"\x01")), "differ"),
        "vmdk-line-ends": Bad(patched(sparse, to / "ends.vmdk", (73, b"\n\n\r\n")), "line ends"),
    }  # fmt: skip


def _strange_files(to, good, secret):
    def made(name, head, size=MIB):
        (to / name).write_bytes(head.ljust(size, b"\0"))
        return to / name

    vdi, qed = to / "a.vdi", to / "a.qed"
    qemu_img("create", "-q", "-f", "vdi", vdi, "2M")
    qemu_img("create", "-q", "-f", "qed", qed, "2M")
    raw = good["raw"].path
    hybrid = patched(raw, to / "hybrid.iso", (0x8001, b"CD001"))
    nested = to / "nested.raw.gz"
    nested.write_bytes(gzip.compress(gzip.compress(raw.read_bytes())))
    broken = cut(good["raw.xz"].path, to / "broken.xz", good["raw.xz"].path.stat().st_size // 2)
    os.mkfifo(to / "fifo")
    os.mknod(to / "socket", stat.S_IFSOCK | 0o600)
    (to / "folder").mkdir()
    (to / "link-out").symlink_to(raw)
    shutil.copyfile(raw, Path(secret))
    (to / "link-to-secret.qcow2").symlink_to(secret)
    return {
        "vdi": Bad(vdi, "VDI"),
        "qed": Bad(qed, "QED"),
        "luks": Bad(made("luks.raw", b"LUKS\xba\xbe\0\1"), "LUKS"),
        "bz2": Bad(made("a.bz2", b"BZh91AY"), "bz2"),
        "zip": Bad(made("a.zip", b"PK\x03\x04"), "zip"),
        "ova": Bad(made("a.ova", bytes(257) + b"ustar"), "tar"),
        "iso-and-partitions": Bad(hybrid, "--format raw"),
        "gz-in-gz": Bad(nested, "compressed twice"),
        "xz-cut": Bad(broken, "xz"),
        "zst-cut": Bad(cut(good["raw.zst"].path, to / "broken.zst", 200), "zst"),
        "empty": Bad(made("empty", b"", 0), "empty"),
        "short": Bad(made("short", b"hello", 5), "too short"),
        "fifo": Bad(to / "fifo", "a FIFO"),
        "socket": Bad(to / "socket", "a socket"),
        "folder": Bad(to / "folder", "a folder"),
        "device": Bad(Path("/dev/zero"), "a device"),
        "link": Bad(to / "link-out", "link"),
        "link-to-secret": Bad(to / "link-to-secret.qcow2", "link"),
        "missing": Bad(to / "nothing", "no such file"),
    }
