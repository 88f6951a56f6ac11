"""`vmrole image build --windows-iso`: a Windows image from Microsoft's disc."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.image_intake import open_repository, parsed
from orchestrator.errors import NotFound, UserError

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.model.image import Image
    from orchestrator.ports import Progress


def build_windows(context: Context, target: str, said: dict[str, object], report: Progress) -> Image:
    """Install from these discs and take the disk in. ``said``: the command's options. Raises VmroleError."""
    from orchestrator.drivers.accelerator import proven_accelerator
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.imaging.intake import Intake, Offer
    from orchestrator.drivers.winbuild import DISK, Job, build
    from orchestrator.render.winpe import Install

    firmware, has_tpm = str(said["firmware"]), bool(said["tpm"])
    windows_iso, virtio_iso = _disc(said["windows_iso"]), _disc(said["virtio_iso"])
    # It counts until sysprep only; the policy for passwords wants of everything something.
    password = f"aA1-{secrets.token_hex(12)}"
    install = Install(str(said["edition"]), firmware, str(said["virtio_folder"]), password)
    job, repository, clock = Job(install, windows_iso, virtio_iso, tpm=has_tpm), open_repository(context), SystemClock()
    name, version = parsed(target)
    repository.check_free(name, version)
    with repository.incoming() as folder:
        build(job, folder, accelerator=proven_accelerator(context.cache_dir), clock=clock, report=report)
        traits = {"os": "windows", "firmware": firmware, "tpm": has_tpm, "virtio": True}
        return Intake(repository, clock, report).take(Offer(name, version, DISK, "qcow2", "", "", traits), folder)


def _disc(path: object) -> Path:
    if not isinstance(path, Path):
        raise UserError("both discs are needed", "give --windows-iso and --virtio-iso")
    if not path.is_file():
        raise NotFound(f"there is no disc {path}", "give the path of an ISO file")
    return path.absolute()
