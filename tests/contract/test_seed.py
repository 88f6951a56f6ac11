"""Answer file discs, read back by a second program."""

import hashlib
import subprocess

import pytest
from lxml import etree

from orchestrator.drivers.seed import IsoSeeds
from orchestrator.model.spec import MachineSpec, Size
from orchestrator.render import unattend
from orchestrator.render.answerfile import NS
from tests.fakes.build import DIGEST, record
from tests.unit.test_unattend import FULL, SUBNET, reveal

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
    files = unattend.seed(record(machine=MachineSpec(DIGEST, Size(), FULL)), reveal, SUBNET)
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
