"""Names are computed, never looked up: what a thing is called follows from what it is, and back.

``hello.production.web-0.g1`` is generation 1 of instance ``web-0`` of the production deployment of service ``hello``.
User-given names hold no dot, so every name of ours parses back without doubt. This module decides nothing.
"""

from __future__ import annotations

import functools
import hashlib
import re
import uuid
from dataclasses import dataclass
from enum import Enum

CACHED_NAMES = 16384  # every look at the world reads the same names again
NAME_RULE = "1 to 40 of a-z, 0-9 and -, not starting or ending with -"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_INSTANCE = re.compile(rf"({_NAME.pattern})-(0|[1-9][0-9]{{0,5}})")
_MACHINE = re.compile(
    rf"(?P<service>{_NAME.pattern})\.(?P<slot>production|staging)\.(?P<instance>[a-z0-9-]+)"
    rf"\.g(?P<generation>[1-9][0-9]{{0,8}})"
)
_BASE = re.compile(r"base\.([0-9a-f]{64})\.(qcow2|ok)")
_DISK = re.compile(
    rf"(?P<service>{_NAME.pattern})\.(?P<slot>production|staging)\.(?P<instance>[a-z0-9-]+)"
    rf"\.(?P<disk>{_NAME.pattern})\.(?:p(?P<place>[1-9][0-9]{{0,8}})\.local\.raw|volume\.(?P<part>raw|coming)"
    rf"|(?P<snapshot>{_NAME.pattern})\.snapshot\.(?P<half>raw|ok))"
)
_CLEAN = re.compile(rf"(?P<machine>.+)\.(?P<disk>{_NAME.pattern})\.clean\.raw")
_COPY = re.compile(
    rf"(?P<service>{_NAME.pattern})\.(?P<slot>production|staging)\.r(?P<revision>[1-9][0-9]{{0,8}})"
    r"(?:\.s(?P<swaps>[1-9][0-9]{0,8}))?\.(?:json|ok)"
)


class Slot(Enum):
    """The two places that a service can be deployed to."""

    PRODUCTION = "production"
    STAGING = "staging"


def _slot_words(slot: str) -> str:
    return "" if slot == Slot.PRODUCTION.value else f" --slot {slot}"


def is_name(text: str) -> bool:
    """Whether ``text`` may name a service, role, endpoint or image: it becomes a host name and a file name."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True, order=True)
class DeploymentId:
    """One running copy of a service."""

    service: str
    slot: str = Slot.PRODUCTION.value

    def __str__(self) -> str:
        return f"{self.service}.{self.slot}"

    @property
    def words(self) -> str:
        """As a command is told of it: ``hello``, ``hello --slot staging``."""
        return self.service + _slot_words(self.slot)

    @property
    def title(self) -> str:
        """As people say it: ``hello``, ``hello (staging)``."""
        return self.service if self.slot == Slot.PRODUCTION.value else f"{self.service} ({self.slot})"

    @property
    def other(self) -> DeploymentId:
        """The same service's in the other slot."""
        slot = Slot.STAGING if self.slot == Slot.PRODUCTION.value else Slot.PRODUCTION
        return DeploymentId(self.service, slot.value)

    @property
    def network(self) -> str:
        """The libvirt network's name."""
        return str(self)

    @property
    def domain(self) -> str:
        """The DNS domain of its instances; ``.internal`` is kept for such use by ICANN."""
        return f"{self.service}.internal"

    @property
    def bridge(self) -> str:
        """The network's bridge: at most 15 characters (IFNAMSIZ), and the prefix that the lab's rules know."""
        return f"vmr{_digest(str(self))[:8]}"


@dataclass(frozen=True, slots=True, order=True)
class InstanceId:
    """A named member of a role, for ever the same; it lives in one machine after the other."""

    deployment: DeploymentId
    role: str
    ordinal: int

    @property
    def name(self) -> str:
        """What people call it, and its host name: ``web-0``."""
        return f"{self.role}-{self.ordinal}"

    @property
    def words(self) -> str:
        """As a command is told of it: ``hello/web-0``, ``hello/web-0 --slot staging``."""
        return f"{self.deployment.service}/{self.name}{_slot_words(self.deployment.slot)}"

    def __str__(self) -> str:
        return f"{self.deployment}.{self.name}"

    @property
    def mac(self) -> str:
        """Its MAC address, the same in every generation; the first octet (0x52) marks it as locally administered."""
        tail = _digest(str(self))
        return ":".join(["52", "54", tail[0:2], tail[2:4], tail[4:6], tail[6:8]])


@dataclass(frozen=True, slots=True, order=True)
class MachineId:
    """One virtual machine in an instance's life: its ``generation``-th, counted from 1."""

    instance: InstanceId
    generation: int

    def __str__(self) -> str:
        return f"{self.instance}.g{self.generation}"

    @property
    def domain(self) -> str:
        return str(self)

    @property
    def overlay(self) -> str:
        return f"{self}.overlay.qcow2"

    @property
    def seed(self) -> str:
        return f"{self}.seed.iso"

    @property
    def console(self) -> str:
        return f"{self}.console.log"

    @property
    def volumes(self) -> tuple[str, ...]:
        """The files that every machine has for itself."""
        return (self.overlay, self.seed, self.console)

    @property
    def flat(self) -> str:
        """A copy of its whole disk, overlay and base in one, on its way into an image."""
        return f"{self}.flat.raw"

    def clean_disk(self, name: str) -> str:
        """Local storage that is new in every generation."""
        return f"{self}.{name}.clean.raw"

    @property
    def server(self) -> str:
        """Its name inside an HAProxy backend: with the generation, so that a stale machine is never mistaken."""
        return f"{self.instance.name}.g{self.generation}"


@dataclass(frozen=True, slots=True, order=True)
class VolumeId:
    """A durable disk of one instance, for ever the same."""

    instance: InstanceId
    name: str

    def __str__(self) -> str:
        """As people say it: ``hello/web-0/data``."""
        return f"{self.instance.deployment.service}/{self.instance.name}/{self.name}"

    @property
    def file(self) -> str:
        return f"{self.instance}.{self.name}.volume.raw"

    @property
    def coming(self) -> str:
        """An empty file that exists while ``file`` is being written by us, and is not whole."""
        return f"{self.instance}.{self.name}.volume.coming"

    def snapshot(self, name: str) -> str:
        return f"{self.instance}.{self.name}.{name}.snapshot.raw"

    def snapshot_marker(self, name: str) -> str:
        """An empty file that exists only beside a snapshot that is whole."""
        return f"{self.instance}.{self.name}.{name}.snapshot.ok"


@dataclass(frozen=True, slots=True)
class DiskFile:
    """What the name of a file of an instance's disks says.

    ``place`` not 0: local storage of the instance's ``place``-th place. ``snapshot`` not "": of a volume.
    ``is_marker``: it says something of the file beside it (a volume's ``coming``, a snapshot's ``ok``).
    """

    volume: VolumeId
    place: int = 0
    snapshot: str = ""
    is_marker: bool = False


def local_disk(instance: InstanceId, place: int, name: str) -> str:
    """Local storage: every place that the instance moves to gives it a new and empty one."""
    return f"{instance}.{name}.p{place}.local.raw"


@functools.lru_cache(maxsize=CACHED_NAMES)
def parse_disk(text: str) -> DiskFile | None:
    """The disk that a file's name speaks of; None if it is none of an instance's local storage and volumes."""
    match = _DISK.fullmatch(text)
    instance = parse_instance_name(match["instance"]) if match else None
    if match is None or instance is None:
        return None
    key = VolumeId(InstanceId(DeploymentId(match["service"], match["slot"]), *instance), match["disk"])
    is_marker = match["part"] == "coming" or match["half"] == "ok"
    return DiskFile(key, int(match["place"] or 0), match["snapshot"] or "", is_marker)


@dataclass(frozen=True, slots=True)
class DeploymentCopy:
    """A deployment's record kept beside its machines, so that a lost store can be rebuilt from the hosts.

    ``swaps``: how often its VIP had been exchanged. ``marker`` exists only beside a ``file`` that is whole.
    """

    deployment: DeploymentId
    revision: int
    swaps: int = 0

    @property
    def _stem(self) -> str:
        return f"{self.deployment}.r{self.revision}{f'.s{self.swaps}' if self.swaps else ''}"

    @property
    def file(self) -> str:
        return f"{self._stem}.json"

    @property
    def marker(self) -> str:
        return f"{self._stem}.ok"


@functools.lru_cache(maxsize=CACHED_NAMES)
def parse_copy(text: str) -> DeploymentCopy | None:
    """The copy of a deployment's record that a file's name speaks of; else None."""
    match = _COPY.fullmatch(text)
    if match is None:
        return None
    key = DeploymentId(match["service"], match["slot"])
    return DeploymentCopy(key, int(match["revision"]), int(match["swaps"] or 0))


@functools.lru_cache(maxsize=CACHED_NAMES)
def parse_instance_name(text: str) -> tuple[str, int] | None:
    """``web-0`` → ("web", 0); None if it is no instance's name."""
    match = _INSTANCE.fullmatch(text)
    return (match.group(1), int(match.group(2))) if match else None


@functools.lru_cache(maxsize=CACHED_NAMES)
def parse_machine(text: str) -> MachineId | None:
    """The machine that a domain's name speaks of; None if the name is not of our making."""
    match = _MACHINE.fullmatch(text)
    instance = parse_instance_name(match["instance"]) if match else None
    if match is None or instance is None:
        return None
    deployment = DeploymentId(match["service"], match["slot"])
    return MachineId(InstanceId(deployment, *instance), int(match["generation"]))


@functools.lru_cache(maxsize=CACHED_NAMES)
def machine_of_volume(volume: str) -> MachineId | None:
    """The machine whose overlay, seed, clean disk or console log this is (its rotated ``.0`` too); else None."""
    if clean := _CLEAN.fullmatch(volume):
        return parse_machine(clean["machine"])
    for suffix in (".overlay.qcow2", ".seed.iso", ".flat.raw"):
        if volume.endswith(suffix):
            return parse_machine(volume.removesuffix(suffix))
    head, found, _rotation = volume.partition(".console.log")
    return parse_machine(head) if found else None


def instance_of_file(file: str) -> InstanceId | None:
    """The instance that a file is of: one of its machines' own files, or one of its disks; else None."""
    machine, disk = machine_of_volume(file), parse_disk(file)
    if machine is not None:
        return machine.instance
    return disk.volume.instance if disk is not None else None


def base_volume(digest: str) -> str:
    """The base's volume on a host; ``digest`` is ``sha256:`` and 64 hex digits."""
    return f"base.{digest.removeprefix('sha256:')}.qcow2"


def base_marker(digest: str) -> str:
    """An empty volume that exists only beside a base that was uploaded whole: libvirt cannot rename a volume."""
    return f"base.{digest.removeprefix('sha256:')}.ok"


def digest_of_volume(volume: str) -> str | None:
    """The image that a base's volume or marker stands for; None for any other volume."""
    match = _BASE.fullmatch(volume)
    return f"sha256:{match.group(1)}" if match else None


def pool_name(owner: str) -> str:
    """The storage pool of one home folder on a host; two homes on one host never share files."""
    return f"vmrole-{owner}"


def libvirt_uuid(owner: str, name: str) -> str:
    """An object's UUID at libvirt, the same for ever: it takes a definition again only with the UUID it has."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"vmrole:{owner}/{name}"))


@functools.lru_cache(maxsize=CACHED_NAMES)
def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
