"""What is done about one instance in a turn: its next machine, its progress, its way to rest, its actions. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import ground, machine, members, rest, storage
from orchestrator.engine.case import Case, guest_of, trouble
from orchestrator.engine.lifecycle import advance, fail
from orchestrator.engine.sight import afresh
from orchestrator.model.action import Action, CreateDisk, CreateSeed
from orchestrator.model.names import MachineId
from orchestrator.model.record import Act, Event, InstanceRecord, Successor, Wanted
from orchestrator.model.spec import Stop, is_same_but_larger
from orchestrator.model.world import HostSeen, Power, World

if TYPE_CHECKING:
    from collections.abc import Sequence

KEEP_BYTES = 256 * 1024**2  # with less room than this in the pool nothing is kept for a way back
TOLD = ("started", "agent", "setup", "services", "rotation")


def replan(case: Case, now: float) -> Case:
    """The case with the next machine that it needs, if any.

    Its overlay is lost, or its role asks for another, or what was to be its next machine is not asked for any more.
    """
    record, after = case.record, case.record.next
    if not case.is_wanted or case.seen.here.problem:
        return case
    if after is not None and after.act is Act.UNDO:
        is_possible = MachineId(record.id, after.generation).overlay in case.seen.here.volumes
        if is_possible:
            return case
        event = Event(now, str(record.id), "undo-reimage is not possible any more", "the old overlay is gone")
        return replace(case, record=replace(record, next=None, kept=None), event=event)
    is_lost = machine.is_lost(record, case.seen)
    if after is not None:
        return replace(case, record=_renewed(case, after, is_needed=is_lost or case.is_outdated))
    if not is_lost and not case.is_outdated:
        return case
    cause = "its overlay is gone" if is_lost else f"revision {case.deployment.revision} asks for another machine"
    act = Act.REIMAGE if is_lost else Act.UPGRADE
    return replace(case, record=members.successor(record, act, case.desired, cause))


def replug(case: Case, now: float) -> Case:
    """The case with a reboot, if its machine's network is gone under it: a new one does not reach a running guest."""
    record, here = case.record, case.seen.here
    network = here.networks.get(case.deployment.id.network)
    is_plugged = bool(here.problem) or (network is not None and (network.active or case.seen.is_foreign_network))
    is_running = case.power is Power.RUNNING and record.timeline.started is not None
    if is_plugged or not is_running or not case.is_wanted or record.reboot is not None or record.farewell is not None:
        return case
    event = Event(now, str(record.id), "fault: its network was gone; it is made again, and the machine is rebooted")
    return replace(case, record=replace(record, reboot=now), event=event)


def _renewed(case: Case, after: Successor, *, is_needed: bool) -> InstanceRecord:
    """The record with the next machine as it is asked for now; without one if only an upgrade had wanted it."""
    record = case.record
    if after.act is Act.UPGRADE and not is_needed:
        return replace(record, next=None)
    if after.machine == case.desired:
        return record
    again = replace(after, generation=record.newest + 1, machine=case.desired)
    return replace(record, next=again, newest=record.newest + 1)


def progress(case: Case, world: World, now: float) -> Case:
    """The case with its record moved along by what was seen, and the event that this is worth."""
    if case.role is None or not case.is_wanted or case.seen.here.problem:
        return case
    guest, console = guest_of(case, world), world.consoles.get(case.machine, ())
    record = advance(case.record, power=case.power, guest=guest, timeout_s=case.role.ready.timeout_s, now=now)
    if record.farewell is None and record.wanted is Wanted.UP:
        record = fail(record, power=case.power, guest=guest, console=console, trouble=trouble(case, world), now=now)
    moved = replace(case, record=record)
    if moved.is_serving(world) and record.timeline.rotation is None:
        record = replace(record, timeline=replace(record.timeline, rotation=now))
    record = _keep(record, case.seen.here, case.role.stop, is_full=record.host in world.full, now=now)
    return replace(case, record=record, event=case.event or _told(case.old, record, now))


def _keep(record: InstanceRecord, here: HostSeen, stop: Stop, *, is_full: bool, now: float) -> InstanceRecord:
    """The record without what was kept for a way back, once its time is over or its room is needed."""
    kept = record.kept
    is_back = record.next is not None and record.next.act is Act.UNDO
    if kept is None or is_back:
        return record
    if kept.until is None and record.timeline.rotation is not None:
        return replace(record, kept=replace(kept, until=now + stop.keep_s))
    is_over = kept.until is not None and now >= kept.until
    return replace(record, kept=None) if is_over or is_full or here.free_bytes < KEEP_BYTES else record


def _told(old: InstanceRecord | None, new: InstanceRecord, now: float) -> Event | None:
    """The one event that a step forward is worth."""
    subject = str(new.id)
    if old is None:
        return Event(now, subject, f"created on {new.host} with {new.dip}")
    if new.failure is not None and old.failure is None:
        return Event(now, subject, f"failed at {new.failure.stage.value}", new.failure.reason)
    if new.boot != old.boot:
        return Event(now, subject, f"boot {new.boot}", "another kernel runs in the guest")
    reached = [n for n in TOLD if getattr(new.timeline, n) is not None and getattr(old.timeline, n) is None]
    return Event(now, subject, f"reached {reached[-1]}") if reached else None


def leave(case: Case, world: World, *, may_begin: bool, now: float) -> Case:
    """The case one step further on the way to rest, if its machine has to come to rest."""
    record, act = case.record, case.due
    if case.seen.here.problem or (act is Act.DELETE and case.seen.away):
        return case
    if rest.is_at_rest(case.power):
        return _arrived(case, act, now) if act is not None or record.farewell is not None else case
    if act is None and (record.farewell is None or record.farewell.asked is None):
        # Nothing is wanted of it any more, and it was not told yet: it stays.
        return case if record.farewell is None else replace(case, record=replace(record, farewell=None))
    if record.farewell is None:
        may_begin = act is not None and (may_begin or act is Act.DELETE)
        return _stepped(case, rest.begin(record, act, now)) if act is not None and may_begin else case
    stop = case.role.stop if case.role is not None else Stop()
    drained = rest.is_drained(record, case.role, world.balancer)
    return _stepped(case, rest.go_on(record, record.farewell, stop, is_drained=drained, now=now))


def _arrived(case: Case, act: Act | None, now: float) -> Case:
    """The case with its machine at rest: what that was for is done now."""
    if act is Act.DELETE or case.role is None:
        return case
    if act is None:
        told = Event(now, str(case.record.id), "is off, and wanted again: starts again")
        return replace(case, record=replace(case.record, farewell=None), event=told)
    leg = rest.arrive(
        case.record,
        act,
        case.role.stop,
        timeout_s=case.role.ready.timeout_s,
        has_overlay=case.machine.overlay in case.seen.here.volumes,
        now=now,
    )
    moved = _stepped(case, leg)
    held = case.deployment.revision if act is Act.UNDO else moved.record.held
    return replace(moved, record=replace(moved.record, held=held), seen=afresh(moved.record, case.seen))


def _stepped(case: Case, leg: rest.Leg) -> Case:
    return replace(
        case,
        record=leg.record,
        event=case.event if _is_fault(case.event) else leg.event or case.event,
        before=(*case.before, *leg.before),
        actions=(*case.actions, *leg.actions),
    )


def _is_fault(event: Event | None) -> bool:
    """Whether an event is worth more than that of the step that is taken because of it."""
    return event is not None and event.what.startswith("fault")


def act(case: Case, world: World, now: float) -> Case:
    """The case with the steps to take on its machine, and with the record that has to be stored before them."""
    if case.record.farewell is not None and not rest.is_at_rest(case.power):
        is_paused = case.power is Power.PAUSED
        return replace(case, actions=(*case.actions, *(machine.resume(case.record, case.seen) if is_paused else ())))
    if case.role is None or not case.is_wanted:
        return replace(case, actions=machine.take_away(case.record, case.seen, now))
    if _awaits_successor(case, world):
        return _prepared(case)
    record, actions = machine.bring_up(case.record, case.seen, now + case.role.ready.timeout_s, case.around)
    event = case.event or _fault(case, record, actions, world, now)
    return _grown(_prepared(replace(case, record=record, actions=actions, event=event)))


def _awaits_successor(case: Case, world: World) -> bool:
    """Whether its machine is off, and is better left so as the next one is about to take over."""
    if case.record.next is None or not rest.is_at_rest(case.power):
        return False
    return machine.is_lost(case.record, case.seen) or str(case.record.id) not in world.trouble


def _fault(case: Case, new: InstanceRecord, actions: Sequence[Action], world: World, now: float) -> Event | None:
    """The event of a machine that is found other than it was left, and is put right."""
    seen, started = case.seen.current, case.record.timeline.started
    twins = [domain.name for _host, domain in case.seen.others if domain.power is not Power.OFF]
    emptied = [action.file for action in actions if isinstance(action, CreateDisk)] if new.has_run else []
    has_reseeded = seen is not None and any(isinstance(action, CreateSeed) for action in actions)
    is_resumed = seen is not None and seen.power is Power.PAUSED and bool(machine.resume(new, case.seen))
    has_base = ground.has_base(case.seen.here, new.machine.digest) or f"host {new.host}" in world.trouble
    gone = "the machine went off by itself" if seen is not None else "the machine is gone from its host"
    found = [
        (bool(twins), f"{', '.join(twins)} ran in place of the instance's machine; switched off"),
        (bool(emptied), f"a disk was gone, and is made anew and empty: {', '.join(emptied)}"),
        (started is not None and new.timeline.started is None, f"{gone}; it is started again"),
        (is_resumed, "the machine was paused; it is resumed"),
        (seen is not None and not seen.is_persistent, "its definition was gone from its host; it is defined again"),
        (has_reseeded, "its answer file was gone; it is made again"),
        (new.has_run and case.seen.here.has_pool and not has_base, "its base was altered or gone; it is put back"),
    ]
    what = "; ".join(text for is_so, text in found if is_so)
    why = f"libvirt says: {seen.why}" if seen is not None and seen.why else ""
    return Event(now, str(new.id), f"fault: {what}", why) if what else None


def _prepared(case: Case) -> Case:
    """The case with the disks of its next machine made while the present one still serves."""
    after = case.after
    if after is None or case.record.next is None:
        return case
    steps = machine.prepare(after, case.seen, case.there, case.record.next.act, case.around)
    return replace(case, actions=(*case.actions, *steps))


def _grown(case: Case) -> Case:
    """The case with more room on its disks, if its role asks for it; the record says so once it is done."""
    wanted = case.desired
    if case.before or not is_same_but_larger(case.record.machine, wanted):
        return case
    is_running, here = case.power is Power.RUNNING, case.seen.here
    if here.problem or not here.has_pool or case.seen.intruder is not None:
        return case
    # Before a machine is ready its agent may not be there to enlarge the file systems.
    if not rest.is_at_rest(case.power) and not (is_running and case.record.timeline.services is not None):
        return case
    steps = storage.grow(case.record, wanted, case.seen, is_running=is_running)
    return replace(case, record=replace(case.record, machine=wanted), before=steps)
