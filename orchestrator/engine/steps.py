"""What is done about one instance in a turn: its next machine, its progress, its way to rest, its actions. Pure."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.engine import care, faults, machine, members, rest, rollout, startorder, storage
from orchestrator.engine.case import Case, guest_of, is_under_way, trouble
from orchestrator.engine.health import NOTHING
from orchestrator.engine.lifecycle import advance, fail
from orchestrator.engine.sight import afresh
from orchestrator.model.making import is_same_but_larger
from orchestrator.model.names import MachineId
from orchestrator.model.record import Act, Event, InstanceRecord, Remedy, Successor, Wanted
from orchestrator.model.spec import Stop
from orchestrator.model.world import HostSeen, Power, World

KEEP_BYTES = 256 * 1024**2  # with less room than this in the pool nothing is kept for a way back
# What a machine reaches, and by what that is known.
TOLD = {
    "started": "QEMU runs",
    "agent": "the guest answers",
    "setup": "setup has ended well",
    "services": "its services are up",
    "rotation": "HAProxy sees it up",
}


def replan(case: Case, now: float) -> Case:  # noqa: PLR0911 - one return a rung
    """The case with the next machine that it needs, if any.

    Its overlay is lost, or its role asks for another, or what was to be its next machine is not asked for any more.
    """
    record, after = case.record, case.record.next
    if not case.is_wanted or case.seen.here.problem:
        return case
    if rollout.is_of_upgrade(record) and case.waits_for_turn:
        return replan(replace(case, record=replace(record, next=None)), now)
    if after is not None and after.act is Act.UNDO:
        is_possible = MachineId(record.id, after.generation).overlay in case.seen.here.volumes
        if is_possible:
            return case
        event = Event(now, str(record.id), "undo-reimage is not possible any more", "the old overlay is gone")
        return replace(case, record=replace(record, next=None, kept=None), event=event)
    is_lost = machine.is_lost(record, case.seen)
    if after is not None:
        return replace(case, record=_renewed(case, after, is_needed=is_lost or case.is_outdated))
    is_paused = case.deployment.paused is not None
    if is_paused or (not is_lost and not case.is_outdated):
        return case
    return replace(case, record=_replaced(case, is_lost=is_lost))


def _replaced(case: Case, *, is_lost: bool) -> InstanceRecord:
    """The record with another machine: the one that it had, if that is what is asked for and its overlay is there."""
    record, kept, revision = case.record, case.record.kept, case.deployment.revision
    if is_lost:
        return members.successor(record, Act.REIMAGE, case.desired, "its overlay is gone")
    under_way = rollout.current(case.deployment)
    if under_way is None or not under_way.is_back:
        return members.successor(record, Act.UPGRADE, case.desired, f"revision {revision} asks for another machine")
    is_there = kept is not None and MachineId(record.id, kept.generation).overlay in case.seen.here.volumes
    if kept is not None and is_there and is_same_but_larger(kept.machine, case.desired):
        return members.undone(record, kept, f"{rollout.BACK}: its overlay from before")
    return members.successor(record, Act.UPGRADE, case.desired, f"{rollout.BACK}: no overlay from before is left")


def replug(case: Case, now: float) -> Case:
    """The case with a reboot, if its machine's network is gone under it: a new one does not reach a running guest."""
    record, here = case.record, case.seen.here
    network = here.networks.get(case.deployment.id.network)
    is_plugged = bool(here.problem) or (network is not None and (network.active or case.seen.is_foreign_network))
    is_running = case.power is Power.RUNNING and record.timeline.started is not None
    is_paused = case.deployment.paused is not None
    if (
        is_plugged
        or is_paused
        or not is_running
        or not case.is_wanted
        or record.reboot is not None
        or record.farewell is not None
    ):
        return case
    cause = f"{case.deployment.id.network} is not there, or not active"
    event = Event(
        now, str(record.id), "fault: its network was gone; it is made again, and the machine is rebooted", cause
    )
    return replace(case, record=replace(record, reboot=now), event=event)


_NO_FILTER = ("its filter was gone from under its machine; it is put back", "its network card is not behind it")
_NO_RULES = (
    "its host's rules for its network were gone; they are made again",
    "the kernel does not have them any more, as after `nft flush ruleset`",
)


def unguarded(case: Case, world: World, now: float) -> Case:
    """The case with the event that the kernel has no rules any more for its machine, which are put back."""
    current, network = case.seen.current, case.seen.here.networks.get(case.deployment.id.network)
    is_tried = {str(case.record.id), f"host {case.record.host}"} & world.trouble.keys()
    if current is None or case.power is not Power.RUNNING or not case.is_wanted or is_tried:
        return case
    gone = [] if current.is_guarded else [_NO_FILTER]
    gone += [_NO_RULES] if network is not None and not network.is_ruled else []
    what, cause = ("; ".join(each) for each in zip(*gone, strict=True)) if gone else ("", "")
    event = Event(now, str(case.record.id), f"fault: {what}", cause)
    return replace(case, event=case.event or event) if gone else case


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
    is_on_its_way = record.farewell is None and record.wanted is Wanted.UP and not startorder.is_held(record)
    if is_on_its_way and not replace(case, record=record).is_unserved(world):
        record = fail(record, power=case.power, guest=guest, console=console, trouble=trouble(case, world), now=now)
    moved = replace(case, record=record)
    if moved.is_serving(world) and record.timeline.rotation is None:
        record = replace(record, timeline=replace(record.timeline, rotation=now))
    if record.timeline.rotation is not None and record.failure is None and not record.proven:
        record = replace(record, proven=True)
    is_over = case.deployment.rollout is None
    record = _keep(record, case.seen.here, case.role.stop, is_full=record.host in world.full, is_over=is_over, now=now)
    told = _told(case.old, record, guest.busy, now)
    if record.fault is None or case.power is not Power.RUNNING or not _is_back(record):
        return replace(case, record=record, event=case.event or told)
    event = Event(now, str(record.id), "back in rotation", f"{now - record.fault:.1f} s after it went out by itself")
    return replace(case, record=replace(record, fault=None), event=case.event or event)


def _is_back(record: InstanceRecord) -> bool:
    """Whether what was done about a fault is over: it has been in rotation since, and nothing is under way."""
    care = record.care
    restarts = care is not None and care.well is None and care.remedy is Remedy.RESTART
    return record.timeline.rotation is not None and not is_under_way(record) and not restarts


def _keep(
    record: InstanceRecord, here: HostSeen, stop: Stop, *, is_full: bool, is_over: bool, now: float
) -> InstanceRecord:
    """The record without what was kept for a way back, once its time is over or its room is needed.

    ``is_over``: no upgrade is under way, which could be rolled back.
    """
    kept = record.kept
    is_back = record.next is not None and record.next.act is Act.UNDO
    if kept is None or is_back:
        return record
    if kept.until is None and record.timeline.rotation is not None:
        return replace(record, kept=replace(kept, until=now + stop.keep_s))
    is_over = is_over and kept.until is not None and now >= kept.until
    return replace(record, kept=None) if is_over or is_full or here.free_bytes < KEEP_BYTES else record


def _told(old: InstanceRecord | None, new: InstanceRecord, busy: str, now: float) -> Event | None:
    """The one event that a step forward is worth. ``busy``: what the code in the guest gives as its reason."""
    subject = str(new.id)
    if old is None:
        return Event(now, subject, f"created on {new.host} with {new.dip}", f"role {new.id.role} asks for it")
    if new.failure is not None and old.failure is None:
        return Event(now, subject, f"failed at {new.failure.stage.value}", new.failure.reason)
    if (new.busy is None) != (old.busy is None):
        over = Event(now, subject, "not busy any more", "the code in the guest does not say so any more")
        return over if new.busy is None else Event(now, subject, "busy: out of rotation", busy)
    if new.hooks and new.hooks != old.hooks:
        return Event(now, subject, "on-change failed", new.hooks)
    if new.boot != old.boot:
        return Event(now, subject, f"boot {new.boot}", "another kernel runs in the guest")
    reached = [n for n in TOLD if getattr(new.timeline, n) is not None and getattr(old.timeline, n) is None]
    return Event(now, subject, f"reached {reached[-1]}", "; ".join(TOLD[n] for n in reached)) if reached else None


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
        told = Event(now, str(case.record.id), "is off, and wanted again: starts again", "start was asked for")
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
    seen = afresh(moved.record, case.seen)
    # What was found was about the machine, or the boot, that is over.
    return replace(moved, record=replace(moved.record, held=held), seen=seen, found=NOTHING, need=None)


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
    return event is not None and event.what.startswith(("fault", "repair"))


def act(case: Case, world: World, now: float) -> Case:
    """The case with the steps to take on its machine, and with the record that has to be stored before them."""
    if case.record.farewell is not None and not rest.is_at_rest(case.power):
        is_paused = case.power is Power.PAUSED
        return replace(case, actions=(*case.actions, *(machine.resume(case.record, case.seen) if is_paused else ())))
    if case.role is None or not case.is_wanted:
        return replace(case, actions=machine.take_away(case.record, case.seen, now))
    if case.held_by or _awaits_successor(case, world) or care.is_left_alone(case):
        return _prepared(case)
    record, actions = machine.bring_up(case.record, case.seen, now + case.role.ready.timeout_s, case.around)
    record, told = faults.fault(case, record, actions, world, now)
    event = case.event or told
    return _grown(_prepared(replace(case, record=record, actions=actions, event=event)))


def _awaits_successor(case: Case, world: World) -> bool:
    """Whether its machine is off, and is better left so as the next one is about to take over."""
    if case.record.next is None or not rest.is_at_rest(case.power):
        return False
    return machine.is_lost(case.record, case.seen) or str(case.record.id) not in world.trouble


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
    if not steps and case.record.machine == wanted:
        return case
    return replace(case, record=replace(case.record, machine=wanted), before=steps)
