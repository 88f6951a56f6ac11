"""Volumes as they are on the hosts, whether or not any instance has them now. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.names import (
    DeploymentId,
    DiskFile,
    InstanceId,
    VolumeId,
    is_name,
    parse_disk,
    parse_instance_name,
)
from orchestrator.model.world import DomainSeen, HostSeen, Power

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class VolumeSeen:
    """A volume with its snapshots, which may lie on other hosts, or what is left of it; sizes in bytes.

    ``host``: where it is, "" if only snapshots are there. ``used_bytes``: what it takes of the pool. ``snapshots``:
    (name, host), sorted. ``is_whole``: False while it is being moved or restored, after that was interrupted, and if it
    is nowhere. ``user``: the domain that has it in its definition. ``files``: (host, file) of all of it.
    """

    id: VolumeId
    host: str
    size_bytes: int
    used_bytes: int
    snapshots: tuple[tuple[str, str], ...] = ()
    is_whole: bool = True
    user: DomainSeen | None = None
    files: tuple[tuple[str, str], ...] = ()

    @property
    def is_in_use(self) -> bool:
        return self.user is not None and self.user.power is not Power.OFF

    @property
    def names(self) -> tuple[str, ...]:
        """Of its snapshots."""
        return tuple(name for name, _host in self.snapshots)


def found(hosts: Iterable[HostSeen], usage: Mapping[str, Mapping[str, tuple[int, int]]]) -> tuple[VolumeSeen, ...]:
    """Every volume, by name. ``usage``: host → file → (size, room it takes), in bytes."""
    every = tuple(hosts)
    parts: dict[VolumeId, list[tuple[str, DiskFile, str]]] = {}
    for host in every:
        for file in sorted(host.volumes):
            disk = parse_disk(file)
            if disk is not None and not disk.place:
                parts.setdefault(disk.volume, []).append((host.name, disk, file))
    return tuple(_seen(key, parts[key], every, usage) for key in sorted(parts))


def _seen(
    key: VolumeId,
    parts: Sequence[tuple[str, DiskFile, str]],
    hosts: Sequence[HostSeen],
    usage: Mapping[str, Mapping[str, tuple[int, int]]],
) -> VolumeSeen:
    there = {(host, file) for host, _disk, file in parts}
    homes = sorted((host for host, file in there if file == key.file), key=lambda host: (host, key.coming) in there)
    home = homes[0] if homes else ""
    size, used = usage.get(home, {}).get(key.file, (0, 0))
    users = [domain for host in hosts for domain in host.domains.values() if key.file in domain.files]
    return VolumeSeen(
        key,
        home,
        size,
        used,
        tuple(sorted((disk.snapshot, host) for host, disk, _file in parts if disk.snapshot and disk.is_marker)),
        bool(home) and (home, key.coming) not in there,
        min(users, key=lambda domain: domain.name) if users else None,
        tuple((host, file) for host, _disk, file in sorted(parts, key=_deleted_first)),
    )


def _deleted_first(part: tuple[str, DiskFile, str]) -> tuple[int, str, str]:
    """Markers before what they vouch for, and a volume before the marker that says that it is not whole."""
    host, disk, file = part
    rank = (0 if disk.is_marker else 1) if disk.snapshot else (3 if disk.is_marker else 2)
    return rank, host, file


def parse(text: str, slot: str) -> VolumeId | None:
    """``hello/web-0/data`` as a value; None if it is no volume's name."""
    service, _, rest = text.partition("/")
    instance, _, name = rest.partition("/")
    parsed = parse_instance_name(instance)
    if parsed is None or not is_name(service) or not is_name(name):
        return None
    return VolumeId(InstanceId(DeploymentId(service, slot), *parsed), name)
