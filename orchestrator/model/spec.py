"""What the user wants, as values: the service file after validation, with nothing left to interpret."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


class Protocol(Enum):
    """How HAProxy treats an endpoint's traffic."""

    HTTP = "http"
    TCP = "tcp"


class Visibility(Enum):
    """Who reaches an endpoint: the outside, by the VIP; the deployment's own instances; or the outside, one by one."""

    INPUT = "input"
    INTERNAL = "internal"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A port of a role.

    ``ports``: VIP ports, first and last: equal for an input endpoint, a range (by ordinal) for an instance
    endpoint, (0, 0) for an internal one. ``target``: the port inside the instance. ``check_path``: what HAProxy
    asks for by HTTP GET ("" : it only connects).
    """

    name: str
    ports: tuple[int, int]
    target: int
    protocol: Protocol = Protocol.TCP
    visibility: Visibility = Visibility.INPUT
    check_path: str = ""


@dataclass(frozen=True, slots=True)
class File:
    """A file that setup writes: ``mode`` is octal text (``0644``), ``owner`` is ``user:group``."""

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root:root"


@dataclass(frozen=True, slots=True)
class Setup:
    """What the answer file does on first boot.

    ``run``: each a shell line or an argv. ``user_data``: the user's own cloud-config as JSON text ("" if none);
    its lists are joined to ours, its other keys win. ``settings``: sorted (key, value) pairs for the instance's code.
    """

    ssh_authorized_keys: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    run: tuple[str | tuple[str, ...], ...] = ()
    user_data: str = ""
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Size:
    """An instance's hardware; ``disk_gib`` is the overlay's size (0: the image's own)."""

    vcpus: int = 1
    memory_mib: int = 512
    disk_gib: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """When an instance counts as ready: ``services`` None means every auto-start service."""

    services: tuple[str, ...] | None = None
    timeout_s: float = 300.0


class DiskKind(Enum):
    """Whether a disk beside the overlay may be lost on relocation (local) or survives everything (volume)."""

    LOCAL = "local"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk beside the overlay, with an ext4 file system mounted at ``mount``.

    ``owner`` (``user:group``) and ``mode`` (octal text) are the file system's root folder's. ``is_clean``: local
    storage that every generation gets new and empty.
    """

    name: str
    kind: DiskKind
    size_mib: int
    mount: str
    owner: str = "root:root"
    mode: str = "0755"
    is_clean: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """How an instance's machine is brought to rest, all in seconds.

    ``drain_s``: how long connections may take to finish. ``timeout_s``: how long the guest may take to shut down.
    ``keep_s``: how long after a reimage the old overlay is kept.
    """

    drain_s: float = 30.0
    timeout_s: float = 60.0
    keep_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Role:
    """A named kind of instance. ``image`` is as written in the file; what it resolved to is in the record."""

    name: str
    image: str
    instances: int
    size: Size = field(default_factory=Size)
    endpoints: tuple[Endpoint, ...] = ()
    setup: Setup = field(default_factory=Setup)
    ready: Ready = field(default_factory=Ready)
    max_unavailable: int = 1
    disks: tuple[Disk, ...] = ()
    stop: Stop = field(default_factory=Stop)


@dataclass(frozen=True, slots=True)
class Service:
    """What one service file describes."""

    name: str
    roles: tuple[Role, ...]

    def role(self, name: str) -> Role | None:
        return next((role for role in self.roles if role.name == name), None)


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Everything that makes one virtual machine what it is; another value needs another generation."""

    digest: str
    size: Size
    setup: Setup
    disks: tuple[Disk, ...] = ()


def is_of_unknown_make(machine: MachineSpec) -> bool:
    """Whether it is a machine that was found without anybody knowing any more how it was made."""
    return machine.size.vcpus == 0


def machine_spec(role: Role, digest: str) -> MachineSpec:
    """The machine that ``role`` asks for, on the image ``digest``."""
    return MachineSpec(digest, role.size, role.setup, role.disks)


def is_same_but_larger(now: MachineSpec, wanted: MachineSpec) -> bool:
    """Whether all that ``wanted`` asks for beyond ``now`` is room on disks: no other machine is needed for that."""
    larger = tuple(replace(disk, size_mib=new.size_mib) for disk, new in zip(now.disks, wanted.disks, strict=False))
    return replace(now, disks=larger) == wanted if len(now.disks) == len(wanted.disks) else False
