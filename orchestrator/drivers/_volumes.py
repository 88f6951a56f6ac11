"""Disks of instances in a pool: made, enlarged, copied and streamed, always sparse and never as a whole in memory."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import libvirt

from orchestrator.drivers._libvirt import is_full
from orchestrator.errors import NoRoom, Refused
from orchestrator.render.domain import device_of
from orchestrator.render.volume import backup_xml

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from typing import BinaryIO

    from orchestrator.drivers._pool import Pool
    from orchestrator.model.names import MachineId, VolumeId
    from orchestrator.ports import Progress

MIB = 1024**2
PIECE_BYTES = MIB
# What one download may bring: libvirt's client reads ahead without a limit (measured: 630 MB for a slow reader).
WINDOW_BYTES = 32 * MIB
ZEROS = bytes(4 * MIB)
AT_HOLE = -3
BACKUP_S = 3600.0
ABORT_S = 60.0
POLL_S = 0.1


class Volumes:
    """The disks in one pool. ``coming`` and ``.ok`` are markers: libvirt renames no volume, and a daemon can die."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def create(self, file: str, size_bytes: int) -> None:
        if self._pool.has(file):
            return
        self._pool.need(file)
        if not self._pool.has(file):  # libvirt has looked at the folder once more: it could have been put there by hand
            self._pool.make(file, size_bytes)

    def grow(self, file: str, size_bytes: int, domain: str) -> None:
        with self._pool.connection.errors(f"enlarging {file}"):
            volume = self._pool.volume(file)
            if volume.info()[1] >= size_bytes:
                return
            if domain:
                running = self._pool.connection.get().lookupByName(domain)
                running.blockResize(volume.path(), size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
            else:
                volume.resize(size_bytes)

    @contextlib.contextmanager
    def export(self, file: str) -> Iterator[Iterator[bytes]]:
        with contextlib.closing(self._pieces(file)) as pieces:
            yield pieces

    def _pieces(self, file: str) -> Generator[bytes, None, None]:
        with self._pool.connection.errors(f"reading {file}"):
            volume = self._pool.volume(file)
            size_bytes = volume.info()[1]
            for offset in range(0, size_bytes, WINDOW_BYTES):
                length = min(WINDOW_BYTES, size_bytes - offset)
                yield from _download(self._pool.connection.get(), volume, offset, length)

    def bring(self, volume: VolumeId, size_bytes: int, pieces: Iterator[bytes], report: Progress) -> None:
        """Store a volume from elsewhere."""
        self._pool.mark(volume.coming)
        self._pool.remove(volume.file)
        try:
            self._pool.make(volume.file, size_bytes)
            with self._pool.writing(volume.file, f"writing {volume.file}"):
                counted = _exactly(told(pieces, f"copying {volume}", size_bytes, report), size_bytes, str(volume))
                upload(self._pool.connection.get(), self._pool.volume(volume.file), counted)
        except NoRoom:
            self._pool.remove(volume.file)
            self._pool.remove(volume.coming)
            raise
        self._pool.remove(volume.coming)

    def snapshot(self, volume: VolumeId, name: str, domain: str) -> None:
        file, marker = volume.snapshot(name), volume.snapshot_marker(name)
        if self._pool.has(marker):
            return
        if self._pool.has(volume.coming):
            raise Refused(f"the volume {volume} on host {self._pool.connection.host} is not whole")
        running = self._running(domain) if domain else None
        if running is not None:
            self._end_backup(running, file)
        self._pool.refresh()  # QEMU may have begun a copy that libvirt's list does not have
        self._pool.remove(file)
        capacity, allocation = self._pool.usage_of(volume.file)
        # QEMU's copy has no holes (measured, 7.2): it writes zeros where the volume has nothing.
        self._pool.need(f"a snapshot of {volume}", allocation if running is None else capacity)
        with self._pool.writing(file, f"copying {volume}"):
            if running is None:
                self._pool.make(file, capacity, like=volume.file)
            else:
                self._back_up(running, volume, file)
            self._pool.mark(marker)

    def _back_up(self, domain: libvirt.virDomain, volume: VolumeId, file: str) -> None:
        device = device_of(domain.XMLDesc(), f"{self._pool.path}/{volume.file}")
        if not device:
            raise Refused(f"host {self._pool.connection.host}: domain {domain.name()} does not have {volume} open")
        domain.backupBegin(backup_xml(device, f"{self._pool.path}/{file}"), None)
        try:
            self._await_backup(domain, file, f"copying {volume}")
        finally:
            self._pool.refresh()

    def restore(self, volume: VolumeId, name: str) -> None:
        """Put a volume back to what it was. On a full disk ``coming`` stays: it says that the volume was there."""
        snapshot = volume.snapshot(name)
        if not self._pool.has(volume.snapshot_marker(name)) or not self._pool.has(snapshot):
            raise Refused(f"there is no whole snapshot {name} of {volume} on host {self._pool.connection.host}")
        capacity, allocation = self._pool.usage_of(snapshot)
        freed = self._pool.usage_of(volume.file)[1] if self._pool.has(volume.file) else 0
        self._pool.need(f"the snapshot {name} of {volume}", max(0, allocation - freed))
        self._pool.mark(volume.coming)
        self._pool.remove(volume.file)
        self._pool.make(volume.file, capacity, like=snapshot)
        self._pool.remove(volume.coming)

    def flatten(self, machine: MachineId) -> None:
        """Make a raw file of a machine's whole disk; qemu-img, run by libvirt, reads the overlay and its base."""
        self._pool.remove(machine.flat)
        capacity, allocation = self._pool.usage_of(machine.overlay)
        self._pool.need(f"the whole disk of {machine}", allocation)
        with self._pool.writing(machine.flat, f"flattening {machine.overlay}"):
            self._pool.make(machine.flat, capacity, like=machine.overlay)

    def _running(self, domain: str) -> libvirt.virDomain:
        with self._pool.connection.errors(f"looking for domain {domain}"):
            return self._pool.connection.get().lookupByName(domain)

    def _end_backup(self, domain: libvirt.virDomain, file: str) -> None:
        """End a copy to ``file`` that another process of ours began and did not live to see the end of."""
        deadline = time.monotonic() + ABORT_S
        with self._pool.connection.errors(f"ending an old copy to {file}"):
            while file in _backup_of(domain) and time.monotonic() < deadline:
                domain.abortJob()
                _pause()

    def _await_backup(self, domain: libvirt.virDomain, file: str, what: str) -> None:
        deadline = time.monotonic() + BACKUP_S
        while file in _backup_of(domain):
            if time.monotonic() > deadline:
                domain.abortJob()
                break
            _pause()
        done = domain.jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        if done.get("type") != libvirt.VIR_DOMAIN_JOB_COMPLETED:
            text = f"host {self._pool.connection.host}: {what}: {done.get('errmsg', 'it was ended')}"
            raise NoRoom(text) if is_full(text) else Refused(text)


def upload(connection: libvirt.virConnect, volume: libvirt.virStorageVol, pieces: Iterable[bytes]) -> None:
    """Write ``pieces`` into a new volume from its beginning; those that are nothing but zeros become holes."""
    stream = connection.newStream()
    volume.upload(stream, 0, 0, libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM)
    with _aborting(stream):
        for piece in pieces:
            if ZEROS.startswith(piece):
                stream.sendHole(len(piece))
                continue
            rest = piece
            while rest:
                rest = rest[stream.send(rest) :]
        stream.finish()


def pieces_of(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(PIECE_BYTES), b"")


def told(pieces: Iterable[bytes], what: str, size_bytes: int, report: Progress) -> Iterator[bytes]:
    """The same pieces, with a report now and then of how many have passed."""
    done = reported = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        if done - reported >= 64 * MIB:
            reported = done
            report(f"{what}: {done // MIB} of {size_bytes // MIB} MiB")


def _exactly(pieces: Iterable[bytes], size_bytes: int, what: str) -> Iterator[bytes]:
    """The same pieces; a source that ends too early, or does not end, is no copy."""
    done = 0
    for piece in pieces:
        done += len(piece)
        if done > size_bytes:
            break
        yield piece
    if done != size_bytes:
        raise Refused(f"{what} has {size_bytes} bytes, but another number of them came")


def _download(
    connection: libvirt.virConnect, volume: libvirt.virStorageVol, offset: int, length: int
) -> Iterator[bytes]:
    stream = connection.newStream()
    volume.download(stream, offset, length, libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM)
    with _aborting(stream):
        while got := stream.recvFlags(PIECE_BYTES, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE):
            if isinstance(got, bytes):
                yield got
            elif got == AT_HOLE:
                yield from _zeros(stream.recvHole())
            else:
                raise Refused(f"libvirt's stream says {got}")
        stream.finish()


def _zeros(length: int) -> Iterator[bytes]:
    for offset in range(0, length, len(ZEROS)):
        yield ZEROS[: length - offset]


@contextlib.contextmanager
def _aborting(stream: libvirt.virStream) -> Iterator[None]:
    """A stream that nobody ends keeps its file busy at the daemon."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(libvirt.libvirtError):
            stream.abort()
        raise


def _backup_of(domain: libvirt.virDomain) -> str:
    """What is being backed up, in libvirt's words; "" if nothing is."""
    try:
        return domain.backupGetXMLDesc()
    except libvirt.libvirtError as error:
        if error.get_error_code() in {libvirt.VIR_ERR_NO_DOMAIN_BACKUP, libvirt.VIR_ERR_OPERATION_INVALID}:
            return ""
        raise


def _pause() -> None:
    time.sleep(POLL_S)  # noqa: TID251 - inside a bounded wait for libvirt's own work
