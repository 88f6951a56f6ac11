"""Our storage pool on one host: volumes in, out and away, all through libvirt, so that a remote host is the same.

libvirt cannot rename a volume. A base is therefore there only when its empty marker is there too, which is made last.
"""

from __future__ import annotations

import contextlib
import io
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import libvirt
from lxml import etree

from orchestrator.drivers._volumes import pieces_of, told, upload
from orchestrator.errors import Busy, NoRoom, NotFound, Refused, VmroleError
from orchestrator.model.names import (
    base_marker,
    base_volume,
    digest_of_volume,
    machine_of_volume,
    parse_disk,
    pool_name,
)
from orchestrator.render.volume import (
    base_volume_xml,
    file_state,
    overlay_xml,
    pool_path,
    pool_xml,
    raw_volume_xml,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.drivers._libvirt import Connection
    from orchestrator.model.names import MachineId
    from orchestrator.ports import Progress

REFRESH_S = 4.0  # how long a file that was changed behind libvirt's back may go unnoticed
PATIENCE_S = 30.0  # how long libvirt may be making files of ours before it has to look at the folder again
RESERVE_BYTES = 16 * 1024**2
CONSOLE_BYTES = 16 * 1024
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """A pool that is there and active; the fields are those of HostSeen."""

    volumes: frozenset[str]
    free_bytes: int
    sizes: dict[str, int]
    altered: frozenset[str]


def _is_lasting(file: str) -> bool:
    disk = parse_disk(file)
    return disk is not None and not disk.place


class Pool:
    """The pool of one owner on one host."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self.connection = connection
        self.path = pool_path(owner)
        self._owner = owner
        self._refreshed_at = float("-inf")
        self._marks: dict[str, str] = {}  # marker of a base → what it says, read once

    def observe(self) -> PoolSeen | None:
        """What is in it; None if it is not there or not active."""
        try:
            pool = self._pool()
        except NotFound:
            return None
        with self.connection.errors("listing the pool"):
            if not pool.isActive():
                return None
            if time.monotonic() - self._refreshed_at > REFRESH_S:
                self._refresh(pool)
            listed = {volume.name(): volume for volume in pool.listAllVolumes()}
            free_bytes = pool.info()[3]
        sizes, altered, lost = {}, set(), set()
        for name, volume in listed.items():
            digest = digest_of_volume(name)
            try:
                with self.connection.errors(f"looking at {name}"):
                    if _is_disk(name):
                        sizes[name] = volume.info()[1]
                    elif digest and name == base_volume(digest) and base_marker(digest) in listed:
                        altered |= {digest} if self._is_altered(digest, file_state(volume.XMLDesc())) else set()
            except NotFound:  # somebody deleted it since it was listed
                lost.add(name)
        return PoolSeen(frozenset(listed) - lost, free_bytes, sizes, frozenset(altered))

    def base_of(self, overlay: str) -> str:
        with self.connection.errors(f"looking at {overlay}"):
            root = etree.fromstring(self._pool().storageVolLookupByName(overlay).XMLDesc())
        return digest_of_volume(root.findtext("backingStore/path", "").rpartition("/")[2]) or ""

    def _is_altered(self, digest: str, now: str) -> bool:
        """Whether a base is another than when it was marked.

        Before it is said, the marker is read again: another process may have placed the base anew. A marker that says
        nothing is of an older version, or its writer was killed; it says no less that the base came whole.
        """
        marker = base_marker(digest)
        if self._marks.get(marker) != now:
            self._marks[marker] = self.tail(marker).decode(errors="replace").strip("\0")
        return bool(now) and self._marks[marker] not in {"", now}

    def create(self) -> None:
        with self.connection.errors("making the pool"):
            pool = self.connection.get().storagePoolDefineXML(pool_xml(self._owner))
            if not pool.isActive():
                pool.build()
                pool.create()
            self._refreshed_at = time.monotonic()

    def delete(self) -> None:
        """Remove the pool with whatever is still in it. Nothing to do if there is none.

        Raises Refused when there is a volume in it, or a snapshot of one: those are never deleted in passing.
        """
        with contextlib.suppress(NotFound), self.connection.errors("removing the pool"):
            pool = self._pool()
            if not pool.isActive():
                pool.create()
            self._refresh(pool, PATIENCE_S)
            if lasting := [v.name() for v in pool.listAllVolumes() if _is_lasting(v.name())]:
                raise Refused(f"the pool on host {self.connection.host} has volumes in it: {', '.join(lasting)}")
            for volume in pool.listAllVolumes():
                volume.delete()
            pool.destroy()
            pool.delete()
            pool.undefine()

    def place_image(self, digest: str, source: Path, report: Progress) -> None:
        size_bytes = source.stat().st_size
        base = base_volume(digest)
        self.remove(base_marker(digest))
        self.remove(base)
        self.need(f"the image {digest[:19]}", size_bytes)
        with source.open("rb") as file, self.writing(base, f"uploading image {digest[:19]}"):
            volume = self._pool().createXML(base_volume_xml(digest, size_bytes))
            upload(self.connection.get(), volume, told(pieces_of(file), "uploading the image", size_bytes, report))
        with self.connection.errors("looking at the image again"):
            # After a refresh libvirt knows the base as the qcow2 that it is, and so its virtual size.
            self._refresh(self._pool(), PATIENCE_S)
            state = file_state(self.volume(base).XMLDesc())
        self.put(base_marker(digest), state.encode(), "0444")

    def create_overlay(self, machine: MachineId, digest: str, size_bytes: int) -> None:
        if not self.has(base_marker(digest)):
            raise Refused(f"host {self.connection.host}: the image {digest[:19]} is not there whole")
        self.remove(machine.overlay)
        self.need(machine.overlay)
        with self.writing(machine.overlay, f"making overlay {machine.overlay}"):
            base_bytes = self.volume(base_volume(digest)).info()[1]
            xml = overlay_xml(machine, digest, max(size_bytes, base_bytes), self._owner)
            self._pool().createXML(xml)

    def put(self, name: str, content: bytes, mode: str) -> None:
        """Store a small file, in place of one of that name."""
        self.remove(name)
        self.need(name, len(content))
        with self.writing(name, f"writing {name}"):
            volume = self._pool().createXML(raw_volume_xml(name, len(content), mode))
            if content:
                upload(self.connection.get(), volume, pieces_of(io.BytesIO(content)))

    def make(self, name: str, size_bytes: int, like: str = "") -> None:
        """Make a sparse file, empty or with the content of the file ``like``."""
        xml = raw_volume_xml(name, size_bytes, "0600")
        with self.writing(name, f"making {name}"):
            if like:
                self._pool().createXMLFrom(xml, self.volume(like))
            else:
                self._pool().createXML(xml)

    def mark(self, name: str) -> None:
        """Make an empty file. One that is there is never gone meanwhile: it tells what its neighbour is."""
        if not self.has(name):
            self.put(name, b"", "0600")

    def has(self, name: str) -> bool:
        try:
            with self.connection.errors(f"looking for {name}"):
                self.volume(name).info()  # has libvirt look for the file, too
        except NotFound:
            return False
        return True

    def tail(self, name: str) -> bytes:
        """Read the last kilobytes of a file; empty if there is none."""
        read = bytearray()
        with contextlib.suppress(NotFound), self.connection.errors(f"reading {name}"):
            volume = self.volume(name)
            size_bytes = volume.info()[1]
            if size_bytes:
                stream = self.connection.get().newStream()
                # So many bytes and no more: a guest may write its console faster than it is read.
                length = min(size_bytes, CONSOLE_BYTES)
                volume.download(stream, size_bytes - length, length)
                stream.recvAll(lambda _stream, data, into: into.extend(data), read)
                stream.finish()
        return bytes(read)

    def remove(self, name: str) -> None:
        """Delete a file. Nothing to do if there is none."""
        self._marks.pop(name, None)
        with contextlib.suppress(NotFound), self.connection.errors(f"deleting {name}"):
            self.volume(name).delete()

    def usage(self) -> dict[str, tuple[int, int]]:
        """Capacity and allocation of every disk file, in bytes."""
        with self.connection.errors("listing the disks"):
            self._refresh(self._pool())
            volumes = [volume for volume in self._pool().listAllVolumes() if _is_disk(volume.name())]
            return {volume.name(): (info[1], info[2]) for volume in volumes for info in [volume.info()]}

    def usage_of(self, name: str) -> tuple[int, int]:
        """Capacity and allocation of one file, in bytes."""
        with self.connection.errors(f"looking at {name}"):
            _kind, capacity, allocation = self.volume(name).info()
        return capacity, allocation

    def refresh(self) -> None:
        """Have libvirt find files that it did not make."""
        with self.connection.errors("looking at the pool again"):
            self._refresh(self._pool(), PATIENCE_S)

    def volume(self, name: str) -> libvirt.virStorageVol:
        with self.connection.errors(f"looking for {name}"):
            return self._pool().storageVolLookupByName(name)

    def need(self, what: str, size_bytes: int = 0) -> None:
        """Raise NoRoom unless there is room for ``size_bytes``, and some more."""
        with self.connection.errors("asking for the pool's free space"):
            self._refresh(self._pool())
            free = self._pool().info()[3]
        if free < size_bytes + RESERVE_BYTES:
            raise NoRoom(
                f"host {self.connection.host}: no room for {what}: {self.path} has {free // MIB} MiB "
                f"free, {(size_bytes + RESERVE_BYTES) // MIB} MiB are needed",
                "free some room there, then run the same command again",
            )

    @contextlib.contextmanager
    def writing(self, name: str, what: str) -> Iterator[None]:
        """Translate errors while the file ``name`` is written. On a full disk what was begun of it is removed."""
        try:
            with self.connection.errors(what):
                yield
        except NoRoom as error:
            with contextlib.suppress(VmroleError):
                self.remove(name)
            text = error.message.strip()
            where = "" if self.path in text else f" (no room for {name} in {self.path})"
            raise NoRoom(text + where, error.hint) from error

    def _refresh(self, pool: libvirt.virStoragePool, patience_s: float = 0.0) -> None:
        """Have libvirt look at the folder, which it refuses while it makes a file there; without patience, never mind.

        Raises Busy.
        """
        deadline = time.monotonic() + patience_s
        while not _is_refreshed(pool):
            if not patience_s:
                return
            if time.monotonic() > deadline:
                raise Busy(f"host {self.connection.host}: libvirt is making files in {self.path} and does not end")
            time.sleep(0.1)  # noqa: TID251 - inside a bounded wait for libvirt's own work
        self._refreshed_at = time.monotonic()

    def _pool(self) -> libvirt.virStoragePool:
        with self.connection.errors("looking for the pool"):
            return self.connection.get().storagePoolLookupByName(pool_name(self._owner))


def _is_refreshed(pool: libvirt.virStoragePool) -> bool:
    try:
        pool.refresh()
    except libvirt.libvirtError as error:
        if "asynchronous jobs" in error.get_error_message():
            return False
        raise
    return True


def _is_disk(name: str) -> bool:
    """Whether a file is a disk beside an overlay, or a snapshot of one."""
    disk = parse_disk(name)
    return not disk.is_marker if disk else name.endswith(".clean.raw") and machine_of_volume(name) is not None
