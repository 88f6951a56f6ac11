"""Taking images in and giving them out, by the real programs: every format, and every hostile file."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.drivers.images import Repository
from orchestrator.drivers.imaging.differencing import runs
from orchestrator.drivers.imaging.digest import CHUNK, DOMAIN
from orchestrator.drivers.imaging.giving import give_out
from orchestrator.drivers.imaging.intake import Intake, Offer
from orchestrator.drivers.imaging.meter import Meter, progress_text
from orchestrator.drivers.imaging.qemu_img import caged
from orchestrator.errors import Refused, UserError, VmroleError
from tests.contract.corpus import convert, differencing_vhd, disk_bytes, good_files, hostile_files
from tests.fakes.clock import FakeClock

HERE = Path("/")
ROOT = Path(__file__).resolve().parents[2]


def silent(_text):
    pass


def offer(name, file, *, version="", claimed="", sha256="", parent="", traits=None):
    return Offer(name, version, str(file), claimed, sha256, parent, traits or {})


def digest_of(raw):
    """The definition in docs/adr/0006, said once more in the plainest way."""
    leaves = [hashlib.sha256(raw[at : at + CHUNK]).digest() for at in range(0, len(raw), CHUNK)]
    return "sha256:" + hashlib.sha256(DOMAIN + len(raw).to_bytes(8, "big") + b"".join(leaves)).hexdigest()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_files(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    return tmp_path_factory.mktemp("elsewhere") / "secret.raw"


@pytest.fixture(scope="module")
def bad(good, secret, tmp_path_factory):
    return hostile_files(tmp_path_factory.mktemp("hostile"), good, secret)


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "images", FakeClock())


@pytest.fixture
def intake(repository):
    return Intake(repository, FakeClock(), silent)


def incoming(repository_folder):
    folder = repository_folder / "incoming"
    return list(folder.iterdir()) if folder.exists() else []


def test_every_accepted_format_gives_the_same_content(good, intake, repository, tmp_path):
    kept = [intake.take(offer(name.replace(".", "-"), file.path), HERE) for name, file in good.items()]
    assert {image.digest for image in kept} == {digest_of(disk_bytes())}
    blobs = list((tmp_path / "images" / "blobs").iterdir())
    assert [path.stat().st_mode & 0o777 for path in blobs] == [0o444]
    assert blobs == [repository.blob(kept[0].digest)]
    assert incoming(tmp_path / "images") == []


def test_the_stored_file_is_a_standalone_qcow2_of_one_layout(good, intake, repository):
    kept = intake.take(offer("disk", good["qcow2-small"].path), HERE)
    said = subprocess.run(
        ["qemu-img", "info", "-f", "qcow2", repository.blob(kept.digest)], capture_output=True, text=True, check=True
    ).stdout
    assert "cluster_size: 65536" in said
    assert "lazy refcounts: false" in said
    assert "backing" not in said
    check = subprocess.run(["qemu-img", "check", "-f", "qcow2", repository.blob(kept.digest)], check=False)
    assert check.returncode == 0


def test_every_bad_file_is_refused_in_time_and_nothing_is_left(bad, intake, repository, tmp_path):
    for name, file in bad.items():
        begun = time.perf_counter()
        with pytest.raises(VmroleError) as refused:
            intake.take(offer("bad", file.path, claimed=file.claimed), HERE)
        assert time.perf_counter() - begun < 2, name
        assert file.why in refused.value.message + refused.value.hint, name
        assert refused.value.exit_code == 2
    assert repository.images() == ()
    assert incoming(tmp_path / "images") == []


TRACED = """
import sys
from pathlib import Path
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.images import Repository
from orchestrator.drivers.imaging.intake import Intake, Offer
from orchestrator.errors import VmroleError
intake = Intake(Repository(Path(sys.argv[1]), SystemClock()), SystemClock(), lambda text: None)
for number, file in enumerate(sys.argv[2:]):
    try:
        intake.take(Offer(f"f{number}", "", file, "", "", "", {}), Path("/"))
    except VmroleError as error:
        print(error.message)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_no_path_that_a_file_names_is_opened(good, bad, secret, tmp_path):
    hostile = [file.path for file in bad.values() if not file.claimed]
    files = [*map(str, hostile), *(str(file.path) for file in good.values())]
    trace = tmp_path / "trace"
    calls = "trace=open,openat,openat2,creat,execve,connect,sendto"
    argv = ["strace", "-f", "-qq", "-s", "4096", "-e", calls, "-o", trace, sys.executable, "-c", TRACED, tmp_path / "r"]
    done = subprocess.run([*argv, *files], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout.count("\n") == len(hostile)
    opened = trace.read_text()
    assert str(good["raw"].path) in opened  # the trace does see what is opened
    for named in (secret.name, "outside.raw", "AF_INET", "198.51.100.1", "/dev/zero", "fifo"):
        lines = [row for row in opened.splitlines() if named in row and f"{sys.executable}" not in row]
        assert lines == [], named


@pytest.mark.parametrize("kind", [("raw", False), ("qcow2", False), ("qcow2", True), ("vhd", False), ("vhdx", False),
                                  ("vmdk", False), ("vmdk", True)], ids=str)  # fmt: skip
@pytest.mark.parametrize("size", [3 * CHUNK, 2 * CHUNK + 512, 10_000_384])
def test_a_round_trip_gives_the_same_digest(kind, size, intake, repository, tmp_path):
    raw = tmp_path / "disk.raw"
    raw.write_bytes(disk_bytes(size=size)[:size])
    kept = intake.take(offer("first", raw), HERE)
    out = tmp_path / "out"
    told = give_out(repository.blob(kept.digest), out, kind, kept.virtual_bytes, FakeClock(), silent)
    assert told == hashlib.sha256(out.read_bytes()).hexdigest()
    again = intake.take(offer("second", out, claimed=kind[0]), HERE)
    assert (again.digest, again.virtual_bytes) == (kept.digest, kept.virtual_bytes)
    assert list(tmp_path.glob(".out*")) == []


def test_what_cannot_be_compressed_is_said(intake, good, repository, tmp_path):
    kept = intake.take(offer("disk", good["raw"].path), HERE)
    with pytest.raises(UserError, match="cannot be compressed"):
        give_out(repository.blob(kept.digest), tmp_path / "x", ("vhd", True), 1, FakeClock(), silent)


def test_a_given_sha256_is_of_the_file_as_given(good, intake):
    packed = good["raw.gz"].path
    right = hashlib.sha256(packed.read_bytes()).hexdigest()
    with pytest.raises(UserError, match="SHA-256"):
        intake.take(offer("disk", packed, sha256="0" * 64), HERE)
    assert intake.take(offer("disk", packed, sha256=right), HERE).name == "disk"


def test_a_differencing_disk_is_joined_with_its_parent(good, intake, tmp_path):
    parent = good["vhd-dynamic"].path
    pieces = {0: {0: b"A" * 512, 4095: b"B" * 512}, 1: {7: b"C" * 512, 8: b"D" * 512}}
    child = differencing_vhd(parent, tmp_path / "child.vhd", pieces)
    intake.take(offer("parent", parent), HERE)
    kept = intake.take(offer("child", child, parent="parent"), HERE)
    expected = bytearray(disk_bytes())
    for number, sectors in pieces.items():
        for sector, data in sectors.items():
            at = number * 2 * CHUNK + sector * 512
            expected[at : at + 512] = data
    assert kept.digest == digest_of(bytes(expected))
    grandchild = differencing_vhd(child, tmp_path / "grand.vhd", {0: {1: b"E" * 512}})
    assert intake.take(offer("grandchild", grandchild, parent="child"), HERE).digest != kept.digest
    with pytest.raises(UserError, match="it stands on the disk"):
        intake.take(offer("wrong", grandchild, parent="parent"), HERE)
    with pytest.raises(UserError, match="stands on no other"):
        intake.take(offer("wrong", good["raw"].path, parent="parent"), HERE)


def test_runs_of_a_bitmap():
    assert list(runs(b"\x80\x01\xff", 24)) == [(0, 1), (15, 24)]
    assert list(runs(b"\x00\x00", 16)) == []


def test_traits_are_guessed_and_overruled(good, intake):
    kept = intake.take(offer("disk", good["raw"].path), HERE)
    assert (kept.traits.os, kept.traits.firmware, kept.traits.virtio) == ("linux", "bios", True)
    said = intake.take(offer("said", good["raw"].path, traits={"firmware": "uefi", "tpm": True}), HERE)
    assert (said.traits.os, said.traits.firmware, said.traits.tpm) == ("linux", "uefi", True)


def test_random_data_on_many_clusters_hashes_as_defined(intake, tmp_path):
    pieces = random.Random(5)
    raw = bytearray(5 * CHUNK + 4096)
    for _number in range(30):
        at = pieces.randrange(len(raw) - 70000)
        raw[at : at + 70000] = pieces.randbytes(70000)
    (tmp_path / "disk.raw").write_bytes(raw)
    compressed = convert(tmp_path / "disk.raw", tmp_path / "disk.qcow2", "qcow2", "-c")
    assert intake.take(offer("disk", compressed), HERE).digest == digest_of(bytes(raw))


@pytest.mark.parametrize("packer", ["gzip -1", "xz -0", "zstd -1"])
def test_a_bomb_of_zeros_is_stopped_at_the_limit(packer, intake, tmp_path):
    bomb = tmp_path / "bomb"
    with bomb.open("wb") as out:
        subprocess.run(f"head -c 300M /dev/zero | {packer}", shell=True, stdout=out, check=True)
    small = Offer("bomb", "", str(bomb), "", "", "", {}, 64 * CHUNK)
    with pytest.raises(UserError, match=r"the limit|more than"):
        intake.take(small, HERE)


def test_a_program_that_wants_too_much_memory_is_stopped():
    with pytest.raises(Refused, match="failed"):
        caged([sys.executable, "-c", "bytearray(8 << 30)"], 1, silent)


def test_progress_is_told_now_and_then():
    told, clock = [], FakeClock()
    meter = Meter("converting", 100 * CHUNK, clock, told.append)
    for done in range(10):
        clock.wait(0.5)
        meter.at(done * 10 * CHUNK)
    assert told == [
        "converting: [######..............] 30% of 100 MiB, 15 MiB/s, 5 s left",
        "converting: [##############......] 70% of 100 MiB, 18 MiB/s, 2 s left",
    ]


def test_progress_says_rate_and_time_left():
    assert progress_text(512 * CHUNK, 2048 * CHUNK, 2.0) == (
        "[#####...............] 25% of 2048 MiB, 256 MiB/s, 6 s left"
    )
    assert progress_text(512 * CHUNK, 0, 2.0) == "512 MiB, 256 MiB/s"


@pytest.fixture
def own_qemu_img(tmp_path, monkeypatch):
    """Put a script of ours in qemu-img's place."""

    def put(script):
        path = tmp_path / "bin" / "qemu-img"
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    return put


def test_qemu_img_has_limits_and_no_network(good, intake, tmp_path, own_qemu_img):
    seen = tmp_path / "seen"
    own_qemu_img(f"ulimit -v > {seen}; ulimit -t >> {seen}; cat /proc/net/dev >> {seen}; exit 1")
    with pytest.raises(Refused):
        intake.take(offer("disk", good["raw"].path), HERE)
    memory, cpu, *devices = seen.read_text().splitlines()
    assert int(memory) == 4 * 1024**2
    assert int(cpu) < 200
    assert os.geteuid() != 0 or [row.split(":")[0].strip() for row in devices[2:]] == ["lo"]


def test_a_file_that_is_changed_meanwhile_is_not_taken(intake, repository, tmp_path, own_qemu_img):
    raw = tmp_path / "disk.raw"
    raw.write_bytes(disk_bytes())
    own_qemu_img(f'echo x >> {raw}; touch -d @1 {raw}; exec {shutil.which("qemu-img")} "$@"')
    with pytest.raises(Refused, match="was changed"):
        intake.take(offer("disk", raw), HERE)
    assert repository.images() == ()
