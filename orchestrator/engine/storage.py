"""Local storage and volumes of one instance: made when missing, brought along, and never made anew when lost. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.action import Action, CreateDisk, DeleteVolume, GrowDisk, MoveVolume
from orchestrator.model.disks import MIB, file_of, files, volumes
from orchestrator.model.names import MachineId, VolumeId
from orchestrator.model.spec import Disk, DiskKind

if TYPE_CHECKING:
    from orchestrator.engine.sight import Sight
    from orchestrator.model.making import MachineSpec
    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.world import HostSeen


def create(record: InstanceRecord, seen: Sight) -> tuple[Action, ...]:
    """Empty disks for what the machine needs and has nowhere. ``seen.here``: the host of the record's machine."""
    return tuple(
        CreateDisk(record.host, file, disk.size_mib * MIB)
        for disk, file in files(MachineId(record.id, record.generation), record.machine, record.place)
        if file not in seen.here.volumes and (disk.kind is DiskKind.LOCAL or _is_new(record, disk, seen))
    )


def _is_new(record: InstanceRecord, disk: Disk, seen: Sight) -> bool:
    """Whether a volume has never been: it is on no host, every host was asked, and no machine has had it."""
    key = VolumeId(record.id, disk.name)
    return disk.name not in record.volumes and not seen.away and not _holders(key, seen)


def move(record: InstanceRecord, seen: Sight) -> tuple[Action, ...]:
    """Bring volumes to the record's host from where they were; taken before the machine starts there."""
    steps: list[Action] = []
    for key in volumes(record.id, record.machine):
        elsewhere = [host for host in _holders(key, seen) if host.name != record.host]
        if elsewhere and not _is_whole(key, seen.here):
            source = elsewhere[0]
            steps.append(MoveVolume(source.name, record.host, key, source.sizes.get(key.file, 0)))
        steps += [DeleteVolume(host.name, key.file) for host in elsewhere]
    return tuple(steps)


def obstacle(record: InstanceRecord, seen: Sight) -> str:
    """What is wrong with a volume, so that no machine may be started; "" if nothing."""
    for key in volumes(record.id, record.machine):
        if _holders(key, seen):
            continue
        if seen.away:
            return f"volume {key} may be on host {seen.away[0]}, which cannot be asked"
        if key.coming in seen.here.volumes:
            return f"volume {key} is only half restored: run `vmrole volume restore` again"
        if key.name in record.volumes:
            return (
                f"volume {key} has gone from every host: put its file {key.file} back,"
                f" or run `vmrole volume rm {key}` to begin with an empty one"
            )
    return ""


def grow(record: InstanceRecord, wanted: MachineSpec, seen: Sight, *, is_running: bool) -> tuple[Action, ...]:
    """Enlarge the disks that have less room than is wanted: by the record, or by what the host says."""
    machine = MachineId(record.id, record.generation)
    user = machine if is_running else None
    return tuple(
        GrowDisk(record.host, file, new.size_mib * MIB, user, new, record.machine.platform.os)
        for old, new in zip(record.machine.disks, wanted.disks, strict=True)
        if (file := file_of(new, machine, record.place)) in seen.here.volumes
        and (new.size_mib > old.size_mib or 0 < seen.here.sizes.get(file, 0) < new.size_mib * MIB)
    )


def _holders(key: VolumeId, seen: Sight) -> list[HostSeen]:
    return [host for host in (seen.here, *seen.hosts) if _is_whole(key, host)]


def _is_whole(key: VolumeId, host: HostSeen) -> bool:
    return key.file in host.volumes and key.coming not in host.volumes
