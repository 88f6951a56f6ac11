"""The script that makes file systems: nothing is formatted but what is blank, or was never used."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.model.disks import serial
from orchestrator.model.spec import Disk, DiskKind
from orchestrator.render.disks import FUNCTIONS, SCRIPT, grow_argv, mount_argv, own_argv

MIB = 1024**2
STAMP = b"vmrole: formatting"
SHELLS = [["sh"], *([["busybox", "sh"]] if shutil.which("busybox") else [])]
DATA = Disk("data", DiskKind.VOLUME, 64, "/srv/data", "app:app", "0750")
CACHE = Disk("cache", DiskKind.LOCAL, 32, "/srv/cache")

real = pytest.mark.real


@pytest.fixture(params=SHELLS, ids=lambda words: words[0])
def call(request):
    """Call one of the script's functions in a shell; what it printed, without its last newline."""

    def in_shell(function: str, path: Path) -> str:
        words = [*request.param, "-c", f'{FUNCTIONS}\n{function} "$@"', "vmrole-disks", str(path), kib(path)]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout.strip()

    return in_shell


def kib(path: Path) -> str:
    return str(path.stat().st_size // 1024)


def disk(path: Path, mib: int = 16, **pieces: bytes) -> Path:
    """A disk with pieces at byte offsets, each named ``at_OFFSET``."""
    with path.open("wb") as file:
        file.truncate(mib * MIB)
        for where, piece in pieces.items():
            file.seek(int(where.removeprefix("at_")))
            file.write(piece)
    return path


def stamp(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-MIB, os.SEEK_END)
        file.write(STAMP)


def superblock(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        file.seek(1024 + offset)
        return int.from_bytes(file.read(4), "little")


def note_a_mount(path: Path) -> None:
    """As the kernel does on the first one: the superblock's s_mtime."""
    subprocess.run(["debugfs", "-w", "-R", "ssv mtime now", str(path)], check=True, capture_output=True, timeout=60)
    assert superblock(path, 0x2C) != 0


def is_sound(path: Path) -> bool:
    return subprocess.run(["e2fsck", "-fn", str(path)], capture_output=True, check=False, timeout=60).returncode == 0


@real
@pytest.mark.parametrize(
    "pieces",
    [
        {"at_510": b"\x55\xaa"},  # a partition table
        {"at_0": b"XFSB"},
        {"at_0": b"LUKS\xba\xbe"},
        {"at_1048575": b"\x01"},
        {"at_65600": b"_BHRfS_M"},
        {"at_1080": b"\x53\xee"},
    ],
)
def test_what_is_not_ours_is_foreign(call, tmp_path, pieces):
    assert call("content", disk(tmp_path / "disk", **pieces)) == "foreign"


@real
def test_a_disk_of_zero_bytes_is_blank(call, tmp_path):
    assert call("content", disk(tmp_path / "disk")) == "blank"


@real
def test_a_disk_that_cannot_be_read_is_not_blank(call, tmp_path):
    path = disk(tmp_path / "short", mib=2)
    assert call("content", path) == "blank"
    os.truncate(path, MIB // 2)
    assert call("content", path) == "foreign"


@real
@pytest.mark.parametrize("mib", [16, 600])
def test_a_made_file_system_is_ours_and_sound_and_leaves_the_last_mib(call, tmp_path, mib):
    path = disk(tmp_path / "disk", mib=mib)
    call("format", path)
    assert call("content", path) == "ours"
    assert is_sound(path)
    assert superblock(path, 4) * 4096 == (mib - 1) * MIB
    with path.open("rb") as file:
        file.seek(-MIB, os.SEEK_END)
        assert not file.read().strip(b"\0")


@real
@pytest.mark.parametrize("left", [{}, {"at_0": b"half of a file system" * 9000}, {"at_1080": b"\x53\xef"}])
def test_what_a_cut_mkfs_left_is_formatted_again(call, tmp_path, left):
    path = disk(tmp_path / "disk", **left)
    stamp(path)
    assert call("content", path) == "unfinished"
    call("format", path)
    assert call("content", path) == "ours"
    assert is_sound(path)


@real
def test_a_file_system_that_has_been_mounted_is_never_unfinished(call, tmp_path):
    path = disk(tmp_path / "disk")
    call("format", path)
    stamp(path)
    assert call("content", path) == "unfinished"
    note_a_mount(path)
    assert call("content", path) == "ours"


@real
@pytest.mark.parametrize("after_s", [0.002, 0.005, 0.01, 0.02, 0.04])
def test_killed_at_any_moment_the_disk_can_still_be_used(call, tmp_path, after_s):
    path = disk(tmp_path / "disk", mib=512)
    words = ["sh", "-c", f'{FUNCTIONS}\nformat "$@"', "vmrole-disks", str(path), kib(path)]
    with subprocess.Popen(words, start_new_session=True) as process:
        time.sleep(after_s)
        os.killpg(process.pid, signal.SIGKILL)
    assert call("content", path) in {"blank", "unfinished", "ours"}
    if call("content", path) == "ours":
        assert is_sound(path)
    else:
        call("format", path)
    assert call("content", path) == "ours"


@real
def test_a_file_system_grows_with_its_disk_and_by_nothing_less_than_a_mib(call, tmp_path):
    path = disk(tmp_path / "disk", mib=16)
    call("format", path)
    os.truncate(path, 64 * MIB)
    call("grow", path)
    assert superblock(path, 4) * 4096 == 63 * MIB
    assert is_sound(path)
    os.truncate(path, 64 * MIB)  # of a plain file resize2fs cuts off what it does not use
    before = path.read_bytes()
    call("grow", path)
    os.truncate(path, 64 * MIB + MIB // 2)
    call("grow", path)
    assert path.read_bytes()[: 64 * MIB] == before


@real
@pytest.mark.parametrize("shell", SHELLS, ids=lambda words: words[0])
def test_shells_take_the_script(shell):
    assert subprocess.run([*shell, "-n", "-c", SCRIPT], check=False, timeout=60).returncode == 0


def test_values_are_words_and_never_part_of_the_script():
    assert mount_argv((DATA, CACHE)) == [
        *("sh", "-c", SCRIPT, "vmrole-disks", "mount", "1"),
        *(serial(DATA), "/srv/data", "app:app", "0750", "data"),
        *(serial(CACHE), "/srv/cache", "root:root", "0755", "cache"),
    ]
    assert own_argv((DATA,)) == [*mount_argv((DATA,))[:4], "own", "1", *mount_argv((DATA,))[6:]]


def test_growing_waits_for_the_size_that_the_disk_has_now():
    assert grow_argv(DATA)[4:7] == ["grow", str(64 * 1024), serial(DATA)]
