"""Finds out whether KVM really runs 64-bit guests on this machine, by running one.

`/dev/kvm` that is there, opens and makes a VM proves nothing: there are machines where a stock kernel then hangs at its
first instructions. So `accelerator_proof.S`, which does what a kernel does in its first second,
has to report success within a few seconds. The answer is remembered for this boot, kernel and QEMU, never longer.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers.process import run
from orchestrator.errors import TransientError

if TYPE_CHECKING:
    from orchestrator.config.site import Accelerator

QEMU = "qemu-system-x86_64"
KVM_DEVICE = Path("/dev/kvm")
CACHE_FILE = "accelerator.json"
PROOF_TIMEOUT_S = 5.0
SENTINEL = 0x2A
CPU: dict[Accelerator, str] = {"kvm": "host", "tcg": "max"}


def proven_accelerator(cache_dir: Path) -> Accelerator:
    """Say "kvm" if a 64-bit payload has run under it on this machine since it booted, else "tcg".

    Takes up to 5 s the first time, then milliseconds. Raises Missing without QEMU.
    """
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return "tcg"  # not remembered: the module may be loaded, or the user let in, later
    key = machine_key()
    known = _remembered(cache_dir / CACHE_FILE, key)
    if known is not None:
        return known
    found: Accelerator = "kvm" if runs_payload("kvm") else "tcg"
    with suppress(OSError):  # a cache that cannot be written only costs time
        _remember(cache_dir / CACHE_FILE, key, found)
    return found


def runs_payload(accelerator: Accelerator, *, cpu: str = "", timeout_s: float = PROOF_TIMEOUT_S) -> bool:
    """Whether the payload, run under ``accelerator``, reports that all its checks held, within ``timeout_s``."""
    with tempfile.TemporaryDirectory(prefix="vmrole-proof-") as folder:
        kernel = Path(folder, "proof")
        kernel.write_bytes(payload())
        argv = [QEMU, "-accel", accelerator, "-cpu", cpu or CPU[accelerator], "-machine", "q35", "-m", "32"]
        argv += ["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-kernel", str(kernel)]
        argv += ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        try:
            # isa-debug-exit makes QEMU's exit code of the value: always odd, so no other end can be mistaken for it.
            return run(argv, timeout_s=timeout_s, check=False).code == 2 * SENTINEL + 1
        except TransientError:
            return False


def payload() -> bytes:
    """The assembled `accelerator_proof.S`, a multiboot kernel."""
    return bytes.fromhex(Path(__file__).with_name("accelerator_proof.hex").read_text())


def machine_key() -> str:
    """Changes whenever an answer may have become wrong: with a reboot, another kernel, another QEMU."""
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    qemu = run([QEMU, "--version"]).stdout.partition("\n")[0]
    return " | ".join((boot_id, os.uname().release, qemu))


def _remembered(path: Path, key: str) -> Accelerator | None:
    try:
        raw = json.loads(path.read_text())
        if raw["key"] != key:
            return None
        return {"kvm": "kvm", "tcg": "tcg"}[raw["accelerator"]]  # type: ignore[return-value]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(path: Path, key: str, accelerator: Accelerator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps({"key": key, "accelerator": accelerator}))
    fresh.replace(path)
