"""What makes one virtual machine what it is, and which change of that needs another machine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestrator.model.setup import Setup
from orchestrator.model.spec import WINDOWS, Disk, Platform, Protocol, Role, Size

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Everything that makes one virtual machine what it is; another value needs another generation.

    ``ports``: what Windows' own firewall lets in; on Linux none is spoken of.
    """

    digest: str
    size: Size
    setup: Setup
    disks: tuple[Disk, ...] = ()
    platform: Platform = field(default_factory=Platform)
    ports: tuple[int, ...] = ()

    @property
    def images(self) -> frozenset[str]:
        """The digests of what has to be on its host: its base, and its disc of drivers."""
        return frozenset({self.digest, self.platform.drivers} - {""})


def images_of(digests: Mapping[str, str], platforms: Mapping[str, Platform], role: str) -> frozenset[str]:
    """The same of the machines that a role is to have; empty if it has no image yet."""
    drivers = platforms[role].drivers if role in platforms else ""
    return frozenset({digests.get(role, ""), drivers} - {""})


def is_of_unknown_make(machine: MachineSpec) -> bool:
    """Whether it is a machine that was found without anybody knowing any more how it was made."""
    return machine.size.vcpus == 0


def machine_spec(role: Role, digest: str, platform: Platform) -> MachineSpec:
    """The machine that ``role`` asks for, on the image ``digest``, which asks for ``platform``.

    Without the settings: those of a machine that runs are changed in it (engine/runtime.py).
    """
    is_windows = platform.os == WINDOWS
    setup = replace(role.setup, settings=()) if role.setup.settings else role.setup
    return MachineSpec(digest, role.size, setup, role.disks, platform, _targets(role) if is_windows else ())


def _targets(role: Role) -> tuple[int, ...]:
    tcp = [endpoint.targets for endpoint in role.endpoints if endpoint.protocol is not Protocol.UDP]
    return tuple(sorted({port for first, last in tcp for port in range(first, last + 1)}))


def is_same_but_larger(now: MachineSpec, wanted: MachineSpec) -> bool:
    """Whether all that ``wanted`` asks for beyond ``now`` is room on disks: no other machine is needed for that."""
    if now == wanted:
        return True
    larger = tuple(replace(disk, size_mib=new.size_mib) for disk, new in zip(now.disks, wanted.disks, strict=False))
    return replace(now, disks=larger) == wanted if len(now.disks) == len(wanted.disks) else False
