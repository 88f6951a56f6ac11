"""Giving a stored image out, in any format; the file has its name only when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers._files import sync_folder
from orchestrator.drivers.imaging.meter import Meter
from orchestrator.drivers.imaging.opening import synced
from orchestrator.drivers.imaging.qemu_img import DRIVERS, EXPORTS, convert
from orchestrator.errors import Refused, UserError

if TYPE_CHECKING:
    from orchestrator.ports import Clock, Progress


def give_out(blob: Path, target: Path, kind: tuple[str, bool], size: int, clock: Clock, report: Progress) -> str:
    """Write an image of ``size`` bytes to ``target``; the SHA-256 of the file. ``kind``: format, and if compressed.

    Raises UserError when the format cannot be compressed or the folder is not there, Refused, NoRoom.
    """
    if kind not in EXPORTS:
        raise UserError(f"{kind[0]} cannot be compressed", "qcow2 and vmdk can; or use gzip, xz or zstd on the file")
    options = ("-O", DRIVERS[kind[0]], *EXPORTS[kind])
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from error
    os.close(handle)
    fresh = Path(name)
    meter = Meter("writing", size, clock, report)
    try:
        convert(
            blob, fresh, options, source_format="qcow2", size=size, on_done=lambda share: meter.at(int(share * size))
        )
        report("hashing")
        synced(fresh)
        with fresh.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        fresh.chmod(0o644)
        fresh.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
    return digest
