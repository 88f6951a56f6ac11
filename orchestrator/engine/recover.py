"""What the hosts tell of deployments whose store is lost: the copies of their records, domains, files, reservations.

Pure. What is found is taken for wanted; how far each machine is shows in the next looks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine.members import free_dip
from orchestrator.engine.scaling import chosen, with_ordinals
from orchestrator.model.disks import MIB, file_of, fingerprint
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import (
    DeploymentCopy,
    DeploymentId,
    InstanceId,
    MachineId,
    machine_of_volume,
    parse_copy,
    parse_disk,
)
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Kept, Timeline, Wanted
from orchestrator.model.setup import Setup
from orchestrator.model.spec import Role, Size
from orchestrator.model.world import DomainSeen, HostSeen, Power

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

UNKNOWN = MachineSpec("", Size(0, 0), Setup())


@dataclass(frozen=True, slots=True)
class Found:
    """A machine that a host has: by its domain, or only by its overlay (``domain`` None)."""

    host: str
    machine: MachineId
    domain: DomainSeen | None

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """The one that runs is the instance's, else the newest that is defined, else the newest overlay."""
        is_running = self.domain is not None and self.domain.power is not Power.OFF
        return is_running, self.domain is not None, self.machine.generation


def _age(copy: DeploymentCopy) -> tuple[int, int]:
    return copy.revision, copy.swaps


def copies(hosts: Iterable[HostSeen]) -> dict[DeploymentId, tuple[str, DeploymentCopy]]:
    """The newest whole copy of each deployment's record, and the host that has it."""
    found: dict[DeploymentId, tuple[str, DeploymentCopy]] = {}
    for host in hosts:
        for file in host.volumes:
            copy = parse_copy(file)
            if copy is None or not {copy.file, copy.marker} <= host.volumes:
                continue
            if copy.deployment not in found or _age(found[copy.deployment][1]) < _age(copy):
                found[copy.deployment] = (host.name, copy)
    return found


def instances(
    record: DeploymentRecord, hosts: Mapping[str, HostSeen], owner: str, bases: Mapping[str, str], now: float
) -> tuple[InstanceRecord, ...]:
    """A deployment's instances as the hosts have them. ``bases``: overlay → the image below it, where that is known."""
    machines: dict[InstanceId, list[Found]] = {}
    for host in hosts.values():
        for found in _machines(host, owner):
            if found.machine.instance.deployment == record.id:
                machines.setdefault(found.machine.instance, []).append(found)
    made: list[InstanceRecord] = []
    networks = [host.networks[record.id.network] for host in hosts.values() if record.id.network in host.networks]
    reserved = {lease.ip for network in networks for lease in network.leases}
    for key in sorted(machines):
        role = record.service.role(key.role)
        if role is not None:
            best = max(machines[key], key=lambda found: found.rank)
            newest = max(found.machine.generation for found in machines[key])
            restored = _instance(record, role, best, hosts, bases, now)
            dip = restored.dip or free_dip(record.subnets[best.host], reserved | {other.dip for other in made})
            made.append(replace(restored, dip=dip, newest=newest))
    return tuple(made)


def counted(record: DeploymentRecord, found: Iterable[InstanceRecord]) -> DeploymentRecord:
    """The deployment with as many instances as were found of each role whose number follows what there is to do.

    The copy of its record knows the number that was asked for last, not the one of the moment.
    """
    ordinals = {(one.id.role, one.id.ordinal) for one in found}
    for role in record.service.roles:
        wish, there = role.autoscale, sorted(ordinal for name, ordinal in ordinals if name == role.name)
        if wish is not None and there:
            number = max(wish.least, min(len(there), wish.most))
            record = with_ordinals(record, role.name, chosen(there, number))
    return record


def _machines(host: HostSeen, owner: str) -> list[Found]:
    marked = [d for d in host.domains.values() if d.owner == owner and d.machine is not None]
    known = {
        domain.machine: Found(host.name, domain.machine, domain) for domain in marked if domain.machine is not None
    }
    for file in host.volumes:
        machine = machine_of_volume(file)
        if machine is not None and machine.overlay == file:
            known.setdefault(machine, Found(host.name, machine, None))
    return list(known.values())


def _instance(
    record: DeploymentRecord,
    role: Role,
    found: Found,
    hosts: Mapping[str, HostSeen],
    bases: Mapping[str, str],
    now: float,
) -> InstanceRecord:
    """An instance by its machine; without a DIP if its network has none for it."""
    host, key, base = hosts[found.host], found.machine.instance, bases.get(found.machine.overlay, "")
    place = found.domain.place if found.domain is not None else _place(host, key)
    network = host.networks.get(record.id.network)
    reserved = {lease.mac: lease.ip for lease in network.leases} if network is not None else {}
    return InstanceRecord(
        id=key,
        host=host.name,
        dip=reserved.get(key.mac, ""),
        generation=found.machine.generation,
        machine=_as_large(_spec(record, role, found.domain, base), found, place, host),
        timeline=Timeline(requested=now),
        deadline=now + role.ready.timeout_s,
        has_run=True,
        wanted=Wanted.UP,
        kept=_kept(record, role, found, host, bases, now),
        place=place,
        volumes=_volumes(hosts.values(), key),
        is_set_up=found.domain is not None and found.machine.seed not in found.domain.files,
    )


def _spec(record: DeploymentRecord, role: Role, domain: DomainSeen | None, base: str) -> MachineSpec:
    """What the machine is made of: as the role asks for now, if its mark says the same; else unknown, so outdated.

    Of an overlay without a domain only its image can be compared.
    """
    wanted = record.machine(role)
    before = replace(wanted, setup=role.setup)  # as a machine is marked that was made when settings were a part of it
    makes = {fingerprint(wanted), fingerprint(before)}
    is_wanted = base == wanted.digest if domain is None else domain.spec in makes
    return wanted if is_wanted else replace(UNKNOWN, digest=base or wanted.digest)


def _as_large(spec: MachineSpec, found: Found, place: int, host: HostSeen) -> MachineSpec:
    """The make of a machine with its disks as large as they are, which may be smaller than is asked for now."""
    sizes = {disk: host.sizes.get(file_of(disk, found.machine, place), 0) // MIB for disk in spec.disks}
    return replace(spec, disks=tuple(replace(disk, size_mib=size or disk.size_mib) for disk, size in sizes.items()))


def _kept(
    record: DeploymentRecord, role: Role, found: Found, host: HostSeen, bases: Mapping[str, str], now: float
) -> Kept | None:
    """The newest older overlay of the instance, as far as it is known how its machine was made."""
    wanted, key = record.machine(role), found.machine.instance
    machines = [m for file in host.volumes if (m := machine_of_volume(file)) is not None and m.overlay == file]
    older = [m for m in machines if m.instance == key and m.generation < found.machine.generation]
    known = [m.generation for m in older if bases.get(m.overlay) == wanted.digest]
    return Kept(max(known), wanted, 1, until=now + role.stop.keep_s) if known else None


def _place(host: HostSeen, key: InstanceId) -> int:
    parsed = (parse_disk(file) for file in host.volumes)
    return max((disk.place for disk in parsed if disk is not None and disk.volume.instance == key), default=1) or 1


def _volumes(hosts: Iterable[HostSeen], key: InstanceId) -> tuple[str, ...]:
    parsed = [parse_disk(file) for host in hosts for file in host.volumes]
    mine = [disk for disk in parsed if disk is not None and disk.volume.instance == key and not disk.place]
    return tuple(sorted({disk.volume.name for disk in mine if not disk.snapshot and not disk.is_marker}))
