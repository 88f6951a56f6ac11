"""Volumes as they are on the hosts, whether or not any instance has them now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.names import DeploymentId, InstanceId, VolumeId, is_name, parse_disk, parse_instance_name
from orchestrator.model.world import DomainSeen, HostSeen, Power

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class VolumeSeen:
    """A volume on one host, sizes in bytes.

    ``used_bytes``: what it takes of the pool. ``snapshots``: names, sorted. ``is_whole``: False while it is being
    moved or restored, or after that was interrupted. ``user``: the domain that has it in its definition.
    """

    id: VolumeId
    host: str
    size_bytes: int
    used_bytes: int
    snapshots: tuple[str, ...] = ()
    is_whole: bool = True
    user: DomainSeen | None = None

    @property
    def is_in_use(self) -> bool:
        return self.user is not None and self.user.power is not Power.OFF


def found(hosts: Iterable[HostSeen], usage: Mapping[str, Mapping[str, tuple[int, int]]]) -> tuple[VolumeSeen, ...]:
    """Every volume, by name. ``usage``: host → file → (size, room it takes), in bytes."""
    seen = []
    for host in hosts:
        parsed = [disk for file in sorted(host.volumes) if (disk := parse_disk(file)) is not None and not disk.place]
        ids = {disk.volume for disk in parsed if not disk.snapshot}
        seen += [_seen(key, host, usage.get(host.name, {})) for key in ids]
    return tuple(sorted(seen, key=lambda volume: (volume.id, volume.host)))


def _seen(key: VolumeId, host: HostSeen, usage: Mapping[str, tuple[int, int]]) -> VolumeSeen:
    size, used = usage.get(key.file, (0, 0))
    parsed = (parse_disk(file) for file in host.volumes)
    whole = {disk.snapshot for disk in parsed if disk is not None and disk.volume == key and disk.is_marker}
    users = sorted((domain for domain in host.domains.values() if key.file in domain.files), key=lambda d: d.name)
    return VolumeSeen(
        key,
        host.name,
        size,
        used,
        tuple(sorted(whole - {""})),
        key.file in host.volumes and key.coming not in host.volumes,
        users[0] if users else None,
    )


def files(volume: VolumeSeen) -> tuple[str, ...]:
    """The files to delete with a volume; markers before what they vouch for, and the volume before its ``coming``."""
    snapshots = [
        file for name in volume.snapshots for file in (volume.id.snapshot_marker(name), volume.id.snapshot(name))
    ]
    return (*snapshots, volume.id.file, volume.id.coming)


def parse(text: str) -> VolumeId | None:
    """``hello/web-0/data`` as a value; None if it is no volume's name."""
    service, _, rest = text.partition("/")
    instance, _, name = rest.partition("/")
    parsed = parse_instance_name(instance)
    if parsed is None or not is_name(service) or not is_name(name):
        return None
    return VolumeId(InstanceId(DeploymentId(service), *parsed), name)
