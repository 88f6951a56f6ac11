"""Answer file discs, read back by a second program."""

import hashlib
import subprocess

import pytest

from orchestrator.drivers.seed import IsoSeeds

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


def test_a_disc_is_whole_sectors():
    assert len(IsoSeeds().disc("cidata", FILES)) % 2048 == 0


def test_discs_of_different_files_differ():
    discs = {hashlib.sha256(IsoSeeds().disc("cidata", {"user-data": bytes([n])})).digest() for n in range(3)}
    assert len(discs) == 3
