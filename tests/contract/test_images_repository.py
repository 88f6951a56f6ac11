"""The repository itself: versions, tags, what may go and when, damage, many at once, kill -9 and a full disk."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.images import Repository, file_digest
from orchestrator.drivers.imaging.digest import content_digest
from orchestrator.drivers.imaging.intake import Intake, Offer
from orchestrator.errors import NotFound, Refused, UserError
from orchestrator.model.image import Admission
from tests.contract.corpus import convert, disk_bytes
from tests.fakes.clock import FakeClock

ROOT = Path(__file__).resolve().parents[2]
VMROLE = ROOT / ".venv/bin/vmrole"
POINTS = 10


def silent(_text):
    pass


@pytest.fixture(scope="module")
def disks(tmp_path_factory):
    """Twelve raw disks of different content."""
    folder = tmp_path_factory.mktemp("disks")
    paths = [folder / f"d{number}.raw" for number in range(12)]
    for number, path in enumerate(paths):
        path.write_bytes(disk_bytes(seed=number))
    return paths


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "images"


@pytest.fixture
def repository(folder):
    return Repository(folder, FakeClock())


def take(repository, name, path, version=""):
    return Intake(repository, FakeClock(), silent).take(Offer(name, version, str(path), "", "", "", {}), Path("/"))


def run(home, *args, **options):
    env = {**os.environ, "VMROLE_HOME": str(home)}
    return subprocess.run([VMROLE, *map(str, args)], env=env, capture_output=True, text=True, check=False, **options)


def assert_whole(folder):
    """Every entry has its file, whole; nothing else is there once the next run has begun."""
    repository = Repository(folder, FakeClock())
    repository.clear()
    assert [image.reference for image in repository.images() if repository.damage(image)] == []
    blobs = {path.name for path in (folder / "blobs").glob("*")}
    assert blobs == {repository.blob(image.digest).name for image in repository.images()}
    assert list((folder / "incoming").glob("*")) == []


def test_the_newest_version_is_what_a_bare_name_means(repository, disks):
    versions = [take(repository, "web", disks[number]).version for number in range(3)]
    assert versions == ["2023-11-14", "2023-11-14.2", "2023-11-14.3"]
    assert repository.find("web").version in versions
    assert repository.resolve("web:2023-11-14") == content_digest(repository.blob(repository.resolve("web:2023-11-14")))
    with pytest.raises(UserError, match="already"):
        take(repository, "web", disks[4], "2023-11-14")
    with pytest.raises(UserError, match="version"):
        take(repository, "web", disks[4], "-x")
    with pytest.raises(NotFound):
        repository.find("web:none")


def test_a_tag_is_one_more_name_for_the_same_file(repository, disks, folder):
    first = take(repository, "web", disks[0], "1")
    tagged = repository.tag(first, "web", "proven")
    assert (tagged.reference, tagged.digest) == ("web:proven", first.digest)
    newer = take(Repository(folder, SystemClock()), "web", disks[1], "2")
    repository.tag(first, "web", "older")
    assert repository.find("web") == newer
    repository.forget(["web:2", "web:older"])
    repository.forget(["web:1"])
    assert repository.blob(tagged.digest).exists()
    repository.forget(["web:proven"])
    assert list((folder / "blobs").iterdir()) == []


def test_an_image_that_is_leaving_is_not_what_a_bare_name_means(repository, disks):
    take(repository, "web", disks[0], "1")
    second = take(repository, "web", disks[1], "2")
    repository.mark_leaving([second.reference])
    assert repository.find("web").version == "1"
    assert repository.find("web:2").leaving


def test_an_index_of_an_older_version_is_read_and_its_images_stay(folder, repository, disks, tmp_path):
    disk = convert(disks[0], tmp_path / "old.qcow2", "qcow2")
    digest = file_digest(disk)
    (folder / "blobs").mkdir(parents=True)
    blob = folder / "blobs" / f"{digest.removeprefix('sha256:')}.qcow2"
    shutil.copyfile(disk, blob)
    old = {"name": "web", "version": "2026-11-20", "digest": digest, "size_bytes": disk.stat().st_size,
           "virtual_bytes": 3 * 1024**2, "added": 1.0, "recipe": "abc"}  # fmt: skip
    (folder / "index.json").write_text(json.dumps([old], indent=1))
    assert repository.resolve("web") == digest
    assert repository.damage(repository.find("web")) == ""
    take(repository, "other", disks[1])
    assert repository.find("web").digest == digest
    assert repository.find("web").recipe == "abc"


def test_a_damaged_index_is_said_and_left(folder, repository):
    folder.mkdir(parents=True)
    (folder / "index.json").write_text('[{"name": 1}]')
    with pytest.raises(Refused, match="index"):
        repository.images()


def test_damage_is_found_and_adding_it_again_puts_it_right(repository, disks):
    kept = take(repository, "web", disks[0])
    blob = repository.blob(kept.digest)
    data = bytearray(blob.read_bytes())
    at = data.index(b"all the world's a disk")
    blob.chmod(0o600)
    blob.write_bytes(data[:at] + b"X" + data[at + 1 :])
    assert "its content is" in repository.damage(kept)
    blob.write_bytes(data[:100])
    assert repository.damage(kept)
    blob.unlink()
    assert repository.damage(kept) == "its file is gone"
    again = take(repository, "web", disks[0])
    assert (again.digest, repository.damage(kept)) == (kept.digest, "")


def test_the_trial_of_a_content_counts_for_all_its_names(repository, disks):
    kept = take(repository, "web", disks[0])
    repository.judge(kept.digest, Admission(True, 5.0))
    assert take(repository, "again", disks[0]).admission == Admission(True, 5.0)
    assert take(repository, "other", disks[1]).admission is None


def test_what_is_said_of_an_image_can_be_changed(repository, disks):
    kept = take(repository, "web", disks[0])
    repository.describe(kept, replace(kept.traits, firmware="uefi", note="mine"))
    assert (repository.find("web").traits.firmware, repository.find("web").traits.note) == ("uefi", "mine")


def test_ten_at_once_all_end_well(folder, disks):
    home = folder.parent
    env = {**os.environ, "VMROLE_HOME": str(home)}
    running = [
        subprocess.Popen([VMROLE, "image", "add", "many", path], env=env, stderr=subprocess.PIPE, text=True)
        for path in disks[:10]
    ]
    ended = [(process.communicate(timeout=120)[1], process.returncode) for process in running]
    assert [code for _said, code in ended] == [0] * 10, ended
    images = Repository(folder, FakeClock()).images()
    assert len({image.version for image in images}) == len({image.digest for image in images}) == 10
    assert_whole(folder)


CHILD = """
import os, signal, sys
from pathlib import Path
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.images import Repository
from orchestrator.drivers.imaging.intake import Intake, Offer
repository = Repository(Path(sys.argv[1]), SystemClock())
left = [int(sys.argv[3])]
WATCHED = ("open", "os.", "shutil.", "subprocess.Popen", "tempfile.", "fcntl.flock")

def count(event, details):
    if event.startswith(WATCHED) and sys.argv[1] in repr(details) or event == "fcntl.flock":
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
if sys.argv[2] == "rm":
    repository.forget(["old:1"])
else:
    intake = Intake(repository, SystemClock(), lambda text: None)
    intake.take(Offer("new", "1", sys.argv[2], "", "", "", {}), Path("/"))
print(sys.argv[3], left[0])
"""


def child(folder, what, steps):
    argv = [sys.executable, "-c", CHILD, str(folder), str(what), str(steps)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("act", ["add", "rm"])
def test_kill_9_at_every_step_leaves_the_old_or_the_new(act, folder, disks, tmp_path):
    """The steps are what the process does to files in the repository; it is killed before each of ten of them."""
    what = "rm" if act == "rm" else disks[1]
    take(Repository(folder, FakeClock()), "old", disks[0], "1")
    whole = shutil.copytree(folder, tmp_path / "whole")
    done = child(folder, what, 10**6)
    assert done.returncode == 0, done.stderr
    steps = 10**6 - int(done.stdout.split()[1])
    assert steps >= POINTS
    seen = set()
    for point in range(POINTS):
        shutil.rmtree(folder)
        shutil.copytree(whole, folder)
        killed = child(folder, what, 1 + point * (steps - 1) // (POINTS - 1))
        assert killed.returncode == -signal.SIGKILL
        names = {image.reference for image in Repository(folder, FakeClock()).images()}
        assert_whole(folder)
        assert names in (({"old:1"}, {"old:1", "new:1"}) if act == "add" else ({"old:1"}, set()))
        seen.add(frozenset(names))
        again = child(folder, what, 10**6)
        assert again.returncode == 0 or "already" in again.stderr
        assert_whole(folder)
    assert len(seen) == 2


def test_kill_9_at_random_times_leaves_no_program_behind(folder, disks, tmp_path):
    seed = random.randrange(10**6)
    print("seed", seed)
    times = random.Random(seed)
    big = tmp_path / "big.raw"
    big.write_bytes(os.urandom(24 * 1024**2))
    for number in range(POINTS):
        env = {**os.environ, "VMROLE_HOME": str(folder.parent)}
        process = subprocess.Popen([VMROLE, "image", "add", f"r{number}", big], env=env, stderr=subprocess.DEVNULL)
        time.sleep(times.uniform(0.1, 0.8))
        process.kill()
        process.wait()
    take(Repository(folder, SystemClock()), "after", disks[0])
    assert_whole(folder)
    mine = str(folder).encode()
    deadline = time.monotonic() + 5
    while any(mine in line for line in command_lines()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [line for line in command_lines() if mine in line]


def command_lines():
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield entry.read_bytes()
        except OSError:
            continue


FULL = """
set -eu
mount -t tmpfs -o size=24M none "$1"
export VMROLE_HOME="$1/home"
"$2" image add small "$3"
for what in "$4" "$5"; do
    code=0
    "$2" image add large "$what" 2> "$6" || code=$?
    cat "$6"
    echo "code $code"
    find "$1/home/images" -type f | sort
done
"$2" image verify
"$2" image add after "$3"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")
def test_a_full_disk_in_the_middle_leaves_a_clean_state_and_a_clear_message(disks, tmp_path):
    (tmp_path / "place").mkdir()
    large, packed = tmp_path / "large.raw", tmp_path / "large.raw.xz"
    large.write_bytes(random.Random(1).randbytes(40 * 1024**2))
    with packed.open("wb") as out:
        subprocess.run(["xz", "-0", "-c", large], stdout=out, check=True)
    argv = ["unshare", "-m", "--propagation", "private", "sh", "-c", FULL, "sh", tmp_path / "place", VMROLE, disks[0],
            large, packed, tmp_path / "said"]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("is full") == 2
    assert done.stdout.count("code 1") == 2
    assert "Traceback" not in done.stdout
    files = [row for row in done.stdout.splitlines() if row.startswith(str(tmp_path))]
    assert len(files) == 2 * 3  # the index, the lock and the small image, both times
    assert "small:" in done.stdout
    assert "is whole" in done.stdout


def test_two_homes_that_build_at_once_build_one_disk_between_them(tmp_path):
    env = {**os.environ, "VMROLE_CACHE": str(tmp_path / "cache")}
    argv = [VMROLE, "image", "build", "tiny"]
    runs = [
        subprocess.Popen(
            argv, env={**env, "VMROLE_HOME": str(tmp_path / home)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for home in ("a", "b")
    ]  # fmt: skip
    told = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], told
    assert sorted(out.partition(": ")[0].partition(" ")[2] for out, _ in told) == ["built", "there already"]
    assert len({out.split()[-1] for out, _ in told}) == 1  # the same digest
    assert sum("tiny: waiting for another run that builds it" in said for _, said in told) == 1
    kept = sorted(path.name for path in (tmp_path / "cache" / "images").iterdir())
    assert [name.rpartition(".")[2] for name in kept] == ["qcow2", "lock"]
