"""The steps that make HAProxy serve what it should. Pure.

The file is written before the running HAProxy is changed: should it die in between, its next start is right already.
While HAProxy does not take what is wanted, servers come and go in what it runs with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine import layouts, rotation
from orchestrator.model.action import (
    Action,
    AddServer,
    AddVip,
    ConfigureBalancer,
    DrainServer,
    Frontend,
    RemoveServer,
    Route,
    SaveServers,
    Server,
    StopBalancer,
)
from orchestrator.model.world import BalancerSeen, ServerSeen, ServerState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Key = tuple[str, str]
MAINT = ServerState.MAINT


@dataclass(frozen=True, slots=True)
class Parting:
    """``leaving``: servers whose connections may go on until then (Unix seconds).

    ``held``: members that get no new connections, and stay, so that HAProxy goes on checking them (it does so while
    they drain).
    """

    leaving: Mapping[Key, float]
    held: frozenset[Key] = frozenset()


def balance(
    wanted: Sequence[Frontend],
    members: Sequence[Server],
    seen: BalancerSeen,
    parting: Parting,
    *,
    is_troubled: bool = False,
    now: float,
) -> tuple[Action, ...]:
    """From what HAProxy serves to what it should: file, routes and rotation; or VIPs and frontends (start or reload).

    ``is_troubled``: a step of the last turn did not work.
    """
    if seen.problem:
        return ()  # what it does now is unknown; nothing is done to it until it can be asked
    if not wanted:
        return (StopBalancer(),) if seen.running else ()
    fronts = layouts.chosen(tuple(wanted), seen, now)
    vips = [AddVip(vip) for vip in sorted({front.vip for front in wanted} - seen.vips)]
    servers = _behind(members, fronts)
    if fronts and seen.running and seen.layout == rotation.layout(fronts):
        return (*vips, *_file(fronts, servers, seen), *_membership(fronts, servers, seen, parting, now))
    # What may fail, or take its time to, comes after what goes on in any case.
    is_in_doubt = seen.running and (is_troubled or bool(seen.refused))
    there = layouts.going_on(wanted, seen) if is_in_doubt else ()
    before = _membership(there, _behind(members, there), seen, parting, now) if there else []
    return (*before, *vips, *([ConfigureBalancer(fronts, servers)] if fronts else []))


def _behind(members: Sequence[Server], fronts: Sequence[Frontend]) -> tuple[Server, ...]:
    names = {front.name for front in fronts}
    return tuple(server for server in members if server.backend in names)


def _file(fronts: tuple[Frontend, ...], servers: tuple[Server, ...], seen: BalancerSeen) -> list[Action]:
    """What is to be changed of HAProxy's file, and of where its ports lead."""
    steps: list[Action] = []
    if seen.saved != rotation.fingerprint(fronts, servers):
        steps.append(SaveServers(fronts, servers))
    if seen.routes != rotation.signature(rotation.routes(fronts)):
        steps.append(Route(fronts))
    return steps


def _membership(
    fronts: Sequence[Frontend],
    servers: Sequence[Server],
    seen: BalancerSeen,
    parting: Parting,
    now: float,
) -> list[Action]:
    leaving, held = parting.leaving, parting.held
    wanted = {(server.backend, server.name): server for server in servers}
    behind = {front.name: front for front in fronts}
    moved = {
        key
        for key, server in wanted.items()
        if key in seen.servers and (seen.servers[key].address, seen.servers[key].port) != (server.address, server.port)
    }
    gone = sorted(key for key in seen.servers if key not in wanted or key in moved)
    missing = [
        server
        for key, server in sorted(wanted.items())
        if server.backend in behind and (key in moved or _is_out(key, seen, held))
    ]
    kept = [key for key in sorted(held) if key in seen.servers and seen.servers[key].state is ServerState.READY]
    farewells = [step for key in gone for step in _farewell(key, seen.servers[key], leaving.get(key, now), now)]
    arrivals = [AddServer(server, behind[server.backend]) for server in missing]
    return [*farewells, *(DrainServer(*key) for key in kept), *arrivals]


def _is_out(key: Key, seen: BalancerSeen, held: frozenset[Key]) -> bool:
    """Whether a server is not as a member should be: there, and ready, or draining if it is held."""
    known = seen.servers.get(key)
    return known is None or (known.state is not ServerState.READY and (key not in held or known.state is MAINT))


def _farewell(key: Key, seen: ServerSeen, until: float, now: float) -> list[Action]:
    """A server goes through drain first: a request may be on its way to it that is not counted yet."""
    if now >= until:
        return [RemoveServer(*key)]
    if seen.state is not ServerState.DRAIN:
        return [DrainServer(*key)]
    return [RemoveServer(*key)] if seen.sessions == 0 else []
