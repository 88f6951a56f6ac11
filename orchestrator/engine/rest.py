"""Bringing a machine to rest: out of rotation, drained, given notice, shut down, and only then what it was for. Pure.

Every verb, an upgrade and a deletion take this one road; they differ in what happens on arrival.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine import rotation
from orchestrator.engine.machine import NOT_WANTED, machine_id
from orchestrator.engine.members import again, succeed
from orchestrator.model.action import Action, DestroyDomain, ShutDown
from orchestrator.model.making import is_of_unknown_make
from orchestrator.model.record import Act, Event, Farewell, InstanceRecord, Remedy, Timeline, Wanted
from orchestrator.model.world import Power

if TYPE_CHECKING:
    from orchestrator.model.spec import Role, Stop
    from orchestrator.model.world import BalancerSeen


@dataclass(frozen=True, slots=True)
class Leg:
    """One step of the road: the record after it, what is worth an event, and its actions.

    ``before``: an action that is taken before the record is stored. Should the process die in between it is taken
    again, which does no harm; the other way round it might never be taken.
    """

    record: InstanceRecord
    event: Event | None = None
    before: tuple[Action, ...] = ()
    actions: tuple[Action, ...] = ()


def due(record: InstanceRecord, *, is_wanted: bool, is_prepared: bool) -> Act | None:
    """What the instance's machine has to come to rest for now; None if it may run on."""
    if not is_wanted:
        return Act.DELETE
    if record.next is not None and is_prepared:
        return record.next.act
    if record.wanted is Wanted.STOPPED:
        return Act.STOP
    return Act.REBOOT if record.reboot is not None else None


def begin(record: InstanceRecord, act: Act, now: float) -> Leg:
    """Out of rotation, from now on."""
    told = _event(record, now, f"{act.value}: out of rotation", _why(record, act))
    return Leg(replace(record, farewell=Farewell(act, now)), told)


def go_on(record: InstanceRecord, farewell: Farewell, stop: Stop, *, is_drained: bool, now: float) -> Leg:
    """The next step of a machine that still runs, and has begun to leave."""
    if not is_drained:
        return Leg(record)
    off = (DestroyDomain(record.host, machine_id(record).domain),)
    if farewell.cut is not None:
        return Leg(record, actions=off)
    if record.timeline.agent is None or _is_deaf(record):  # nobody is there who could be told
        return Leg(replace(record, farewell=replace(farewell, cut=now)), actions=off)
    if farewell.asked is None:
        ask = ShutDown(record.host, machine_id(record), farewell.act)
        told = _event(record, now, f"{farewell.act.value}: asked the guest to shut down", _why(record, farewell.act))
        return Leg(replace(record, farewell=replace(farewell, asked=now)), told, before=(ask,))
    if now - farewell.asked < stop.timeout_s:
        return Leg(record)
    cause = f"the guest did not shut down within {stop.timeout_s:.0f} s"
    told = _event(record, now, f"{farewell.act.value}: switched off", cause)
    return Leg(replace(record, farewell=replace(farewell, cut=now)), told, actions=off)


def arrive(record: InstanceRecord, act: Act, stop: Stop, *, timeout_s: float, has_overlay: bool, now: float) -> Leg:
    """What was to be done once the machine is at rest; a deletion is left to whoever takes everything away."""
    if record.next is not None and act is record.next.act:
        keep = stop.keep_s > 0 and has_overlay and not is_of_unknown_make(record.machine)
        after = succeed(record, record.next, timeout_s=timeout_s, keep=keep, now=now)
        return Leg(
            after, _event(record, now, f"{record.next.act.value}: generation {after.generation}", record.next.cause)
        )
    if act is Act.STOP:
        is_news = record.farewell is not None or record.timeline.started is not None
        line = _off(record.timeline, now) if is_news else record.timeline
        after = replace(record, farewell=None, reboot=None, timeline=line)
        return Leg(after, _event(record, now, "stopped", _why(record, act)) if is_news else None)
    if act is Act.REBOOT:
        line = _off(record.timeline, now)
        after = replace(again(record, timeout_s=timeout_s, now=now), farewell=None, reboot=None, timeline=line)
        return Leg(after, _event(record, now, "reboot: starts again", _why(record, act)))
    return Leg(record)


def leaving(record: InstanceRecord, role: Role | None) -> dict[tuple[str, str], float]:
    """Servers of a machine that leaves: (backend, name) → until when their connections may go on, in Unix seconds.

    One that is busy leaves the rotation too, for as long as it is.
    """
    begun = record.farewell.since if record.farewell is not None else record.busy
    if begun is None or role is None:
        return {}
    is_deaf = _is_deaf(record)  # it finishes nothing any more
    until = begun + (0.0 if is_deaf else role.stop.drain_s)
    return {(server.backend, server.name): until for server in rotation.servers(record, role)}


def is_drained(record: InstanceRecord, role: Role | None, balancer: BalancerSeen) -> bool:
    """Whether HAProxy has no server of this machine any more, and can say so."""
    return not balancer.problem and not any(key in balancer.servers for key in leaving(record, role))


def connections(record: InstanceRecord, role: Role | None, balancer: BalancerSeen) -> int:
    keys = leaving(record, role)
    return sum(seen.sessions for key, seen in balancer.servers.items() if key in keys)


def _is_deaf(record: InstanceRecord) -> bool:
    return record.care is not None and record.care.is_deaf


def is_at_rest(power: Power | None) -> bool:
    return power in {None, Power.OFF}


def _off(line: Timeline, now: float) -> Timeline:
    """Back to a machine that is defined and no more; how long it waits is counted from now."""
    return replace(line, defined=now, started=None, agent=None, setup=None, services=None, rotation=None)


def _why(record: InstanceRecord, act: Act) -> str:
    """What a machine is brought to rest for: what repair has found, what asks for another one, or somebody's wish."""
    if record.next is not None and record.next.act is act:
        return record.next.cause
    if act is Act.DELETE:
        return NOT_WANTED
    care = record.care
    if act is Act.REBOOT and care is not None and care.well is None and care.remedy is Remedy.REBOOT:
        return f"repair: {care.evidence}"
    return f"{act.value} was asked for"


def _event(record: InstanceRecord, now: float, what: str, cause: str) -> Event:
    return Event(now, str(record.id), what, cause)
