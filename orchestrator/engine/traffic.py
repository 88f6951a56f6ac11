"""What is to be done about HAProxy in a turn, and what it says against that. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engine import guard, layouts, rest, rotation
from orchestrator.engine.balance import Parting, balance
from orchestrator.model.action import SetFirewall
from orchestrator.model.record import Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engine.case import Case
    from orchestrator.model.action import Action
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import DeploymentRecord, Intent
    from orchestrator.model.world import LayoutRefused, World


def changes(intent: Intent, cases: Sequence[Case], world: World, now: float) -> list[Action]:
    """The steps to what HAProxy should serve, and to what may reach it."""
    servers = tuple(server for case in cases for server in case.servers)
    # A machine that is known to be off finishes nothing any more.
    alive = [case for case in cases if case.seen.here.problem or not rest.is_at_rest(case.power)]
    leaving = {key: until for case in alive for key, until in rest.leaving(case.record, case.role).items()}
    parting = Parting(leaving, frozenset(key for case in cases for key in _held(case)))
    served, is_troubled = _served(intent, cases, world), "balancer" in world.trouble
    fronts = rotation.frontends(served)
    steps = balance(fronts, servers, world.balancer, parting, is_troubled=is_troubled, now=now)
    return [*_firewall(intent, served, world), *steps]


def _served(intent: Intent, cases: Sequence[Case], world: World) -> list[DeploymentRecord]:
    """The deployments that have frontends: also one that goes, while anybody is connected to it."""
    draining = {case.deployment.id for case in cases if case.record.farewell is not None and _is_connected(case, world)}
    return [record for record in intent.deployments if record.wanted is Wanted.UP or record.id in draining]


def untaken(intent: Intent, cases: Sequence[Case], world: World) -> frozenset[DeploymentId]:
    """The deployments of which HAProxy does not run with what they want: not yet, or it refuses that."""
    served, seen = _served(intent, cases, world), world.balancer
    wanted = rotation.frontends(served)
    if seen.problem or seen.layout == rotation.layout(wanted):
        return frozenset()
    differing = layouts.differing(wanted, seen)
    return frozenset(record.id for record in served if record.id.service in differing)


def refused(intent: Intent, cases: Sequence[Case], world: World) -> dict[DeploymentId, LayoutRefused]:
    """What HAProxy says against what is wanted of it, by the deployments that this may be about."""
    if not world.balancer.refused:
        return {}
    served = _served(intent, cases, world)
    wanted = rotation.frontends(served)
    said = {record.id: layouts.refusal(record.id, wanted, world.balancer) for record in served}
    return {key: found for key, found in said.items() if found is not None}


def _firewall(intent: Intent, served: Sequence[DeploymentRecord], world: World) -> list[SetFirewall]:
    """What the VIPs let in, before HAProxy listens there; its last rules go when no deployment is left."""
    seen = world.balancer
    wanted = guard.firewall(intent.deployments, served, seen.vips - seen.added, layouts.kept(seen))
    is_so = world.balancer.firewall == (wanted.fingerprint if wanted is not None else "")
    return [] if is_so or world.balancer.problem else [SetFirewall(wanted)]


def _held(case: Case) -> list[tuple[str, str]]:
    """The servers of an instance that is kept out of rotation for its health."""
    is_out = case.record.care is not None and case.record.care.out is not None
    return [(server.backend, server.name) for server in case.servers] if is_out else []


def _is_connected(case: Case, world: World) -> bool:
    return any(key in world.balancer.servers for key in rest.leaving(case.record, case.role))
