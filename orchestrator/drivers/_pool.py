"""Our storage pool on one host: volumes in, out and away, all through libvirt, so that a remote host is the same.

libvirt cannot rename a volume. A base is therefore there only when its empty marker is there too, which is made last.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from orchestrator.errors import NotFound, Refused
from orchestrator.model.names import base_marker, base_volume, pool_name
from orchestrator.render.volume import base_volume_xml, overlay_xml, pool_path, pool_xml, raw_volume_xml

if TYPE_CHECKING:
    from pathlib import Path

    import libvirt

    from orchestrator.drivers._libvirt import Connection
    from orchestrator.model.names import MachineId
    from orchestrator.ports import Progress

REFRESH_S = 30.0  # how long a file that was deleted behind libvirt's back may go unnoticed
RESERVE_BYTES = 16 * 1024**2
CONSOLE_BYTES = 16 * 1024
MIB = 1024**2


class Pool:
    """The pool of one owner on one host."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self._connection = connection
        self._owner = owner
        self._refreshed_at = float("-inf")

    def observe(self) -> tuple[bool, frozenset[str], int]:
        """Whether it is there and active, the names in it, and its free bytes."""
        try:
            pool = self._pool()
        except NotFound:
            return False, frozenset(), 0
        with self._connection.errors("listing the pool"):
            if not pool.isActive():
                return False, frozenset(), 0
            if time.monotonic() - self._refreshed_at > REFRESH_S:
                pool.refresh()
                self._refreshed_at = time.monotonic()
            return True, frozenset(volume.name() for volume in pool.listAllVolumes()), pool.info()[3]

    def create(self) -> None:
        with self._connection.errors("making the pool"):
            pool = self._connection.get().storagePoolDefineXML(pool_xml(self._owner))
            if not pool.isActive():
                pool.build()
                pool.create()
            self._refreshed_at = time.monotonic()

    def delete(self) -> None:
        """Remove the pool with whatever is still in it. Nothing to do if there is none."""
        with contextlib.suppress(NotFound), self._connection.errors("removing the pool"):
            pool = self._pool()
            if not pool.isActive():
                pool.create()
            pool.refresh()
            for volume in pool.listAllVolumes():
                volume.delete()
            pool.destroy()
            pool.delete()
            pool.undefine()

    def place_image(self, digest: str, source: Path, report: Progress) -> None:
        size_bytes = source.stat().st_size
        self.remove(base_marker(digest))
        self.remove(base_volume(digest))
        self._need(size_bytes, f"the image {digest[:19]}")
        self._upload_base(digest, source, size_bytes, report)
        with self._connection.errors("marking the image as complete"):
            # After a refresh libvirt knows the base as the qcow2 that it is, and so its virtual size.
            self._pool().refresh()
            self._pool().createXML(raw_volume_xml(base_marker(digest), 0, "0444"))

    def _upload_base(self, digest: str, source: Path, size_bytes: int, report: Progress) -> None:
        connection = self._connection.get()
        with self._connection.errors(f"uploading image {digest[:19]}"), source.open("rb") as file:
            volume = self._pool().createXML(base_volume_xml(digest, size_bytes))
            stream = connection.newStream()
            volume.upload(stream, 0, size_bytes)
            told = 0

            def chunk(_stream: libvirt.virStream, wanted: int, _opaque: object) -> bytes:
                nonlocal told
                if file.tell() - told > 64 * MIB:
                    told = file.tell()
                    report(f"uploading the image: {told // MIB} of {size_bytes // MIB} MiB")
                return file.read(wanted)

            stream.sendAll(chunk, None)
            stream.finish()

    def create_overlay(self, machine: MachineId, digest: str, size_bytes: int) -> None:
        if not self.has(base_marker(digest)):
            raise Refused(f"host {self._connection.host}: the image {digest[:19]} is not there whole")
        self.remove(machine.overlay)
        self._need(0, f"the overlay {machine.overlay}")
        with self._connection.errors(f"making overlay {machine.overlay}"):
            base_bytes = self._pool().storageVolLookupByName(base_volume(digest)).info()[1]
            xml = overlay_xml(machine, digest, max(size_bytes, base_bytes), self._owner)
            self._pool().createXML(xml)

    def put(self, name: str, content: bytes, mode: str) -> None:
        """Store a small file, in place of one of that name."""
        self.remove(name)
        self._need(len(content), name)
        with self._connection.errors(f"writing {name}"):
            volume = self._pool().createXML(raw_volume_xml(name, len(content), mode))
            if content:
                stream = self._connection.get().newStream()
                volume.upload(stream, 0, len(content))
                parts = iter([content])
                stream.sendAll(lambda _stream, _wanted, _opaque: next(parts, b""), None)
                stream.finish()

    def has(self, name: str) -> bool:
        try:
            with self._connection.errors(f"looking for {name}"):
                self._pool().storageVolLookupByName(name)
        except NotFound:
            return False
        return True

    def tail(self, name: str) -> bytes:
        """Read the last kilobytes of a file; empty if there is none."""
        read = bytearray()
        with contextlib.suppress(NotFound), self._connection.errors(f"reading {name}"):
            volume = self._pool().storageVolLookupByName(name)
            size_bytes = volume.info()[1]
            stream = self._connection.get().newStream()
            volume.download(stream, max(0, size_bytes - CONSOLE_BYTES), 0)
            stream.recvAll(lambda _stream, data, into: into.extend(data), read)
            stream.finish()
        return bytes(read)

    def remove(self, name: str) -> None:
        """Delete a file. Nothing to do if there is none."""
        with contextlib.suppress(NotFound), self._connection.errors(f"deleting {name}"):
            self._pool().storageVolLookupByName(name).delete()

    def _need(self, size_bytes: int, what: str) -> None:
        with self._connection.errors("asking for the pool's free space"):
            self._pool().refresh()
            free = self._pool().info()[3]
        if free < size_bytes + RESERVE_BYTES:
            raise Refused(
                f"host {self._connection.host}: no room for {what}: {pool_path(self._owner)} has {free // MIB} MiB "
                f"free, {(size_bytes + RESERVE_BYTES) // MIB} MiB are needed",
                "free some room there, then run the same command again",
            )

    def _pool(self) -> libvirt.virStoragePool:
        with self._connection.errors("looking for the pool"):
            return self._connection.get().storagePoolLookupByName(pool_name(self._owner))
