"""Which file each of a machine's disks is, and how the guest tells one disk from the other. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.model.making import MachineSpec
from orchestrator.model.names import MachineId, VolumeId, local_disk
from orchestrator.model.spec import Disk, DiskKind

if TYPE_CHECKING:
    from orchestrator.model.names import InstanceId

MIB = 1024**2


def file_of(disk: Disk, machine: MachineId, place: int) -> str:
    """The file of a disk, by what the disk is to outlive."""
    if disk.kind is DiskKind.VOLUME:
        return VolumeId(machine.instance, disk.name).file
    return machine.clean_disk(disk.name) if disk.is_clean else local_disk(machine.instance, place, disk.name)


def files(machine: MachineId, spec: MachineSpec, place: int) -> tuple[tuple[Disk, str], ...]:
    """A machine's disks beside the overlay, each with its file, in the order in which they are attached."""
    return tuple((disk, file_of(disk, machine, place)) for disk in spec.disks)


def volumes(instance: InstanceId, spec: MachineSpec) -> tuple[VolumeId, ...]:
    return tuple(VolumeId(instance, disk.name) for disk in spec.disks if disk.kind is DiskKind.VOLUME)


def serial(disk: Disk) -> str:
    """What the guest finds the disk by, in ``/sys/block/*/serial``: virtio carries 20 characters."""
    return f"vmr-{hashlib.sha256(f'{disk.kind.value}/{disk.name}'.encode()).hexdigest()[:12]}"


def fingerprint(spec: MachineSpec) -> str:
    """A short text that is the same for machines of the same make; the room on their disks does not count."""
    bare = replace(spec, disks=tuple(replace(disk, size_mib=0) for disk in spec.disks))
    return hashlib.sha256(repr(bare).encode()).hexdigest()[:16]
