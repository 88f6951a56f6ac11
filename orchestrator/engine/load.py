"""How much there is to do for roles whose number follows it: from one look after the other to figures over time. Pure.

A figure is of all instances of a role together, so that it means the same whatever their number is meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestrator.engine import rotation
from orchestrator.model.load import Autoscale, Figure, Load
from orchestrator.model.names import MachineId
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Intent, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.model.names import DeploymentId
    from orchestrator.model.spec import Role
    from orchestrator.model.world import World

WINDOW_S = 30.0  # a figure is the mean over so long
LEAST_S = 10.0  # a loop on a busy machine takes seconds for a turn
SAMPLE_S = 1.0
STALE_S = 15.0  # without a figure for longer than this it begins anew

Key = tuple["DeploymentId", str]


@dataclass(frozen=True, slots=True)
class Reading:
    """One look. ``level``: the figure itself; or ``counters``: (Unix seconds, what only grows) by name."""

    level: float | None = None
    counters: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    problem: str = ""


def window_s(wish: Autoscale) -> float:
    """Over how long the mean is taken."""
    return min(WINDOW_S, max(wish.cool_down_s, LEAST_S))


def scaling_roles(intent: Intent) -> list[tuple[DeploymentRecord, Role, Autoscale]]:
    """The roles whose number follows a figure now."""
    return [
        (record, role, role.autoscale)
        for record in intent.deployments
        if record.wanted is Wanted.UP
        for role in record.service.roles
        if role.autoscale is not None
    ]


def loads(old: Mapping[Key, Load], intent: Intent, world: World, now: float) -> dict[Key, Load]:
    """The loads after this look, of every role whose number follows one; nothing is remembered of all others."""
    return {
        (record.id, role.name): noted(
            old.get((record.id, role.name), Load()), reading(record, role, intent, world, now), wish, now
        )
        for record, role, wish in scaling_roles(intent)
    }


def reading(record: DeploymentRecord, role: Role, intent: Intent, world: World, now: float) -> Reading:
    """What one look says of a role's figure."""
    if role.autoscale is not None and role.autoscale.figure is Figure.CPU:
        return _of_processors([one for one in intent.members(record.id) if one.id.role == role.name], world)
    seen = world.balancer
    if seen.problem or not seen.running:
        return Reading(problem=seen.problem or "HAProxy does not run")
    figures = {name: seen.backends[name] for name in rotation.backends(record.id, role) if name in seen.backends}
    if role.autoscale is not None and role.autoscale.figure is Figure.SESSIONS:
        return Reading(level=float(sum(one.sessions for one in figures.values())))
    return Reading(counters={name: (now, float(one.requests)) for name, one in figures.items()})


def _of_processors(members: Sequence[InstanceRecord], world: World) -> Reading:
    """Hundreds of seconds of each machine's time, for one of its processors: the rate is a percentage."""
    counters = {}
    for record in members:
        domain, seen = MachineId(record.id, record.generation).domain, world.processors.get(record.host)
        if record.timeline.rotation is None or record.wanted is not Wanted.UP:
            continue  # one that boots, or is on its way out, is no measure of the work
        if seen is None or domain not in seen.used_s:
            return Reading(problem=f"how much of its processors {record.id.name} uses is not known yet")
        counters[domain] = (seen.at, seen.used_s[domain] * 100 / record.machine.size.vcpus)
    return Reading(counters=counters)


def noted(old: Load, seen: Reading, wish: Autoscale, now: float) -> Load:
    """The load with what one look has said."""
    if seen.problem:
        return replace(old, problem=seen.problem)
    if seen.level is not None:
        is_due = not old.samples or now - old.samples[-1][0] >= SAMPLE_S
        return _with(old, seen.level, wish, now) if is_due else replace(old, problem="")
    return _counted(old, seen.counters, wish, now)


def _counted(old: Load, seen: Mapping[str, tuple[float, float]], wish: Autoscale, now: float) -> Load:
    """A rate needs two looks at the same things, some time apart."""
    if not seen:
        return replace(old, problem="there is nothing yet to be counted")
    if seen.keys() - old.counters.keys():
        return replace(old, counters=dict(seen), problem="")
    past = {name: old.counters[name] for name in seen}
    if any(at - past[name][0] < SAMPLE_S for name, (at, _count) in seen.items()):
        return replace(old, problem="")
    rates = [
        (count - past[name][1] if count >= past[name][1] else count) / (at - past[name][0])
        for name, (at, count) in seen.items()
    ]
    return _with(replace(old, counters=dict(seen)), sum(rates), wish, now)


def _with(old: Load, total: float, wish: Autoscale, now: float) -> Load:
    is_broken = bool(old.samples) and now - old.samples[-1][0] > STALE_S
    kept = () if is_broken else tuple(s for s in old.samples if s[0] >= now - wish.cool_down_s - window_s(wish))
    return replace(old, samples=(*kept, (now, total)), problem="")
