"""One look at the world: hosts and HAProxy side by side, then the guests that run, then consoles that may explain.

Nothing that does not answer keeps a look waiting for long, and once it has done so it is not waited for again before
it has answered. Until then a host is unknown; a guest is what it last was, for a moment, and then silent.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.control.glances import Glances
from orchestrator.control.looks import Look, await_all
from orchestrator.control.processors import Processors
from orchestrator.control.workers import Workers
from orchestrator.engine.load import loads
from orchestrator.engine.pulse import pulses
from orchestrator.engine.status import since
from orchestrator.errors import VmroleError
from orchestrator.model.names import MachineId
from orchestrator.model.spec import LINUX, Ready, Via
from orchestrator.model.world import PANIC, BalancerSeen, GuestSeen, HostSeen, Power, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.model.load import Load
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.pulse import Pulse
    from orchestrator.model.record import InstanceRecord, Intent
    from orchestrator.ports import Balancer, Guests, Host

FIRST_S = 8.0  # whoever looks once has time for it; so has a loop when it begins
HOST_S = 2.0
GUEST_S = 1.0
KEEP_S = 3.0  # so long a guest that does not come to answer is taken for what it was
QUIET_S = 5.0  # a stage that lasts longer than this is worth a look at the console
AT_ONCE = 4  # libvirtd serves five calls of one connection at a time; more threads would only wait there
AT_ONCE_SLOW = 2


class Lanes:
    """The threads that look at one host. Guests that have been slow share few, so that the others have the rest."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.host = Workers(1, name=f"look-{host}")
        self.consoles = Workers(1, name=f"console-{host}")
        self.slow = Workers(AT_ONCE_SLOW, name=f"slow-{host}")
        self.figures = Workers(1, name=f"figures-{host}")
        self.guests = self._fresh()

    def _fresh(self) -> Workers:
        return Workers(AT_ONCE, name=f"guest-{self._host}")

    def renew(self) -> None:
        """Give up the threads that hang at guests; each ends with the call that it hangs in."""
        self.guests.close()
        self.guests = self._fresh()

    def close(self) -> None:
        for workers in (self.host, self.consoles, self.figures, self.slow, self.guests):
            workers.close()


class Observer:
    """Looks at everything that the ports reach, with threads of its own for each host."""

    def __init__(self, hosts: Mapping[str, Host], guests: Guests, balancer: Balancer) -> None:
        self._hosts = hosts
        self._guests = guests
        self._balancer = balancer
        self._lanes = {name: Lanes(name) for name in hosts}
        self._edge = Workers(1, name="look-balancer")
        self._of_hosts: dict[str, Look[HostSeen]] = {name: Look() for name in hosts}
        self._of_balancer: Look[BalancerSeen] = Look()
        self._of_guests: dict[MachineId, Look[GuestSeen]] = {}
        self._of_consoles: dict[MachineId, Look[tuple[str, ...]]] = {}
        self._has_looked = False
        self._pulses: Mapping[MachineId, Pulse] = {}
        self._loads: Mapping[tuple[DeploymentId, str], Load] = {}
        self._processors = Processors(hosts, {name: lanes.figures for name, lanes in self._lanes.items()})
        self._wake: Callable[[], None] = lambda: None
        self._glances = Glances(hosts, guests, self._be_woken)

    def _be_woken(self) -> None:
        self._wake()

    def stand_by(self) -> None:
        """From now on notice between looks, too, that a guest has become busy, or is not any more."""
        self._glances.begin()

    def watch(self, wake: Callable[[], None]) -> None:
        """From now on call ``wake`` (from any thread) when an answer comes late."""
        self._wake = wake

    def look(self, intent: Intent, trouble: Mapping[str, str], full: frozenset[str], now: float) -> World:
        """What is there now, as far as ``intent`` makes it matter."""
        self._ask_hosts(now)
        hosts = {name: self._host(name) for name in self._hosts}
        balancer = self._balancer_seen()
        running = [record for record in intent.instances if _runs(record, hosts)]
        guests = self._look_at_guests(running, intent, now)
        silent = {machine for machine, pulse in self._pulses.items() if pulse.silent.is_wrong}
        telling = [r for r in running if _id(r) in silent or _is_telling(r, guests[_id(r)], now)]
        telling += [record for record in intent.instances if _has_panicked(record, hosts)]
        world = World(hosts, guests, self._consoles(telling, now), balancer, trouble, full)
        world = replace(world, processors=self._processors.look(intent, now))
        self._pulses = pulses(self._pulses, intent, world, now)
        self._loads = loads(self._loads, intent, world, now)
        self._has_looked = True
        self._glances.expect(_serving(running, guests, intent))
        return replace(world, pulses=self._pulses, loads=self._loads)

    def outdate(self, track: str, host: str) -> None:
        """Something was done to ``track`` on ``host`` ("": on none): what is being looked at there was before it."""
        if host in self._of_hosts:
            self._of_hosts[host].void()
        if track == "balancer":
            self._of_balancer.void()
        for machine, look in list(self._of_guests.items()):
            if str(machine.instance) == track:
                look.void()

    def is_waiting(self, now: float) -> bool:
        """Whether there is soon more to be said of a guest that does not answer: that it is silent."""
        kept = [look for look in self._of_guests.values() if look.last is not None and look.last.boot_id]
        return any(look.is_pending and look.age(now) <= KEEP_S for look in kept)

    def _ask_hosts(self, now: float) -> None:
        for name, host in self._hosts.items():
            self._of_hosts[name].ask(self._lanes[name].host, host.observe, now)
        self._of_balancer.ask(self._edge, self._balancer.observe, now)
        await_all((*self._of_hosts.values(), self._of_balancer), HOST_S if self._has_looked else FIRST_S)

    def _host(self, name: str) -> HostSeen:
        look = self._of_hosts[name]
        try:
            seen = look.take(self._wake)
        except VmroleError as error:
            return HostSeen(name, problem=error.message)
        if seen is None:
            return HostSeen(name, problem=f"the libvirt daemon of host {name} does not answer in time")
        look.is_slow = False
        return seen

    def _balancer_seen(self) -> BalancerSeen:
        try:
            seen = self._of_balancer.take(self._wake)
        except VmroleError as error:
            return BalancerSeen(problem=error.message)
        if seen is None:
            return BalancerSeen(problem="HAProxy does not answer in time")
        self._of_balancer.is_slow = bool(seen.problem)
        return seen

    def _look_at_guests(
        self, records: Sequence[InstanceRecord], intent: Intent, now: float
    ) -> dict[MachineId, GuestSeen]:
        self._forget_guests({_id(record) for record in records})
        for record in records:
            look = self._of_guests.setdefault(_id(record), Look())
            lanes = self._lanes[record.host]
            look.ask(lanes.slow if look.is_slow else lanes.guests, self._guest_call(record, intent), now)
        slow = await_all([self._of_guests[_id(r)] for r in records], GUEST_S if self._has_looked else FIRST_S)
        slow = await_all(self._pass_by(slow, records, intent, now), GUEST_S)
        self._pass_by(slow, records, intent, now)
        return {_id(record): self._guest(self._of_guests[_id(record)], now) for record in records}

    def _guest_call(self, record: InstanceRecord, intent: Intent) -> Callable[[], GuestSeen]:
        return partial(
            self._guests.look,
            self._hosts[record.host],
            _id(record),
            dip=record.dip,
            ready=_ready(record, intent),
            known_boot=record.boot_id if record.timeline.services is not None else None,
            system=record.machine.platform.os,
        )

    def _forget_guests(self, running: set[MachineId]) -> None:
        """What is gone is not remembered; one that comes back is looked at anew, when the look at it has ended."""
        for machine in [machine for machine in self._of_guests if machine not in running]:
            if self._of_guests[machine].is_pending:
                self._of_guests[machine].void()
            else:
                del self._of_guests[machine]
        for machine in [machine for machine in self._of_consoles if machine not in running]:
            del self._of_consoles[machine]

    def _pass_by(
        self, slow: Sequence[Look[GuestSeen]], records: Sequence[InstanceRecord], intent: Intent, now: float
    ) -> list[Look[GuestSeen]]:
        """Have those who wait behind the ``slow`` ones looked at by fresh threads; these looks."""
        of = {_id(record): self._of_guests[_id(record)] for record in records} if slow else {}
        hosts = {record.host for record in records if slow and of[_id(record)] in slow}
        for host in hosts:
            self._lanes[host].renew()
        behind = [record for record in records if record.host in hosts and not of[_id(record)].is_slow]
        return [
            of[_id(record)]
            for record in behind
            if of[_id(record)].again(self._lanes[record.host].guests, self._guest_call(record, intent), now)
        ]

    def _guest(self, look: Look[GuestSeen], now: float) -> GuestSeen:
        before = look.last
        try:
            seen = look.take(self._wake)
        except VmroleError:
            return GuestSeen()
        if seen is None:
            return before if before is not None and look.age(now) < KEEP_S else GuestSeen()
        look.is_slow = look.is_slow and not (seen.boot_id or seen.reached)
        return seen

    def _consoles(self, records: Sequence[InstanceRecord], now: float) -> dict[MachineId, tuple[str, ...]]:
        for record in records:
            look = self._of_consoles.setdefault(_id(record), Look())
            look.ask(self._lanes[record.host].consoles, partial(self._hosts[record.host].console, _id(record)), now)
        looks = {_id(record): self._of_consoles[_id(record)] for record in records}
        await_all(looks.values(), GUEST_S)
        found = {machine: self._console(look) for machine, look in looks.items()}
        return {machine: said for machine, said in found.items() if said is not None}

    def _console(self, look: Look[tuple[str, ...]]) -> tuple[str, ...] | None:
        before = look.last
        try:
            said = look.take(lambda: None)
        except VmroleError:
            return None  # the console only explains; without it the reason is shorter
        look.is_slow = look.is_slow and said is None
        return said if said is not None else before

    def close(self) -> None:
        self._glances.close()
        self._edge.close()
        for lanes in self._lanes.values():
            lanes.close()


def _id(record: InstanceRecord) -> MachineId:
    return MachineId(record.id, record.generation)


def _runs(record: InstanceRecord, hosts: Mapping[str, HostSeen]) -> bool:
    """Whether there is a guest to talk to: not one that shuts down, whose agent may end in the middle of a call."""
    if record.farewell is not None and record.farewell.asked is not None:
        return False
    host = hosts.get(record.host)
    domain = host.domains.get(_id(record).domain) if host is not None else None
    return domain is not None and domain.power is Power.RUNNING


def _ready(record: InstanceRecord, intent: Intent) -> Ready:
    """How the instance's role wants to be looked at; as by default if it has none any more."""
    deployment = intent.deployment(record.id.deployment)
    role = deployment.service.role(record.id.role) if deployment is not None else None
    return role.ready if role is not None else Ready()


def _serving(
    records: Sequence[InstanceRecord], guests: Mapping[MachineId, GuestSeen], intent: Intent
) -> dict[str, dict[MachineId, bool]]:
    """The guests that can be glanced at, by host, and whether each is busy."""
    found: dict[str, dict[MachineId, bool]] = {}
    for record in records:
        seen, by_agent = guests[_id(record)], _ready(record, intent).via is Via.AGENT
        if by_agent and seen.boot_id and seen.boot_id == record.boot_id and record.machine.platform.os == LINUX:
            found.setdefault(record.host, {})[_id(record)] = bool(seen.busy)
    return found


def _has_panicked(record: InstanceRecord, hosts: Mapping[str, HostSeen]) -> bool:
    host = hosts.get(record.host)
    domain = host.domains.get(_id(record).domain) if host is not None else None
    return domain is not None and domain.why == PANIC


def _is_telling(record: InstanceRecord, guest: GuestSeen, now: float) -> bool:
    """Whether the console may say what the rest does not: a slow stage, or an end that is not a good one."""
    if record.timeline.services is not None or record.failure is not None:
        return False
    is_bad = bool(guest.setup_errors or guest.startup or guest.failed) or now >= record.deadline
    return is_bad or now - since(record.timeline) > QUIET_S
