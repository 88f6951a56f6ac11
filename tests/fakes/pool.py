"""A host's storage pool in memory, and the rules of who may touch a file that a domain has open."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import HostAway, NoRoom, NotFound, Refused
from orchestrator.model.names import (
    DeploymentCopy,
    MachineId,
    VolumeId,
    base_marker,
    base_volume,
    digest_of_volume,
    machine_of_volume,
    parse_disk,
    parse_machine,
)
from orchestrator.model.world import Power

from .clock import FakeClock
from .faults import Faults, Harm

FREE_BYTES = 100 * 1024**3


@dataclass(frozen=True)
class Domain:
    """A domain: ``boots`` counts its starts, ``since`` is when the last one was; the rest is as in DomainSeen.

    ``asked``: when its guest was first asked to shut down.
    """

    owner: str
    digest: str
    power: Power = Power.OFF
    boots: int = 0
    since: float = 0.0
    machine: MachineId | None = None
    why: str = ""
    is_persistent: bool = True
    files: frozenset[str] = frozenset()
    place: int = 1
    spec: str = ""
    asked: float | None = None
    is_guarded: bool = True


@dataclass(frozen=True)
class Volume:
    """A file. ``base``: the digest below an overlay. ``has_run``: a guest has written into it."""

    base: str = ""
    has_run: bool = False
    size_bytes: int = 0
    content: str = ""


def open_gate() -> threading.Event:
    """A gate that lets everybody through until it is cleared."""
    gate = threading.Event()
    gate.set()
    return gate


class FakePool:
    """``altered``: digests of bases that somebody wrote into. ``gate``: nothing answers until it is open. For tests."""

    def __init__(self, name: str, owner: str, clock: FakeClock, faults: Faults) -> None:
        self._name = name
        self._owner = owner
        self._clock = clock
        self._faults = faults
        self.is_away = False
        self.gate = open_gate()
        self.has_pool = False
        self.free_bytes = FREE_BYTES
        self.domains: dict[str, Domain] = {}
        self.volumes: dict[str, Volume] = {}
        self.altered: set[str] = set()

    @property
    def name(self) -> str:
        return self._name

    def _answer(self) -> None:
        self.gate.wait()
        if self.is_away:
            raise HostAway(f"host {self._name} does not answer")

    def effect(self, name: str, subject: str = "") -> None:
        """For what is done to a guest by other ways than the host's own."""
        self._effect(name, subject)

    def _effect(self, name: str, subject: str = "") -> None:
        self._answer()
        self._faults.effect(name, subject)

    def _need_pool(self, what: str) -> None:
        if not self.has_pool:
            raise NotFound(f"host {self._name}: {what}: no storage pool")

    def _need(self, what: str, size_bytes: int = 1) -> None:
        self._need_pool(what)
        if self.free_bytes < size_bytes:
            raise NoRoom(f"host {self._name}: no room for {what}")

    def _users(self, file: str) -> list[str]:
        """Domains of any name that have the file open now."""
        return [n for n, d in list(self.domains.items()) if file in d.files and d.power is not Power.OFF]

    def _refuse_in_use(self, file: str, what: str) -> None:
        if self._users(file):
            raise Harm(f"{file} on {self._name} is {what} while {self._users(file)} have it open")

    def create_pool(self) -> None:
        self._effect("create_pool")
        self.has_pool = True

    def delete_pool(self) -> None:
        self._effect("delete_pool")
        if any(domain.owner == self._owner for domain in self.domains.values()):
            raise Harm(f"the pool of {self._name} is deleted under a domain")
        for file in self.volumes:
            self._refuse_in_use(file, "deleted")
            disk = parse_disk(file)
            if disk is not None and not disk.place and not disk.is_marker:
                raise Harm(f"the pool of {self._name} is deleted with the volume {file}")
        self.volumes.clear()
        self.has_pool = False

    def place_image(self, digest: str, source: Path, report: Callable[[str], None]) -> None:
        self._effect("place_image", digest)
        self._need_pool("uploading")
        if {base_volume(digest), base_marker(digest)} <= set(self.volumes) and digest not in self.altered:
            self._free(base_volume(digest))
        report(f"uploading {source}")
        self.volumes.pop(base_marker(digest), None)
        self.volumes[base_volume(digest)] = Volume()
        self.altered.discard(digest)
        self._effect("mark_image", digest)
        self.volumes[base_marker(digest)] = Volume()

    def create_overlay(self, machine: MachineId, digest: str, size_bytes: int) -> None:
        self._effect("create_overlay", machine.overlay)
        self._need_pool(machine.overlay)
        if base_marker(digest) not in self.volumes:
            raise Refused(f"the base {digest} is not there whole on {self._name}")
        self._need(machine.overlay, size_bytes)
        if machine.domain in self.domains or self.volumes.get(machine.overlay, Volume()).has_run:
            raise Harm(f"{machine.overlay} is made anew over one that has been used")
        self.volumes[machine.overlay] = Volume(base=digest)

    def create_seed(self, machine: MachineId, disc: bytes) -> None:
        self._effect("create_seed", machine.seed)
        self._need_pool(machine.seed)
        if not disc:
            raise Refused("an empty disc")
        self.volumes[machine.seed] = Volume()

    def create_disk(self, file: str, size_bytes: int) -> None:
        self._effect("create_disk", file)
        self._need_pool(file)
        if file not in self.volumes:
            self._need(file)
            self.volumes[file] = Volume(size_bytes=size_bytes)

    def grow_disk(self, file: str, size_bytes: int, domain: str) -> None:
        self._effect("grow_disk", file)
        known = self._file(file)
        if not domain:
            self._refuse_in_use(file, "enlarged from outside")
        elif domain not in self._users(file):
            raise Refused(f"{domain} on {self._name} does not have {file} open")
        self.volumes[file] = replace(known, size_bytes=max(size_bytes, known.size_bytes))

    @contextlib.contextmanager
    def export_volume(self, file: str) -> Iterator[Iterator[bytes]]:
        self._answer()
        content = self._file(file).content.encode()
        disk = parse_disk(file)
        if disk is not None and not disk.snapshot:
            self._refuse_in_use(file, "copied")
        yield iter([content[:1], content[1:]])

    def import_volume(
        self, volume: VolumeId, size_bytes: int, pieces: Iterator[bytes], report: Callable[[str], None]
    ) -> None:
        self._effect("import_volume", volume.file)
        self._need_pool(volume.file)
        self._refuse_in_use(volume.file, "replaced")
        self.volumes[volume.coming] = Volume()
        self.volumes.pop(volume.file, None)
        try:
            self._effect("import_data", volume.file)
            self._need(volume.file, size_bytes)
            report(f"copying {volume}")
            content = b"".join(pieces).decode()
        except NoRoom:
            del self.volumes[volume.coming]
            raise
        self.volumes[volume.file] = Volume(size_bytes=size_bytes, content=content)
        self._effect("import_end", volume.file)
        del self.volumes[volume.coming]

    def flatten_overlay(self, machine: MachineId) -> None:
        self._effect("flatten_overlay", machine.flat)
        self._refuse_in_use(machine.overlay, "flattened")
        self.volumes[machine.flat] = Volume(content=self._file(machine.overlay).content)

    def disk_usage(self) -> dict[str, tuple[int, int]]:
        self._answer()
        return {n: (v.size_bytes, len(v.content)) for n, v in self.volumes.items() if is_disk(n)}

    def snapshot_volume(self, volume: VolumeId, name: str, domain: str) -> None:
        file = volume.snapshot(name)
        self._effect("snapshot_volume", file)
        if volume.snapshot_marker(name) in self.volumes:
            return
        if volume.coming in self.volumes:
            raise Refused(f"{volume} on {self._name} is not whole")
        if not domain:
            self._refuse_in_use(volume.file, "copied")
        elif domain not in self._users(volume.file):
            raise Refused(f"{domain} on {self._name} does not have {volume.file} open")
        known = self._file(volume.file)
        self._need(file)
        self.volumes[file] = known
        self._effect("mark_snapshot", file)
        self.volumes[volume.snapshot_marker(name)] = Volume()

    def restore_volume(self, volume: VolumeId, name: str) -> None:
        self._effect("restore_volume", volume.file)
        if not {volume.snapshot(name), volume.snapshot_marker(name)} <= set(self.volumes):
            raise Refused(f"no whole snapshot {name} of {volume} on {self._name}")
        self._refuse_in_use(volume.file, "replaced")
        self._need(volume.file)
        self.volumes[volume.coming] = Volume()
        self.volumes.pop(volume.file, None)
        self._effect("restore_data", volume.file)
        self.volumes[volume.file] = self.volumes[volume.snapshot(name)]
        self._effect("restore_end", volume.file)
        del self.volumes[volume.coming]

    def put_copy(self, copy: DeploymentCopy, content: bytes) -> None:
        self._effect("put_copy", copy.file)
        self._need(copy.file)
        self.volumes.pop(copy.marker, None)
        self.volumes[copy.file] = Volume(size_bytes=len(content), content=content.decode())
        self._effect("mark_copy", copy.file)
        self.volumes[copy.marker] = Volume()

    def _file(self, file: str) -> Volume:
        self._need_pool(file)
        if file not in self.volumes:
            raise NotFound(f"host {self._name}: no file {file}")
        return self.volumes[file]

    def delete_volume(self, volume: str) -> None:
        self._effect("delete_volume", volume)
        self._free(volume)
        self.volumes.pop(volume, None)

    def _free(self, volume: str) -> None:
        """Nothing that is stood upon may be taken away."""
        users = [
            n
            for n, d in list(self.domains.items())
            if (m := parse_machine(n)) and volume in d.files & {m.overlay, m.seed}
        ]
        digest = digest_of_volume(volume)
        above = [
            n for n, v in list(self.volumes.items()) if digest and v.base == digest and volume == base_volume(digest)
        ]
        if users or above:
            raise Harm(f"{volume} is deleted under {users or above}")
        if not digest:
            self._refuse_in_use(volume, "deleted")


def is_disk(name: str) -> bool:
    disk = parse_disk(name)
    return not disk.is_marker if disk else name.endswith(".clean.raw") and machine_of_volume(name) is not None
