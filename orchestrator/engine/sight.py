"""What was seen of one instance, picked out of the world: its machines, its files, and what stands in their way. Pure.

A machine is known by our mark inside its definition, not by its name: somebody may have given it another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.model.disks import files
from orchestrator.model.making import is_of_unknown_make
from orchestrator.model.names import MachineId, machine_of_volume, parse_disk
from orchestrator.model.world import DomainSeen, HostSeen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestrator.model.names import InstanceId
    from orchestrator.model.record import InstanceRecord


@dataclass(frozen=True, slots=True)
class Sight:
    """All that was seen of one instance. ``here``: its own host, ``hosts``: all of them.

    ``current``: the domain of its generation on its host. ``others``: (host, domain) of every other machine of this
    instance that is ours, wherever it is. ``foreign``: a domain of our name that does not carry our mark.
    ``intruder``: (host, domain) of one that runs on a file of this instance and is none of its machines.
    ``leftovers``: (host, file) of machines that are neither current, nor next, nor kept, and of places it has left.
    ``away``: hosts that could not be asked. ``is_foreign_network``: the deployment's network there is not ours.
    """

    here: HostSeen
    hosts: tuple[HostSeen, ...]
    current: DomainSeen | None
    others: tuple[tuple[str, DomainSeen], ...]
    foreign: DomainSeen | None
    intruder: tuple[str, DomainSeen] | None
    leftovers: tuple[tuple[str, str], ...]
    away: tuple[str, ...]
    is_foreign_network: bool


def sight(record: InstanceRecord, hosts: Iterable[HostSeen], owner: str) -> Sight:
    """Pick out of the world what belongs to one instance."""
    machine = MachineId(record.id, record.generation)
    every = tuple(hosts)
    lost = HostSeen(record.host, problem=f"host {record.host} is not one of the site's hosts")
    here = next((host for host in every if host.name == record.host), lost)
    ours = [(host.name, d) for host in every for d in host.machines.get(record.id, ()) if d.owner == owner]
    current = next((d for name, d in ours if name == record.host and d.name == machine.domain), None)
    named = here.domains.get(machine.domain)
    network = here.networks.get(record.id.deployment.network)
    return Sight(
        here=here,
        hosts=every,
        current=current,
        others=tuple((name, d) for name, d in ours if d is not current),
        foreign=named if named is not None and named.owner != owner else None,
        intruder=next(_intruders(record.id, every, owner), None),
        leftovers=leftovers(record, every),
        away=tuple(host.name for host in every if host.problem),
        is_foreign_network=network is not None and network.owner != owner,
    )


def afresh(record: InstanceRecord, seen: Sight) -> Sight:
    """The same look at an instance whose record has another machine now: what was current is one of the others."""
    here = next((host for host in seen.hosts if host.name == record.host), seen.here)
    was = () if seen.current is None else ((seen.here.name, seen.current),)
    domain = MachineId(record.id, record.generation).domain
    known = (*seen.others, *was)
    current = next((d for name, d in known if (name, d.name) == (record.host, domain)), None)
    others = tuple((name, d) for name, d in known if d is not current)
    return replace(seen, here=here, current=current, others=others, leftovers=leftovers(record, seen.hosts))


def _intruders(key: InstanceId, hosts: Iterable[HostSeen], owner: str) -> Iterator[tuple[str, DomainSeen]]:
    for host in hosts:
        for domain in host.tenants.get(key, ()):
            if domain.owner != owner or domain.instance != key:
                yield host.name, domain


def leftovers(record: InstanceRecord, hosts: Iterable[HostSeen]) -> tuple[tuple[str, str], ...]:
    """Files of this instance that nothing needs any more, and nobody has open; volumes are never among them."""
    return tuple(
        (host.name, file)
        for host in hosts
        for file in host.files.get(record.id, ())
        if _is_stale(file, record, host.name) and not is_open(host, file)
    )


def is_open(host: HostSeen, file: str, but_for: InstanceId | None = None) -> bool:
    """Whether a machine that is on has a file open; those of the instance ``but_for`` do not count."""
    return any(domain.instance is None or domain.instance != but_for for domain in host.users.get(file, ()))


def _is_stale(file: str, record: InstanceRecord, host: str) -> bool:
    machine = machine_of_volume(file)
    if machine is not None:
        return machine.instance == record.id and not _is_needed(machine, file, record, host)
    disk = parse_disk(file)
    if disk is None or not disk.place or disk.volume.instance != record.id:
        return False
    if is_of_unknown_make(record.machine) and (host, disk.place) == (record.host, record.place):
        return False  # what disks it has is not known
    return (host, file) not in _local_disks(record)


def _local_disks(record: InstanceRecord) -> set[tuple[str, str]]:
    """(host, file) of the local storage that its machine has, that its next one will have, or its kept one had."""
    machine = MachineId(record.id, record.generation)
    needed = [(record.host, file) for _disk, file in files(machine, record.machine, record.place)]
    if record.next is not None:
        after = record.next
        coming = files(MachineId(record.id, after.generation), after.machine, after.place)
        needed += [(after.host, file) for _disk, file in coming]
    if record.kept is not None:
        needed += [(record.host, file) for _disk, file in files(machine, record.kept.machine, record.place)]
    return set(needed)


def transient(record: InstanceRecord, hosts: Iterable[HostSeen]) -> tuple[tuple[str, str], ...]:
    """(host, file) of all that goes with an instance: every file of every machine of it, and its local storage."""
    return tuple(
        (host.name, file)
        for host in hosts
        for file in host.files.get(record.id, ())
        if _goes_with(file, record.id) and not is_open(host, file, record.id)
    )


def _goes_with(file: str, key: InstanceId) -> bool:
    machine, disk = machine_of_volume(file), parse_disk(file)
    if machine is not None:
        return machine.instance == key
    return disk is not None and disk.place > 0 and disk.volume.instance == key


def _is_needed(machine: MachineId, file: str, record: InstanceRecord, host: str) -> bool:
    if file == machine.flat:  # whoever made it takes it away; this one is left from somebody who was killed
        return False
    if (machine.generation, host) == (record.generation, record.host):
        return file != machine.seed or not record.is_set_up
    if record.next is not None and (machine.generation, host) == (record.next.generation, record.next.host):
        return True
    # Of a machine that is kept for a way back only the disks are: its answer file can be made again.
    is_kept = record.kept is not None and (machine.generation, host) == (record.kept.generation, record.host)
    return is_kept and file not in {machine.seed, machine.console}
