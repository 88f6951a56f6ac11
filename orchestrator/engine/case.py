"""One instance with all that a decision about it needs. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.engine import machine, members, rest, rollout, rotation, storage
from orchestrator.engine.health import NOTHING, Finding
from orchestrator.engine.lifecycle import SILENT
from orchestrator.model.names import MachineId
from orchestrator.model.record import Act, DeploymentRecord, Event, InstanceRecord, Wanted
from orchestrator.model.vicinity import Vicinity
from orchestrator.model.world import GuestSeen, HostSeen, Power, ServerState, World

if TYPE_CHECKING:
    from orchestrator.engine.repair import Need
    from orchestrator.engine.sight import Sight
    from orchestrator.model.action import Action, Server
    from orchestrator.model.making import MachineSpec
    from orchestrator.model.spec import Role

SOON_S = 10.0  # nobody waits for a first check of HAProxy's that comes later than this


@dataclass(frozen=True, slots=True)
class Case:
    """An instance. ``old``: as it is stored (None: not yet). ``role`` None: the service has no such role any more.

    ``before``: steps that are taken before the record is stored, ``actions``: those after it. ``found``: how healthy
    it is, ``need``: what repair would do about that, ``may_treat``: whether it may now. ``around``: what its answer
    file may say of the rest of the deployment. ``held_by``: what it is not started yet for, in words.
    """

    deployment: DeploymentRecord
    old: InstanceRecord | None
    record: InstanceRecord
    role: Role | None
    seen: Sight
    before: tuple[Action, ...] = ()
    actions: tuple[Action, ...] = ()
    event: Event | None = None
    found: Finding = NOTHING
    need: Need | None = None
    may_treat: bool = False
    around: Vicinity = field(default_factory=Vicinity)
    held_by: str = ""

    @property
    def machine(self) -> MachineId:
        return MachineId(self.record.id, self.record.generation)

    @property
    def power(self) -> Power | None:
        return self.seen.current.power if self.seen.current is not None else None

    @property
    def is_wanted(self) -> bool:
        """Whether there should be such an instance at all, running or stopped."""
        is_kept = self.record.wanted is Wanted.UP or self.record.wanted is Wanted.STOPPED
        return is_kept and self.role is not None

    @property
    def desired(self) -> MachineSpec:
        """What its role makes it of; a role that is gone asks for no change."""
        if self.role is None:
            return self.record.machine
        return rollout.machine_for(self.deployment, self.role, self.record)

    @property
    def is_outdated(self) -> bool:
        """Whether its machine is to be replaced now: it is not what its role asks for, and the upgrade is at it."""
        return self.is_old and self.role is not None and rollout.has_turn(self.deployment, self.role, self.record)

    @property
    def is_old(self) -> bool:
        """Whether its machine is not what its role asks for, whenever its turn is."""
        return self.role is not None and rollout.is_old(self.deployment, self.role, self.record)

    @property
    def is_ready(self) -> bool:
        """Whether its machine has become ready and still runs, as far as anybody can tell."""
        return self._has_become_ready and self.record.failure is None

    @property
    def _has_become_ready(self) -> bool:
        """Whether its machine runs, and was ready once in this boot."""
        # A host that cannot be asked is unknown, not gone: what was ready there stays where it is.
        is_running = self.power is Power.RUNNING or bool(self.seen.here.problem)
        return self.is_wanted and is_running and self.record.timeline.services is not None

    @property
    def is_at_work(self) -> bool:
        """Whether nothing keeps it out of rotation once it is ready: it is neither busy nor on its way out."""
        return self.record.farewell is None and self.record.busy is None

    @property
    def servers(self) -> tuple[Server, ...]:
        """The servers that it should have in rotation now: none before it was ready, none on its way out."""
        if self.role is None or not self._has_become_ready or self.record.farewell is not None:
            return ()
        return rotation.servers(self.record, self.role, is_ready=self.is_ready and self.is_at_work)

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
        """What its machine has to come to rest for now; nothing that it could not be started again after."""
        act = self._due
        if act in {None, Act.DELETE, Act.STOP}:
            return act
        could_start = self.seen.intruder is None and not storage.obstacle(self.record, self.seen)
        return act if could_start else None

    @property
    def _due(self) -> Act | None:
        after = self.after
        is_prepared = after is not None and machine.is_prepared(after, self.seen, self.there, self.deployment.id)
        is_prepared = is_prepared and not (rollout.is_of_upgrade(self.record) and self.waits_for_turn)
        return rest.due(self.record, is_wanted=self.is_wanted, is_prepared=is_prepared)

    @property
    def waits_for_turn(self) -> bool:
        """Whether the upgrade is to replace its machine, and has not come to it yet, or is halted."""
        is_its = self.role is not None and rollout.has_turn(self.deployment, self.role, self.record)
        return (self.is_old or rollout.is_of_upgrade(self.record)) and not is_its

    def can_serve(self, world: World) -> bool:
        """Whether others may leave while it stays: it is ready, and HAProxy does send to it.

        One endpoint is enough: those that are only just added to the file are nowhere in HAProxy yet.
        """
        seen = [world.balancer.servers.get((server.backend, server.name)) for server in self.servers]
        known = [found for found in seen if found is not None]
        # Nothing known of a machine that was in rotation: HAProxy cannot be asked, or has died. It counts all the same.
        is_in = not known or any(found.state is ServerState.READY for found in known)
        has_been_in = self.record.timeline.rotation is not None
        return self.is_ready and self.is_at_work and has_been_in and is_in and all(found.up for found in known)

    def is_unchecked(self, world: World) -> bool:
        """Whether HAProxy has still to look at it for the first time, as it is new there or HAProxy began anew.

        Until then it is taken for up. Where HAProxy looks so seldom that nobody would wait for that: False.
        """
        if self.role is None or any(e.traffic.check.interval_s > SOON_S for e in self.role.endpoints):
            return False
        seen = [world.balancer.servers.get((server.backend, server.name)) for server in self.servers]
        return any(s is not None and s.state is ServerState.READY and not s.is_checked for s in seen)

    def is_placed(self, world: World) -> bool:
        """Whether HAProxy has each of its servers at the address and port where it is now."""
        seen = [(world.balancer.servers.get((one.backend, one.name)), one) for one in self.servers]
        return all(s is not None and (s.address, s.port) == (one.address, one.port) for s, one in seen)

    def is_serving(self, world: World) -> bool:
        """Whether it is ready, and HAProxy sends to every server of it (a role without endpoints has none).

        Backends that HAProxy refuses to have do not count, as long as it has another of them.
        """
        known = [server for server in self.servers if not world.balancer.refused or _has_backend(server, world)]
        is_in = all(_is_in(server, world) for server in known or self.servers)
        return self.is_ready and self.is_at_work and is_in

    def is_unserved(self, world: World) -> bool:
        """Whether HAProxy refuses to have any of its backends."""
        seen = world.balancer
        return bool(seen.refused and self.servers) and not any(s.backend in seen.backends for s in self.servers)

    def is_offered(self, world: World) -> bool:
        """Whether others of its deployment should use it: it can serve, and is not kept out for its health."""
        return self.can_serve(world) and (self.record.care is None or self.record.care.out is None)


def _has_backend(server: Server, world: World) -> bool:
    return not world.balancer.running or server.backend in world.balancer.backends


def _is_in(server: Server, world: World) -> bool:
    seen = world.balancer.servers.get((server.backend, server.name))
    return seen is not None and seen.state is ServerState.READY and seen.up


def guest_of(case: Case, world: World) -> GuestSeen:
    return world.guests.get(case.machine, SILENT)


def trouble(case: Case, world: World) -> str:
    """What stands in the instance's way that no step of ours can mend, or that did not work just now; "" if nothing."""
    if case.seen.here.problem:
        return case.seen.here.problem
    if case.record.next is not None and case.there.problem:
        return case.there.problem
    if found := in_the_way(case):
        return found
    if case.servers and (world.balancer.problem or not world.balancer.running):
        return world.balancer.problem or "HAProxy does not run"
    if case.record.farewell is not None and world.balancer.problem:
        return world.balancer.problem
    return world.trouble.get(str(case.record.id), "") or world.trouble.get(f"host {case.record.host}", "")


def in_the_way(case: Case) -> str:
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
    if case.after is not None and (stranger := machine.stranger(case.after, seen, case.there)):
        return f"host {case.there.name} has a domain {stranger} that is not ours"
    network = seen.here.networks.get(case.deployment.id.network)
    if network is not None and seen.is_foreign_network:
        return f"host {host} has a network {network.name} that is not ours"
    return storage.obstacle(case.record, seen) if seen.here.has_pool else ""


def is_under_way(record: InstanceRecord) -> bool:
    """Whether something was asked of the instance that is not done yet."""
    is_asked = record.next is not None or record.reboot is not None or record.farewell is not None
    return is_asked or (record.wanted is Wanted.STOPPED and record.timeline.started is not None)
