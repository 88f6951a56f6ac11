"""One instance with all that a decision about it needs, moved along by what was seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine import machine, members, rotation
from orchestrator.engine.lifecycle import SILENT, advance, fail, judge
from orchestrator.engine.status import InstanceStatus, State, since
from orchestrator.model.names import MachineId
from orchestrator.model.record import DeploymentRecord, Event, InstanceRecord, Stage, Wanted
from orchestrator.model.spec import MachineSpec, Role, machine_spec
from orchestrator.model.world import GuestSeen, Power, ServerState, World

if TYPE_CHECKING:
    from orchestrator.model.action import Action, Server

TOLD = ("started", "agent", "setup", "services", "rotation")


@dataclass(frozen=True, slots=True)
class Case:
    """An instance. ``old``: as it is stored (None: not yet). ``role`` None: the service has no such role any more."""

    deployment: DeploymentRecord
    old: InstanceRecord | None
    record: InstanceRecord
    role: Role | None
    seen: machine.Sight
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
        return self.record.wanted is Wanted.UP and self.role is not None

    @property
    def desired(self) -> MachineSpec:
        """What its role makes it of; a role that is gone asks for no change."""
        if self.role is None:
            return self.record.machine
        return machine_spec(self.role, self.deployment.digests[self.role.name])

    @property
    def is_ready(self) -> bool:
        """Whether its machine has become ready and still runs, as far as anybody can tell."""
        # A host that cannot be asked is unknown, not gone: what was ready there stays where it is.
        is_running = self.power is Power.RUNNING or bool(self.seen.here.problem)
        has_become = self.record.timeline.services is not None and self.record.failure is None
        return self.is_wanted and is_running and has_become

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers that it should have in rotation now: none unless it is ready."""
        return rotation.servers(self.record, self.role) if self.role is not None and self.is_ready else ()

    def can_serve(self, world: World) -> bool:
        """Whether it is ready and HAProxy has nothing against it; endpoints that are only just added do not count."""
        seen = (world.balancer.servers.get((server.backend, server.name)) for server in self.servers)
        return self.is_ready and all(found is None or found.up for found in seen)

    def is_serving(self, world: World) -> bool:
        """Whether it is ready, and HAProxy sends to every server of it (a role without endpoints has none)."""
        return self.is_ready and all(_is_in(server, world) for server in self.servers)


def _is_in(server: Server, world: World) -> bool:
    seen = world.balancer.servers.get((server.backend, server.name))
    return seen is not None and seen.state is ServerState.READY and seen.up


def renew(case: Case, *, is_chosen: bool, now: float) -> Case:
    """The case with a new generation, if it was chosen for one or has lost the overlay of its old one."""
    role = case.role
    is_lost = machine.is_lost(case.record, case.seen)
    if role is None or not case.is_wanted or case.seen.here.problem or not (is_chosen or is_lost):
        return case
    record = members.renew(case.record, case.desired, timeout_s=role.ready.timeout_s, now=now)
    cause = "its overlay is gone" if is_lost else f"revision {case.deployment.revision} asks for another machine"
    event = Event(now, str(record.id), f"reimage: generation {record.generation}", cause)
    return replace(case, record=record, seen=machine.outdate(case.record, case.seen), event=event)


def progress(case: Case, world: World, now: float) -> Case:
    """The case with its record moved along by what was seen, and the event that this is worth."""
    if case.role is None or not case.is_wanted or case.seen.here.problem:
        return case
    guest, console = guest_of(case, world), world.consoles.get(case.machine, ())
    record = advance(case.record, power=case.power, guest=guest, timeout_s=case.role.ready.timeout_s, now=now)
    record = fail(record, power=case.power, guest=guest, console=console, trouble=trouble(case, world), now=now)
    moved = replace(case, record=record)
    if moved.is_serving(world) and record.timeline.rotation is None:
        record = replace(record, timeline=replace(record.timeline, rotation=now))
    return replace(case, record=record, event=case.event or _told(case.old, record, now))


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


def act(case: Case, now: float) -> Case:
    """The case with the steps to take on its machine, and with the record that has to be stored before them."""
    if case.role is None or not case.is_wanted:
        return replace(case, actions=machine.take_away(case.record, case.seen, now))
    record, actions = machine.bring_up(case.record, case.seen, now + case.role.ready.timeout_s)
    return replace(case, record=record, actions=actions)


def guest_of(case: Case, world: World) -> GuestSeen:
    return world.guests.get(case.machine, SILENT)


def trouble(case: Case, world: World) -> str:
    """What stands in the instance's way that no step of ours can mend, or that did not work just now; "" if nothing."""
    if case.seen.here.problem:
        return case.seen.here.problem
    if case.seen.foreign is not None:
        return f"host {case.record.host} has a domain {case.seen.foreign.name} that is not ours"
    network = case.seen.here.networks.get(case.deployment.id.network)
    if network is not None and case.seen.is_foreign_network:
        return f"host {case.record.host} has a network {network.name} that is not ours"
    if case.servers and (world.balancer.problem or not world.balancer.running):
        return world.balancer.problem or "HAProxy does not run"
    return world.trouble.get(str(case.record.id), "") or world.trouble.get(f"host {case.record.host}", "")


def status(case: Case, world: World, now: float) -> InstanceStatus:
    """The instance as people see it."""
    record, problem = case.record, trouble(case, world)
    if not case.is_wanted:
        reason = problem or ("waiting for " + ", ".join(case.seen.away) if case.seen.away else "being deleted")
        return InstanceStatus(record, State.STOPPING, stage_of_gone(record), since(record.timeline), reason)
    if case.seen.here.problem:
        return InstanceStatus(record, State.UNKNOWN, stage_of_gone(record), since(record.timeline), problem)
    return judge(
        record,
        guest=guest_of(case, world),
        console=world.consoles.get(case.machine, ()),
        in_rotation=case.is_serving(world),
        trouble=problem or world.trouble.get("balancer", ""),
        now=now,
    )


def stage_of_gone(record: InstanceRecord) -> Stage:
    return Stage.START if record.timeline.started is None else Stage.ROTATION
