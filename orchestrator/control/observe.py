"""One look at the world: hosts and HAProxy side by side, then the guests that run, then consoles that may explain.

No look waits for a slow part longer than its deadline: a host that does not answer in time is reported as such, and
its thread is left to end by itself.
"""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import TYPE_CHECKING

from orchestrator.control.workers import Workers
from orchestrator.engine.status import since
from orchestrator.errors import VmroleError
from orchestrator.model.names import MachineId
from orchestrator.model.world import BalancerSeen, GuestSeen, HostSeen, Power, World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.model.record import InstanceRecord, Intent
    from orchestrator.ports import Balancer, Guests, Host

HOST_S = 8.0
GUEST_S = 20.0
QUIET_S = 5.0  # a stage that lasts longer than this is worth a look at the console


class Observer:
    """Looks at everything that the ports reach, with a pool of threads of its own for each host."""

    def __init__(self, hosts: Mapping[str, Host], guests: Guests, balancer: Balancer) -> None:
        self._hosts = hosts
        self._guests = guests
        self._balancer = balancer
        # libvirtd serves five calls of one connection at a time; more threads would only wait there.
        self._pools = {name: Workers(4, name=f"look-{name}") for name in hosts}
        self._pending: dict[str, Future[HostSeen]] = {}

    def look(self, intent: Intent, trouble: Mapping[str, str], full: frozenset[str], now: float) -> World:
        """What is there now, as far as ``intent`` makes it matter."""
        asked = {name: self._ask(name, host) for name, host in self._hosts.items()}
        balancer = self._look_at_balancer()
        hosts = {name: self._answer(name, future) for name, future in asked.items()}
        running = [record for record in intent.instances if _runs(record, hosts)]
        guests = self._look_at_guests(running, _services(intent))
        consoles = self._consoles([r for r in running if _is_telling(r, guests[_id(r)], now)])
        return World(hosts, guests, consoles, balancer, trouble, full)

    def _ask(self, name: str, host: Host) -> Future[HostSeen]:
        """Start a look at a host, unless the last one still hangs there."""
        pending = self._pending.get(name)
        if pending is None or pending.done():
            pending = self._pending[name] = self._pools[name].submit(host.observe)
        return pending

    def _answer(self, name: str, future: Future[HostSeen]) -> HostSeen:
        try:
            return future.result(timeout=HOST_S)
        except FutureTimeout:
            return HostSeen(name, problem=f"the libvirt daemon of host {name} has not answered for {HOST_S:.0f} s")
        except VmroleError as error:
            return HostSeen(name, problem=error.message)

    def _look_at_balancer(self) -> BalancerSeen:
        try:
            return self._balancer.observe()
        except VmroleError as error:
            return BalancerSeen(problem=error.message)

    def _look_at_guests(
        self, records: Iterable[InstanceRecord], services: Callable[[InstanceRecord], tuple[str, ...] | None]
    ) -> dict[MachineId, GuestSeen]:
        asked = {
            _id(record): self._pools[record.host].submit(
                self._guests.look,
                self._hosts[record.host],
                _id(record),
                known_boot=record.boot_id if record.timeline.services is not None else "",
                services=services(record),
                system=record.machine.platform.os,
            )
            for record in records
        }
        return {machine: _told(future) for machine, future in asked.items()}

    def _consoles(self, records: Iterable[InstanceRecord]) -> dict[MachineId, tuple[str, ...]]:
        found = {}
        for record in records:
            try:
                found[_id(record)] = self._hosts[record.host].console(_id(record))
            except VmroleError:
                continue  # the console only explains; without it the reason is shorter
        return found

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()


def _told(future: Future[GuestSeen]) -> GuestSeen:
    try:
        return future.result(timeout=GUEST_S)
    except (FutureTimeout, VmroleError):
        return GuestSeen()


def _id(record: InstanceRecord) -> MachineId:
    return MachineId(record.id, record.generation)


def _runs(record: InstanceRecord, hosts: Mapping[str, HostSeen]) -> bool:
    """Whether there is a guest to talk to: not one that shuts down, whose agent may end in the middle of a call."""
    if record.farewell is not None and record.farewell.asked is not None:
        return False
    host = hosts.get(record.host)
    domain = host.domains.get(_id(record).domain) if host is not None else None
    return domain is not None and domain.power is Power.RUNNING


def _services(intent: Intent) -> Callable[[InstanceRecord], tuple[str, ...] | None]:
    def services(record: InstanceRecord) -> tuple[str, ...] | None:
        deployment = intent.deployment(record.id.deployment)
        role = deployment.service.role(record.id.role) if deployment is not None else None
        return role.ready.services if role is not None else None

    return services


def _is_telling(record: InstanceRecord, guest: GuestSeen, now: float) -> bool:
    """Whether the console may say what the rest does not: a slow stage, or an end that is not a good one."""
    if record.timeline.services is not None or record.failure is not None:
        return False
    is_bad = bool(guest.setup_errors or guest.failed) or now >= record.deadline
    return is_bad or now - since(record.timeline) > QUIET_S
