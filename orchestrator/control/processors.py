"""How much of the processors' time machines use: asked for only where a role's number follows it, and now and then.

Nobody waits for the answer: it is the next look's.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.control.looks import Look
from orchestrator.engine.load import scaling_roles
from orchestrator.errors import VmroleError
from orchestrator.model.load import Figure
from orchestrator.model.names import MachineId
from orchestrator.model.world import CpuSeen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.control.workers import Workers
    from orchestrator.model.record import Intent
    from orchestrator.ports import Host

INTERVAL_S = 3.0


class Processors:
    """``lanes``: who asks each host."""

    def __init__(self, hosts: Mapping[str, Host], lanes: Mapping[str, Workers]) -> None:
        self._hosts = hosts
        self._lanes = lanes
        self._looks: dict[str, Look[CpuSeen]] = {name: Look() for name in hosts}
        self._seen: dict[str, CpuSeen] = {}

    def look(self, intent: Intent, now: float) -> Mapping[str, CpuSeen]:
        """The last answer of each host that has machines of which somebody wants to know; asks for the next one."""
        wanted = _wanted(intent)
        self._seen = {name: seen for name, seen in self._seen.items() if name in wanted}
        for name, domains in wanted.items():
            if name in self._hosts:
                self._ask(name, domains, now)
        return dict(self._seen)

    def _ask(self, name: str, domains: tuple[str, ...], now: float) -> None:
        look, before = self._looks[name], self._seen.get(name)
        if look.future is not None or before is None or now - before.at >= INTERVAL_S:
            look.ask(self._lanes[name], partial(_asked, self._hosts[name], domains, now), now)
        try:
            seen = look.take(lambda: None)
        except VmroleError:
            self._seen.pop(name, None)  # what it was is of no use any more: the host is away
            return
        if seen is not None:
            self._seen[name] = seen


def _asked(host: Host, domains: tuple[str, ...], now: float) -> CpuSeen:
    return CpuSeen(now, host.processor_times(domains))


def _wanted(intent: Intent) -> dict[str, tuple[str, ...]]:
    """Host → the domains whose time somebody wants to know."""
    roles = {(r.id, role.name) for r, role, wish in scaling_roles(intent) if wish.figure is Figure.CPU}
    found = defaultdict(list)
    for record in intent.instances if roles else ():
        if (record.id.deployment, record.id.role) in roles:
            found[record.host].append(MachineId(record.id, record.generation).domain)
    return {host: tuple(domains) for host, domains in found.items()}
