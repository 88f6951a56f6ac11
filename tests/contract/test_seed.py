"""Answer file discs, read back by a second program."""

import hashlib
import stat
import subprocess

import pytest
from lxml import etree

from orchestrator.drivers.seed import IsoSeeds
from orchestrator.model.making import MachineSpec
from orchestrator.model.spec import Size
from orchestrator.render import unattend
from orchestrator.render.answerfile import NS
from orchestrator.render.keeping import keep_argv
from tests.fakes.build import DIGEST, record
from tests.unit.test_unattend import FULL, SUBNET, TOLD, reveal

LARGE = b"#cloud-config\n" + bytes(range(256)) * 500
FILES = {"meta-data": b"{}", "user-data": LARGE, "network-config": b"", "Aa.Bb": b"x"}


@pytest.mark.real
def test_a_disc_has_its_label_and_its_files_byte_for_byte(tmp_path):
    image, out = tmp_path / "seed.iso", tmp_path / "out"
    image.write_bytes(IsoSeeds().disc("cidata", FILES))
    argv = ["xorriso", "-osirrox", "on", "-indev", str(image), "-pvd_info", "-extract", "/", str(out)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    told = done.stdout + done.stderr
    assert "Volume Id    : cidata" in told or "Volume id    : 'cidata'" in told
    assert {path.name: path.read_bytes() for path in out.iterdir()} == FILES


@pytest.mark.real
def test_a_disc_for_windows_is_read_back_by_another_program(tmp_path):
    """By libarchive this time, which prefers Joliet where Rock Ridge is not asked for: the names that Windows sees."""
    files = unattend.seed(record(machine=MachineSpec(DIGEST, Size(), FULL)), TOLD, reveal, SUBNET)
    image, out = tmp_path / "seed.iso", tmp_path / "out"
    image.write_bytes(IsoSeeds().disc(unattend.LABEL, files))
    out.mkdir()
    argv = ["bsdtar", "--options", "iso9660:!rockridge", "-xf", str(image), "-C", str(out)]
    subprocess.run(argv, capture_output=True, check=True, timeout=30)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    for name in unattend.NAMES:
        assert etree.parse(out / name).getroot().tag == f"{{{NS}}}unattend"


def test_a_disc_is_whole_sectors():
    assert len(IsoSeeds().disc("cidata", FILES)) % 2048 == 0


def test_discs_of_different_files_differ():
    discs = {hashlib.sha256(IsoSeeds().disc("cidata", {"user-data": bytes([n])})).digest() for n in range(3)}
    assert len(discs) == 3


KEPT = {"meta-data": b"{}\n", "user-data": b"#cloud-config\n", "network-config": b"{}\n"}
# In a mount namespace of its own, with the folders of a guest; the disc is a file, as not every kernel knows ISO 9660.
GUEST = r"""
image=$1 room=$2 out=$3
shift 3
set -e
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir /var/lib/cloud
mount -t tmpfs -o "size=$room" none /var/lib/cloud
made=
[ -d /dev/disk ] || { mkdir /dev/disk && made=1; } # udev makes it, where there is one
mount -t tmpfs none /dev/disk
mkdir /dev/disk/by-label
ln -s "$image" /dev/disk/by-label/cidata
set +e
"$@" && "$@"
code=$?
mountpoint -q /run/vmrole/seed && exit 99
[ -z "$made" ] || { umount /dev/disk && rmdir /dev/disk; }
[ ! -e /var/lib/cloud/seed/nocloud ] || cp -a /var/lib/cloud/seed/nocloud "$out"
exit $code
"""


def keep(tmp_path, files, *, room="1M"):
    """Run what a guest runs at each boot, twice; its exit code, and the folder that is kept."""
    folder, image, out = tmp_path / "files", tmp_path / "disc", tmp_path / "out"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    if files:
        with image.open("wb") as file:
            file.truncate(4 * 1024**2)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(folder), str(image)], check=True, timeout=30)
    script = ["sh", "-c", GUEST, "guest", str(image), room, str(out), *keep_argv()]
    done = subprocess.run(["unshare", "-m", *script], capture_output=True, check=False, timeout=30)
    return done.returncode, out


@pytest.mark.real
def test_a_guest_keeps_its_disc_for_root_alone(tmp_path):
    code, out = keep(tmp_path, KEPT)
    assert code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == KEPT
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


@pytest.mark.real
@pytest.mark.parametrize(("files", "room"), [({}, "1M"), (KEPT | {"user-data": b"x" * 20_000}, "8k")])
def test_a_guest_that_cannot_keep_it_says_so_and_keeps_no_part_of_it(tmp_path, files, room):
    code, out = keep(tmp_path, files, room=room)
    assert code not in {0, 99}
    assert not out.exists()
