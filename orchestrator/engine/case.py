"""One instance with all that a decision about it needs, moved along by what was seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine import machine, members, rest, rotation, storage
from orchestrator.engine.lifecycle import SILENT, advance, fail, judge
from orchestrator.engine.sight import Sight, afresh
from orchestrator.engine.status import InstanceStatus, State, since
from orchestrator.model.names import MachineId
from orchestrator.model.record import Act, DeploymentRecord, Event, Farewell, InstanceRecord, Stage, Wanted
from orchestrator.model.spec import MachineSpec, Role, Stop, is_same_but_larger, machine_spec
from orchestrator.model.world import GuestSeen, HostSeen, Power, ServerState, World

if TYPE_CHECKING:
    from orchestrator.model.action import Action, Server

KEEP_BYTES = 256 * 1024**2  # with less room than this in the pool nothing is kept for a way back
TOLD = ("started", "agent", "setup", "services", "rotation")


@dataclass(frozen=True, slots=True)
class Case:
    """An instance. ``old``: as it is stored (None: not yet). ``role`` None: the service has no such role any more.

    ``before``: steps that are taken before the record is stored, ``actions``: those after it.
    """

    deployment: DeploymentRecord
    old: InstanceRecord | None
    record: InstanceRecord
    role: Role | None
    seen: Sight
    before: tuple[Action, ...] = ()
    actions: tuple[Action, ...] = ()
    event: Event | None = None

    @property
    def machine(self) -> MachineId:
        return MachineId(self.record.id, self.record.generation)

    @property
    def power(self) -> Power | None:
        return self.seen.current.power if self.seen.current is not None else None

    @property
    def is_wanted(self) -> bool:
        """Whether there should be such an instance at all, running or stopped."""
        return self.record.wanted in {Wanted.UP, Wanted.STOPPED} and self.role is not None

    @property
    def desired(self) -> MachineSpec:
        """What its role makes it of; a role that is gone asks for no change."""
        if self.role is None:
            return self.record.machine
        return machine_spec(self.role, self.deployment.digests[self.role.name])

    @property
    def is_outdated(self) -> bool:
        """Whether its machine is not what its role asks for; one that was brought back on purpose is left alone."""
        if self.record.held == self.deployment.revision or is_same_but_larger(self.record.machine, self.desired):
            return False
        return self.record.machine != self.desired

    @property
    def is_ready(self) -> bool:
        """Whether its machine has become ready and still runs, as far as anybody can tell."""
        # A host that cannot be asked is unknown, not gone: what was ready there stays where it is.
        is_running = self.power is Power.RUNNING or bool(self.seen.here.problem)
        has_become = self.record.timeline.services is not None and self.record.failure is None
        return self.is_wanted and is_running and has_become

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers that it should have in rotation now: none unless it is ready, and not on its way out."""
        if self.role is None or not self.is_ready or self.record.farewell is not None:
            return ()
        return rotation.servers(self.record, self.role)

    @property
    def after(self) -> InstanceRecord | None:
        """The instance as its next machine will be, if there is to be one."""
        return members.as_successor(self.record, self.record.next) if self.record.next is not None else None

    @property
    def there(self) -> HostSeen:
        """The host of its next machine."""
        name = self.record.next.host if self.record.next is not None else self.record.host
        lost = HostSeen(name, problem=f"host {name} is not one of the site's hosts")
        return next((host for host in self.seen.hosts if host.name == name), lost)

    @property
    def due(self) -> Act | None:
        """What its machine has to come to rest for now."""
        after = self.after
        is_prepared = after is not None and machine.is_prepared(after, self.seen, self.there, self.deployment.id)
        return rest.due(self.record, is_wanted=self.is_wanted, is_prepared=is_prepared)

    def can_serve(self, world: World) -> bool:
        """Whether others may leave while it stays: it is ready, and HAProxy does send to it.

        One endpoint is enough: those that are only just added to the file are nowhere in HAProxy yet.
        """
        seen = [world.balancer.servers.get((server.backend, server.name)) for server in self.servers]
        known = [found for found in seen if found is not None]
        is_in = not seen or any(found.state is ServerState.READY for found in known)
        is_leaving = self.record.farewell is not None
        return self.is_ready and not is_leaving and is_in and all(found.up for found in known)

    def is_serving(self, world: World) -> bool:
        """Whether it is ready, and HAProxy sends to every server of it (a role without endpoints has none)."""
        is_leaving = self.record.farewell is not None
        return self.is_ready and not is_leaving and all(_is_in(server, world) for server in self.servers)


def _is_in(server: Server, world: World) -> bool:
    seen = world.balancer.servers.get((server.backend, server.name))
    return seen is not None and seen.state is ServerState.READY and seen.up


def replan(case: Case) -> Case:
    """The case with the next machine that it needs, if any.

    Its overlay is lost, or its role asks for another, or what was to be its next machine is not asked for any more.
    """
    record, after = case.record, case.record.next
    if not case.is_wanted or case.seen.here.problem:
        return case
    if after is not None and after.act is Act.UNDO:
        is_possible = MachineId(record.id, after.generation).overlay in case.seen.here.volumes
        return case if is_possible else replace(case, record=replace(record, next=None))
    is_lost = machine.is_lost(record, case.seen)
    if after is not None and after.act is Act.UPGRADE and not case.is_outdated and not is_lost:
        return replace(case, record=replace(record, next=None))
    if after is not None and after.machine != case.desired:
        again = replace(after, generation=record.newest + 1, machine=case.desired)
        return replace(case, record=replace(record, next=again, newest=record.newest + 1))
    if after is not None or not (is_lost or case.is_outdated):
        return case
    cause = "its overlay is gone" if is_lost else f"revision {case.deployment.revision} asks for another machine"
    act = Act.REIMAGE if is_lost else Act.UPGRADE
    return replace(case, record=members.successor(record, act, case.desired, cause))


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
        return replace(case, record=replace(case.record, farewell=None))
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
        event=leg.event or case.event,
        before=(*case.before, *leg.before),
        actions=(*case.actions, *leg.actions),
    )


def act(case: Case, world: World, now: float) -> Case:
    """The case with the steps to take on its machine, and with the record that has to be stored before them."""
    if case.record.farewell is not None and not rest.is_at_rest(case.power):
        is_paused = case.power is Power.PAUSED
        return replace(case, actions=(*case.actions, *(machine.resume(case.record, case.seen) if is_paused else ())))
    if case.role is None or not case.is_wanted:
        return replace(case, actions=machine.take_away(case.record, case.seen, now))
    if _awaits_successor(case, world):
        return _prepared(case)
    record, actions = machine.bring_up(case.record, case.seen, now + case.role.ready.timeout_s)
    event = case.event or _fault(case, record, now)
    return _grown(_prepared(replace(case, record=record, actions=actions, event=event)))


def _awaits_successor(case: Case, world: World) -> bool:
    """Whether its machine is off, and is better left so as the next one is about to take over."""
    if case.record.next is None or not rest.is_at_rest(case.power):
        return False
    return machine.is_lost(case.record, case.seen) or str(case.record.id) not in world.trouble


def _fault(case: Case, new: InstanceRecord, now: float) -> Event | None:
    """The event of a machine that is found other than it was left, and is put right."""
    seen, started = case.seen.current, case.record.timeline.started
    twins = [domain.name for _host, domain in case.seen.others if domain.power is not Power.OFF]
    why = f"libvirt says: {seen.why}" if seen is not None and seen.why else ""
    what = ""
    if twins:
        what = f"{', '.join(twins)} ran in place of the instance's machine; switched off"
    elif started is not None and new.timeline.started is None:
        gone = "the machine went off by itself" if seen is not None else "the machine is gone from its host"
        what = f"{gone}; it is started again"
    elif seen is not None and seen.power is Power.PAUSED and machine.resume(new, case.seen):
        what = "the machine was paused; it is resumed"
    elif seen is not None and not seen.is_persistent:
        what = "its definition was gone from its host; it is defined again"
    return Event(now, str(new.id), f"fault: {what}", why) if what else None


def _prepared(case: Case) -> Case:
    """The case with the disks of its next machine made while the present one still serves."""
    after = case.after
    if after is None or case.record.next is None:
        return case
    steps = machine.prepare(after, case.seen, case.there, case.record.next.act)
    return replace(case, actions=(*case.actions, *steps))


def _grown(case: Case) -> Case:
    """The case with more room on its disks, if its role asks for it; the record says so once it is done."""
    wanted = case.desired
    if case.record.machine == wanted or not is_same_but_larger(case.record.machine, wanted) or case.before:
        return case
    is_running = case.power is Power.RUNNING
    if is_running and case.record.timeline.services is None:
        return case  # its agent may not be there yet to enlarge the file systems
    steps = storage.grow(case.record, wanted, case.seen, is_running=is_running)
    return replace(case, record=replace(case.record, machine=wanted), before=steps)


def guest_of(case: Case, world: World) -> GuestSeen:
    return world.guests.get(case.machine, SILENT)


def trouble(case: Case, world: World) -> str:
    """What stands in the instance's way that no step of ours can mend, or that did not work just now; "" if nothing."""
    if case.seen.here.problem:
        return case.seen.here.problem
    if found := _in_the_way(case):
        return found
    if case.servers and (world.balancer.problem or not world.balancer.running):
        return world.balancer.problem or "HAProxy does not run"
    if case.record.farewell is not None and world.balancer.problem:
        return world.balancer.problem
    return world.trouble.get(str(case.record.id), "") or world.trouble.get(f"host {case.record.host}", "")


def _in_the_way(case: Case) -> str:
    """What somebody else has put where our machine should be, or taken away that it needs."""
    seen, host = case.seen, case.record.host
    if seen.current is not None and seen.current.power is Power.PAUSED and not machine.resume(case.record, seen):
        return f"the machine is paused: {seen.current.why}, and its pool on host {host} has no room"
    if seen.foreign is not None:
        return f"host {host} has a domain {seen.foreign.name} that is not ours"
    if seen.intruder is not None:
        where, domain = seen.intruder
        files = ", ".join(sorted(domain.files)[:3])
        return f"domain {domain.name} on host {where}, which is not ours, runs on disks of this instance ({files})"
    network = seen.here.networks.get(case.deployment.id.network)
    if network is not None and seen.is_foreign_network:
        return f"host {host} has a network {network.name} that is not ours"
    return storage.obstacle(case.record, seen) if seen.here.has_pool else ""


def status(case: Case, world: World, now: float) -> InstanceStatus:
    """The instance as people see it."""
    record, problem = case.record, trouble(case, world)
    begun, stage = since(record.timeline), stage_of_gone(record)
    if case.seen.here.problem:
        state = State.UNKNOWN if case.is_wanted else State.STOPPING
        return InstanceStatus(record, state, stage, begun, problem)
    if record.farewell is not None and not rest.is_at_rest(case.power):
        return _leaving(case, record.farewell, world, problem, now)
    if not case.is_wanted:
        reason = problem or ("waiting for " + ", ".join(case.seen.away) if case.seen.away else "being deleted")
        return InstanceStatus(record, State.STOPPING, stage, begun, reason)
    if record.wanted is Wanted.STOPPED and rest.is_at_rest(case.power):
        return InstanceStatus(record, State.STOPPED, Stage.START, begun, problem)
    judged = judge(
        record,
        guest=guest_of(case, world),
        console=world.consoles.get(case.machine, ()),
        in_rotation=case.is_serving(world),
        trouble=problem or world.trouble.get("balancer", ""),
        now=now,
    )
    return judged if judged.reason or not is_under_way(record) else replace(judged, reason=_waits(case, problem))


def _leaving(case: Case, farewell: Farewell, world: World, problem: str, now: float) -> InstanceStatus:
    record = case.record
    stop = case.role.stop if case.role is not None else Stop()
    if farewell.asked is None:
        count = rest.connections(record, case.role, world.balancer)
        reason = f"{farewell.act.value}: {count} connections left, {now - farewell.since:.0f} of {stop.drain_s:.0f} s"
        return InstanceStatus(record, State.DRAINING, Stage.ROTATION, farewell.since, problem or reason)
    reason = f"{farewell.act.value}: the guest shuts down, {now - farewell.asked:.0f} of {stop.timeout_s:.0f} s"
    return InstanceStatus(record, State.STOPPING, Stage.ROTATION, farewell.asked, problem or reason)


def _waits(case: Case, problem: str) -> str:
    """Why an instance that serves has not begun to do what is wanted of it."""
    due = case.due
    if due is not None:
        return f"{due.value} waits for its turn: too many of {case.record.id.role} are away now"
    after = case.record.next
    return f"{after.act.value} waits for its disks" + (f": {problem}" if problem else "") if after is not None else ""


def is_under_way(record: InstanceRecord) -> bool:
    """Whether something was asked of the instance that is not done yet."""
    is_asked = record.next is not None or record.reboot is not None or record.farewell is not None
    return is_asked or (record.wanted is Wanted.STOPPED and record.timeline.started is not None)


def stage_of_gone(record: InstanceRecord) -> Stage:
    return Stage.START if record.timeline.started is None else Stage.ROTATION
