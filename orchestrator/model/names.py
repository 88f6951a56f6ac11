"""Names are computed, never looked up: what a thing is called follows from what it is, and back.

``hello.production.web-0.g1`` is generation 1 of instance ``web-0`` of the production deployment of service ``hello``.
User-given names hold no dot, so every name of ours parses back without doubt. This module decides nothing.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from dataclasses import dataclass
from enum import Enum

NAME_RULE = "1 to 40 of a-z, 0-9 and -, not starting or ending with -"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_INSTANCE = re.compile(rf"({_NAME.pattern})-(0|[1-9][0-9]{{0,5}})")
_MACHINE = re.compile(
    rf"(?P<service>{_NAME.pattern})\.(?P<slot>production|staging)\.(?P<instance>[a-z0-9-]+)\.g(?P<generation>[1-9][0-9]*)"
)
_BASE = re.compile(r"base\.([0-9a-f]{64})\.(qcow2|ok)")


class Slot(Enum):
    """The two places that a service can be deployed to."""

    PRODUCTION = "production"
    STAGING = "staging"


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
        """The files that live and die with this machine."""
        return (self.overlay, self.seed, self.console)

    @property
    def server(self) -> str:
        """Its name inside an HAProxy backend: with the generation, so that a stale machine is never mistaken."""
        return f"{self.instance.name}.g{self.generation}"


def parse_instance_name(text: str) -> tuple[str, int] | None:
    """``web-0`` → ("web", 0); None if it is no instance's name."""
    match = _INSTANCE.fullmatch(text)
    return (match.group(1), int(match.group(2))) if match else None


def parse_machine(text: str) -> MachineId | None:
    """The machine that a domain's name speaks of; None if the name is not of our making."""
    match = _MACHINE.fullmatch(text)
    instance = parse_instance_name(match["instance"]) if match else None
    if match is None or instance is None:
        return None
    deployment = DeploymentId(match["service"], match["slot"])
    return MachineId(InstanceId(deployment, *instance), int(match["generation"]))


def machine_of_volume(volume: str) -> MachineId | None:
    """The machine whose overlay, seed or console log this is (virtlogd's rotated ``.0`` too); else None."""
    for suffix in (".overlay.qcow2", ".seed.iso"):
        if volume.endswith(suffix):
            return parse_machine(volume.removesuffix(suffix))
    head, found, _rotation = volume.partition(".console.log")
    return parse_machine(head) if found else None


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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
