"""What must hold at every moment, in the middle of a plan too: after a kill, this is what is left."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.model.names import base_volume, parse_machine
from orchestrator.model.world import Power

from .build import OWNER

if TYPE_CHECKING:
    from orchestrator.model.names import InstanceId, MachineId

    from .host import FakeHost
    from .world import FakeWorld


def violations(world: FakeWorld) -> list[str]:
    """Each invariant that does not hold, in words."""
    return [*_twins(world), *_not_ready(world), *_torn_away(world), *_unplanned(world)]


def _ours(world: FakeWorld) -> list[tuple[FakeHost, MachineId]]:
    return [
        (host, machine)
        for host in world.hosts.values()
        for name, domain in host.domains.items()
        if domain.owner == OWNER and (machine := parse_machine(name)) is not None
    ]


def _twins(world: FakeWorld) -> list[str]:
    running: dict[InstanceId, list[str]] = defaultdict(list)
    for host, machine in _ours(world):
        if host.domains[machine.domain].power is not Power.OFF:
            running[machine.instance].append(machine.domain)
    return [f"{key} runs more than once: {names}" for key, names in running.items() if len(names) > 1]


def _not_ready(world: FakeWorld) -> list[str]:
    ready = {
        (str(machine.instance.deployment), machine.server)
        for host, machine in _ours(world)
        if world.guests.is_ready(host, machine)
    }
    return [
        f"{backend}/{name} is in rotation, but its machine is not ready"
        for backend, name in world.balancer.servers
        if (".".join(backend.split(".")[:2]), name) not in ready
    ]


def _torn_away(world: FakeWorld) -> list[str]:
    torn = [
        f"{machine.domain} is defined without {volume}"
        for host, machine in _ours(world)
        for volume in sorted({machine.overlay, machine.seed} & host.domains[machine.domain].files)
        if volume not in host.volumes
    ]
    for host in world.hosts.values():
        torn += [
            f"{n} has no base" for n, v in host.volumes.items() if v.base and base_volume(v.base) not in host.volumes
        ]
    return torn


def _unplanned(world: FakeWorld) -> list[str]:
    """A machine newer than its instance's record: after a crash nobody would know of it."""
    known = {record.id: record.newest for record in world.store.intent().instances}
    return [f"{m} is ahead of its record" for _host, m in _ours(world) if m.generation > known.get(m.instance, 0)]
