"""The steps that bring one instance's machine to life, or take it away. Pure.

The order is the safety: a generation is started only after every other machine of the instance is off and undefined,
and nothing of a machine is deleted while a domain still names it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine.lifecycle import MAX_STARTS
from orchestrator.model.action import (
    Action,
    CreateOverlay,
    CreateSeed,
    DefineDomain,
    DeleteVolume,
    DestroyDomain,
    ForgetInstance,
    ResumeDomain,
    StartDomain,
    UndefineDomain,
)
from orchestrator.model.names import MachineId, machine_of_volume, parse_machine
from orchestrator.model.record import Event, InstanceRecord
from orchestrator.model.world import DomainSeen, HostSeen, Power

if TYPE_CHECKING:
    from collections.abc import Iterable

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Sight:
    """All that was seen of one instance. ``here``: its own host. ``current``: the domain of its generation there.

    ``others``: (host, domain) of every other machine of this instance that is ours, wherever it is. ``foreign``: a
    domain of our name that does not carry our mark. ``leftovers``: (host, volume) of machines that are not current.
    ``away``: hosts that could not be asked. ``is_foreign_network``: the deployment's network there is not ours.
    """

    here: HostSeen
    current: DomainSeen | None
    others: tuple[tuple[str, DomainSeen], ...]
    foreign: DomainSeen | None
    leftovers: tuple[tuple[str, str], ...]
    away: tuple[str, ...]
    is_foreign_network: bool


def sight(record: InstanceRecord, hosts: Iterable[HostSeen], owner: str) -> Sight:
    """Pick out of the world what belongs to one instance."""
    machine = MachineId(record.id, record.generation)
    here = HostSeen(record.host, problem=f"host {record.host} is not one of the site's hosts")
    others: list[tuple[str, DomainSeen]] = []
    leftovers: list[tuple[str, str]] = []
    current = foreign = None
    away = []
    for host in hosts:
        here = host if host.name == record.host else here
        if host.problem:
            away.append(host.name)
        for domain in _of_instance(record, host):
            is_current = domain.name == machine.domain and host.name == record.host
            if domain.owner != owner:
                foreign = domain if is_current else foreign
            elif is_current:
                current = domain
            else:
                others.append((host.name, domain))
        leftovers += [(host.name, volume) for volume in _stale_volumes(record, host, machine)]
    network = here.networks.get(record.id.deployment.network)
    is_foreign_network = network is not None and network.owner != owner
    return Sight(here, current, tuple(others), foreign, tuple(sorted(leftovers)), tuple(away), is_foreign_network)


def outdate(record: InstanceRecord, seen: Sight) -> Sight:
    """The same sight after the instance got a new generation: what was current is one of the others now."""
    others = seen.others if seen.current is None else (*seen.others, (record.host, seen.current))
    stale = [(record.host, v) for v in sorted(seen.here.volumes) if machine_of_volume(v) == _id(record)]
    return replace(seen, current=None, others=others, leftovers=(*seen.leftovers, *stale))


def _of_instance(record: InstanceRecord, host: HostSeen) -> list[DomainSeen]:
    parsed = ((parse_machine(name), domain) for name, domain in sorted(host.domains.items()))
    return [domain for machine, domain in parsed if machine is not None and machine.instance == record.id]


def _stale_volumes(record: InstanceRecord, host: HostSeen, machine: MachineId) -> list[str]:
    found = ((machine_of_volume(volume), volume) for volume in host.volumes)
    return [
        volume
        for owner, volume in found
        if owner is not None and owner.instance == record.id and (owner != machine or host.name != record.host)
    ]


def is_lost(record: InstanceRecord, seen: Sight) -> bool:
    """Whether a machine that has run lost its overlay: it cannot be started again, only be made anew."""
    machine = MachineId(record.id, record.generation)
    is_off = seen.current is None or seen.current.power is Power.OFF
    can_tell = not seen.here.problem and seen.here.has_pool
    return record.has_run and is_off and can_tell and machine.overlay not in seen.here.volumes


def bring_up(record: InstanceRecord, seen: Sight, deadline: float) -> tuple[InstanceRecord, tuple[Action, ...]]:
    """The steps towards a running machine of the record's generation, and the record to be stored before them.

    ``deadline``: by when a machine that was ready, and went off, has to be ready again.
    """
    if seen.here.problem or seen.foreign is not None or seen.is_foreign_network:
        return record, ()
    power = seen.current.power if seen.current is not None else None
    if power is Power.PAUSED:
        return record, (ResumeDomain(record.host, _id(record).domain),)
    if power is Power.RUNNING:
        return record, _clear_others(seen)
    if power is Power.UNSETTLED or record.failure is not None or record.starts >= MAX_STARTS:
        return record, ()
    if record.has_run and not seen.here.has_pool:
        return record, ()  # its overlay is there, most likely: nothing is made until the pool can be looked into
    machine = _id(record)
    disks = _disks(record, seen) if power is None else ()
    define = DefineDomain(record.host, machine, record.machine.digest, record.machine.size)
    start = (*((define,) if power is None else ()), StartDomain(record.host, machine))
    # A machine that went off starts its boot anew; how often it did is counted when it is seen to run.
    line = replace(record.timeline, started=None, agent=None, setup=None, services=None, rotation=None)
    due = record.deadline if record.timeline.services is None else deadline
    return replace(record, timeline=line, deadline=due), (*disks, *_clear_others(seen), *start)


def _disks(record: InstanceRecord, seen: Sight) -> tuple[Action, ...]:
    """Overlay and seed, made before the old machine stops; an overlay that has been used is kept."""
    machine = _id(record)
    is_used = record.has_run and machine.overlay in seen.here.volumes
    size_bytes = record.machine.size.disk_gib * GIB
    overlay = CreateOverlay(record.host, machine, record.machine.digest, size_bytes)
    return (*(() if is_used else (overlay,)), CreateSeed(record.host, machine, record))


def _clear_others(seen: Sight) -> tuple[Action, ...]:
    off = [action for host, domain in seen.others for action in _take_down(host, domain)]
    return (*off, *(DeleteVolume(host, volume) for host, volume in seen.leftovers))


def _take_down(host: str, domain: DomainSeen) -> list[Action]:
    off: list[Action] = [] if domain.power is Power.OFF else [DestroyDomain(host, domain.name)]
    return [*off, UndefineDomain(host, domain.name)]


def take_away(record: InstanceRecord, seen: Sight, now: float) -> tuple[Action, ...]:
    """The steps after which nothing of the instance is left; none while a host cannot be asked."""
    if seen.away:
        return ()
    own = [] if seen.current is None else _take_down(record.host, seen.current)
    files = sorted(volume for volume in seen.here.volumes if machine_of_volume(volume) == _id(record))
    return (
        *own,
        *_clear_others(seen),
        *(DeleteVolume(record.host, volume) for volume in files),
        ForgetInstance(record.id, Event(now, str(record.id), "deleted")),
    )


def _id(record: InstanceRecord) -> MachineId:
    return MachineId(record.id, record.generation)
