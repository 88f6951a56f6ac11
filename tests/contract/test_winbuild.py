"""The machine that Windows is installed in, started for real: with discs on which there is nothing to boot."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.process import ProgramFailed
from orchestrator.drivers.seed import IsoSeeds
from orchestrator.drivers.winbuild import ANSWERS, DISK, TPM, Job, build, qemu_argv
from tests.fakes.clock import FakeClock
from tests.unit.test_unattend import INSTALL


class Enough(Exception):
    """The firmware has said what there was to wait for."""


@pytest.fixture
def job(tmp_path):
    discs = [tmp_path / "windows, or not.iso", tmp_path / "virtio.iso"]
    for disc in discs:
        disc.write_bytes(IsoSeeds().disc("NOTHING", {"readme.txt": b"no Windows"}))
    return Job(INSTALL, *discs, disk_gib=1, memory_mib=256, vcpus=1, timeout_s=90)


def swtpms(folder: Path) -> list[str]:
    found = [path / "cmdline" for path in Path("/proc").iterdir() if path.name.isdigit()]
    words = [path.read_bytes().decode(errors="replace") for path in found if path.exists()]
    return [word for word in words if word.startswith("swtpm") and str(folder) in word]


@pytest.mark.vm
@pytest.mark.parametrize(
    ("firmware", "tpm", "said"), [("uefi", True, "BdsDxe: failed to load"), ("bios", False, "Booting from DVD/CD")]
)
def test_it_starts_and_tries_the_disc_after_the_empty_disk(job, tmp_path, firmware, tpm, said):
    heard: list[str] = []

    def hear(text: str) -> None:
        heard.append(text)
        if said in text and ("CD" in text or "DVD" in text):
            raise Enough

    wanted = replace(job, install=replace(INSTALL, firmware=firmware), tpm=tpm)
    with pytest.raises(Enough):
        build(wanted, tmp_path, accelerator="tcg", clock=SystemClock(), report=hear)
    assert (tmp_path / DISK).exists()
    assert (tmp_path / ANSWERS).read_bytes()[32769:32774] == b"CD001"
    assert (tmp_path / TPM).exists() is tpm
    assert swtpms(tmp_path) == []


@pytest.mark.real
def test_a_machine_that_does_not_begin_is_a_failure_and_leaves_no_tpm(job, tmp_path):
    with pytest.raises(ProgramFailed):
        build(replace(job, tpm=True), tmp_path, accelerator="none", clock=FakeClock(0.0), report=lambda _t: None)
    assert swtpms(tmp_path) == []


def test_a_comma_in_a_path_is_no_option(job, tmp_path):
    argv = qemu_argv(job, tmp_path, "kvm")
    (windows,) = [word for word in argv if "windows" in word]
    assert "windows,, or not.iso" in windows
    assert any("hv_relaxed" in word for word in argv)
    assert not any("hv_" in word for word in qemu_argv(job, tmp_path, "tcg"))
