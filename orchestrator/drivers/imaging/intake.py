"""Taking a disk file into the repository: look, unpack, convert, hash, keep. Interrupted anywhere, nothing is there."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.drivers.imaging.differencing import lay_over
from orchestrator.drivers.imaging.digest import content_digest, first_bytes
from orchestrator.drivers.imaging.meter import Meter
from orchestrator.drivers.imaging.opening import settled, synced, verdict_on
from orchestrator.drivers.imaging.qemu_img import LAYOUT, convert
from orchestrator.drivers.imaging.unpack import check_sha256, given_pieces, spool, unpack
from orchestrator.engine.imagery import check_drivers
from orchestrator.engine.inspector import COMPRESSIONS
from orchestrator.engine.inspector.traits import BYTES_LOOKED_AT, guess_traits
from orchestrator.errors import Refused, UserError
from orchestrator.model.image import MAX_VIRTUAL_BYTES, Image, Traits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from orchestrator.drivers.images import Repository
    from orchestrator.model.image import Verdict
    from orchestrator.ports import Clock, Progress

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class Offer:
    """What is to be taken in, and what was said of it: "" and nothing where nobody said.

    ``file``: a path, or ``-`` for standard input. ``traits``: fields of Traits by name, which overrule the guess.
    """

    name: str
    version: str
    file: str
    claimed: str
    sha256: str
    parent: str
    traits: Mapping[str, object]
    max_virtual_bytes: int = MAX_VIRTUAL_BYTES


@dataclass(frozen=True, slots=True)
class Intake:
    """Where images go, and who is told how far they are."""

    repository: Repository
    clock: Clock
    report: Progress

    def take(self, offer: Offer, here: Path) -> Image:
        """Take a file in; paths are relative to ``here``.

        Raises UserError for what may not be taken or is not what was said, Refused when a program fails, NoRoom.
        """
        self.repository.check_free(offer.name, offer.version)
        if "os" in offer.traits:  # else its partition table tells, which is read when it is unpacked
            check_drivers(offer.name, Traits(**offer.traits))  # type: ignore[arg-type]
        parent = self.repository.find(offer.parent) if offer.parent else None
        source = None if offer.file == STANDARD_INPUT else settled(here / offer.file)
        if source is not None:  # what is refused is refused before anything else is done
            self._judged(source, offer)
        with self.repository.incoming() as folder:
            given = source or self._from_standard_input(folder, offer)
            before = _identity(given)
            plain, verdict = self._plain(given, folder, offer)
            disk = folder / "disk.qcow2"
            if verdict.parent or parent is not None:
                plain, verdict = self._joined(plain, verdict, parent, folder)
            self._convert(plain, disk, LAYOUT, verdict)
            if _identity(given) != before:
                raise Refused(f"{offer.file} was changed while it was read", "run it again when nobody writes to it")
            return self._admitted(disk, offer, verdict)

    def _admitted(self, disk: Path, offer: Offer, verdict: Verdict) -> Image:
        traits = replace(guess_traits(first_bytes(disk, BYTES_LOOKED_AT)), **offer.traits)  # type: ignore[arg-type]
        check_drivers(offer.name, traits)
        digest = self._hashed(disk, verdict.virtual_bytes)
        image = Image(offer.name, offer.version, digest, 0, 0, 0.0, hashed="content", traits=traits)
        return self.repository.admit(disk, replace(image, identity=verdict.identity))

    def _from_standard_input(self, folder: Path, offer: Offer) -> Path:
        if sys.stdin.isatty():
            raise UserError("standard input is a terminal", "give a file, or pipe one in")
        meter = self._meter("reading standard input", 0)
        target = folder / "given"
        spool(given_pieces(sys.stdin.buffer, meter), target, limit=offer.max_virtual_bytes)
        return target

    def _plain(self, given: Path, folder: Path, offer: Offer) -> tuple[Path, Verdict]:
        """The file that is converted, unpacked if need be, and the verdict on it."""
        verdict = self._judged(given, offer)
        if offer.sha256:
            self.report("comparing the SHA-256")
            check_sha256(given, offer.sha256)
        if verdict.format not in COMPRESSIONS:
            return given, verdict
        target, size = folder / "unpacked", given.stat().st_size
        self.report(f"unpacking {verdict.format}")
        unpack(given, target, verdict.format, limit=offer.max_virtual_bytes, on_read=self._meter("unpacking", size))
        inner = self._judged(target, offer)
        if inner.format in COMPRESSIONS:
            raise UserError(f"{offer.file} is refused: it is compressed twice ({inner.format} in {verdict.format})")
        return target, inner

    def _judged(self, path: Path, offer: Offer) -> Verdict:
        """The verdict, if it is a good one. What is claimed is said of the disk, not of its compression."""
        verdict = verdict_on(path, "", offer.max_virtual_bytes)
        if verdict.format not in COMPRESSIONS and offer.claimed:
            verdict = verdict_on(path, offer.claimed, offer.max_virtual_bytes)
        if verdict.why:
            raise UserError(f"{offer.file} is refused: {verdict.why}")
        if verdict.parent and not offer.parent:
            raise UserError(
                f"{offer.file} is refused: it is a differencing VHD, and stands on the disk {verdict.parent}",
                "take that one in first, then this one with --parent NAME",
            )
        return verdict

    def _joined(self, child: Path, verdict: Verdict, parent: Image | None, folder: Path) -> tuple[Path, Verdict]:
        """A differencing disk and its parent as one raw disk."""
        if parent is None or not verdict.parent:
            raise UserError(f"--parent is for differencing disks; this {verdict.format} stands on no other")
        if parent.identity and parent.identity != verdict.parent:
            raise UserError(f"it stands on the disk {verdict.parent}, and {parent.reference} is {parent.identity}")
        whole = folder / "whole.raw"
        below = replace(verdict, format="qcow2")
        self._convert(self.repository.blob(parent.digest), whole, ("-O", "raw"), below)
        meter = self._meter("adding what differs", verdict.virtual_bytes)
        lay_over(child, whole, lambda share: meter(int(share * verdict.virtual_bytes)))
        return whole, replace(verdict, format="raw")

    def _convert(self, source: Path, target: Path, options: tuple[str, ...], verdict: Verdict) -> None:
        size = verdict.virtual_bytes
        meter = self._meter("converting", size)
        self.report("converting")
        convert(
            source,
            target,
            options,
            source_format=verdict.format,
            size=size,
            on_done=lambda share: meter(int(share * size)),
        )

    def _hashed(self, disk: Path, size: int) -> str:
        """The digest of what is stored; meanwhile it is brought to the disk, which waits for other things."""
        self.report("hashing")
        with ThreadPoolExecutor(1) as helper:
            on_disk = helper.submit(synced, disk)
            digest = content_digest(disk, self._meter("hashing", size))
            on_disk.result()
        return digest

    def _meter(self, what: str, total: int) -> Callable[[int], None]:
        return Meter(what, total, self.clock, self.report).at


def _identity(path: Path) -> tuple[int, ...]:
    """Which file it is, and when it was changed last: the kernel's own time (ctime), which no writer can set back."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns
