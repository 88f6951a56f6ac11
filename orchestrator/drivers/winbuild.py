"""Installing Windows from Microsoft's disc, in a QEMU of its own, into a disk that ends sysprepped and switched off.

Like a recipe's build it needs no libvirt: the machine is gone with the install, and nobody reaches it meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers.process import run, stream
from orchestrator.drivers.seed import IsoSeeds
from orchestrator.errors import Missing
from orchestrator.model.spec import UEFI
from orchestrator.model.text import line
from orchestrator.render import winpe

if TYPE_CHECKING:
    from orchestrator.ports import Clock, Progress

CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.ms.fd")
DISK, ANSWERS, TPM, MONITOR, CONSOLE = "disk.qcow2", "answers.iso", "tpm", "monitor.sock", "console"
# Microsoft's disc boots only if a key is pressed within some seconds of this line of the firmware's.
STARTS_DISC = "BdsDxe: starting"
KEYS = 10


@dataclass(frozen=True, slots=True)
class Job:
    """What is installed from which discs, and with how much. ``tpm``: a TPM 2.0, which Windows 11 asks for."""

    install: winpe.Install
    windows_iso: Path
    virtio_iso: Path
    disk_gib: int = 40
    memory_mib: int = 4096
    vcpus: int = 2
    tpm: bool = False
    timeout_s: float = 4 * 3600.0


def qemu_argv(job: Job, folder: Path, accelerator: str) -> list[str]:
    """The machine: an empty disk first, Microsoft's disc after it, so that setup's restarts go on from the disk."""
    enlightened = "host,hv_relaxed,hv_vapic,hv_spinlocks=0x1fff,hv_vpindex,hv_runtime,hv_synic,hv_time,hv_stimer"
    argv = [
        "qemu-system-x86_64",
        "-accel",
        accelerator,
        "-cpu",
        enlightened if accelerator == "kvm" else "max,la57=off",
    ]
    argv += ["-machine", f"q35,smm={'on' if job.install.firmware == UEFI else 'off'}", "-smp", str(job.vcpus)]
    argv += ["-m", str(job.memory_mib), "-rtc", "base=localtime", "-display", "none", "-vga", "std", "-nic", "none"]
    argv += ["-serial", "stdio", "-monitor", "none", "-qmp", f"unix:{_value(folder / MONITOR)},server=on,wait=off"]
    argv += ["-drive", f"if=none,id=disk,format=qcow2,discard=unmap,file={_value(folder / DISK)}"]
    argv += ["-device", "virtio-blk-pci,drive=disk,bootindex=1"]
    argv += ["-device", "virtio-serial-pci"]
    for number, disc in enumerate((job.windows_iso, job.virtio_iso, folder / ANSWERS)):
        argv += ["-drive", f"if=none,id=cd{number},format=raw,readonly=on,media=cdrom,file={_value(disc)}"]
        argv += ["-device", f"ide-cd,drive=cd{number},bus=ide.{number}" + (",bootindex=2" if number == 0 else "")]
    return argv + _firmware_argv(job, folder) + _tpm_argv(job, folder)


def _firmware_argv(job: Job, folder: Path) -> list[str]:
    if job.install.firmware != UEFI:
        return ["-fw_cfg", f"name=etc/sercon-port,file={_value(folder / CONSOLE)}"]
    return [
        "-global", "driver=cfi.pflash01,property=secure,value=on",
        "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={CODE}",
        "-drive", f"if=pflash,unit=1,format=raw,file={_value(folder / VARIABLES.name)}",
    ]  # fmt: skip


def _tpm_argv(job: Job, folder: Path) -> list[str]:
    if not job.tpm:
        return []
    channel = f"socket,id=tpm,path={_value(folder / TPM / 'sock')}"
    return ["-chardev", channel, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"]


def _value(path: Path) -> str:
    """A path in one of QEMU's options, where a comma stands for two."""
    return str(path).replace(",", ",,")


def build(job: Job, folder: Path, *, accelerator: str, clock: Clock, report: Progress) -> Path:
    """Install into a new disk below ``folder``, and return it. Raises Missing, ProgramFailed."""
    _prepare(job, folder)
    report("installing Windows")

    def heard(text: str) -> None:
        said = line(text)
        if said:
            report(said)
        if STARTS_DISC in said and "CD" in said.upper().replace("DVD", "CD"):
            _press_keys(folder / MONITOR, clock)

    with contextlib.ExitStack() as stack:
        if job.tpm:
            state = folder / TPM
            state.mkdir(mode=0o700)
            ends_with_qemu = ["swtpm", "socket", "--tpm2", "--daemon", "--terminate", "--tpmstate", f"dir={state}"]
            run([*ends_with_qemu, "--pid", f"file={state / 'pid'}", "--ctrl", f"type=unixio,path={state / 'sock'}"])
            stack.callback(_end, state / "pid")
        stream(["timeout", f"{job.timeout_s:.0f}", *qemu_argv(job, folder, accelerator)], heard)
    return folder / DISK


def _prepare(job: Job, folder: Path) -> None:
    if job.install.firmware == UEFI:
        if not CODE.exists():
            raise Missing("UEFI's firmware is not installed", "apt-get install ovmf")
        shutil.copyfile(VARIABLES, folder / VARIABLES.name)
    (folder / CONSOLE).write_bytes(b"\xf8\x03")  # SeaBIOS's own: the port that it speaks on, the first serial one
    run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / DISK), f"{job.disk_gib}G"])
    (folder / ANSWERS).write_bytes(IsoSeeds().disc(winpe.LABEL, winpe.seed(job.install)))


def _press_keys(monitor: Path, clock: Clock) -> None:
    """Press Enter for some seconds, by QEMU's monitor."""
    press = {"execute": "send-key", "arguments": {"keys": [{"type": "qcode", "data": "ret"}]}}
    with socket.socket(socket.AF_UNIX) as to:
        to.settimeout(5.0)
        to.connect(str(monitor))
        to.sendall(json.dumps({"execute": "qmp_capabilities"}).encode())
        for _each in range(KEYS):
            to.sendall(json.dumps(press).encode())
            clock.wait(0.5)


def _end(pid_file: Path) -> None:
    """End the TPM if QEMU never came: else it has ended with QEMU."""
    if pid_file.exists():
        run(["kill", pid_file.read_text().strip()], check=False)
