"""What HAProxy should serve, and the steps from what it serves."""

from dataclasses import replace

import pytest

from orchestrator.engine.balance import balance
from orchestrator.engine.rotation import fingerprint, frontends, layout, servers
from orchestrator.model.action import (
    AddServer,
    AddVip,
    ConfigureBalancer,
    DrainServer,
    RemoveServer,
    SaveServers,
    Server,
    StopBalancer,
)
from orchestrator.model.world import BalancerSeen, ServerSeen, ServerState
from tests.fakes.build import GOSSIP, HTTP, NOW, SSH, deployment, record, role, service, web

ROLE = role(endpoints=(HTTP, SSH, GOSSIP))
FRONTS = frontends([deployment(service(role()))])
ONE, TWO = (Server(FRONTS[0].name, f"web-{n}.g1", f"198.18.0.{10 + n}", 8080) for n in range(2))


def steps_of(wanted, members, seen, *, leaving=None, held=frozenset(), now=NOW):
    return balance(wanted, members, seen, leaving=leaving or {}, held=held, now=now)


def serving(*members: Server, **changes: object) -> BalancerSeen:
    seen = {(s.backend, s.name): ServerSeen(s.address, s.port, ServerState.READY, True) for s in members}
    known = BalancerSeen(True, layout(FRONTS), fingerprint(FRONTS, members), seen, frozenset({"198.51.100.1"}))
    return replace(known, **changes)


def test_a_vip_port_has_a_frontend_and_an_instance_port_one_for_each():
    found = frontends([deployment(service(ROLE))])
    assert [(f.name, f.port) for f in found][:2] == [
        ("hello.production.web.http", 80),
        ("hello.production.web.ssh.0", 9100),
    ]
    assert len(found) == 1 + 10


def test_an_instance_serves_on_its_own_port_and_never_on_an_internal_one():
    found = servers(record(web(3).instance, generation=2), ROLE)
    assert [(s.backend, s.name, s.port) for s in found] == [
        ("hello.production.web.http", "web-3.g2", 8080),
        ("hello.production.web.ssh.3", "web-3.g2", 22),
    ]
    assert len(servers(record(web(10).instance), ROLE)) == 1  # beyond the range


def test_frontends_do_not_depend_on_the_order_of_deployments():
    one, two = deployment(), deployment(service(name="zoo"), vip="198.51.100.2")
    assert layout(frontends([one, two])) == layout(frontends([two, one]))
    assert fingerprint(FRONTS, (ONE, TWO)) == fingerprint(FRONTS, (TWO, ONE)) != fingerprint(FRONTS, (ONE,))


@pytest.mark.parametrize(
    ("wanted", "members", "seen", "steps"),
    [
        ((), (), BalancerSeen(), []),
        ((), (), serving(), [StopBalancer]),
        (FRONTS, (), BalancerSeen(), [AddVip, ConfigureBalancer]),
        (FRONTS, (ONE,), serving(ONE), []),
        (FRONTS, (ONE,), serving(ONE, layout="other"), [ConfigureBalancer]),
        (FRONTS, (ONE,), serving(ONE, running=False), [ConfigureBalancer]),
        (FRONTS, (ONE,), serving(ONE, saved="other"), [SaveServers]),
        (FRONTS, (ONE,), serving(ONE, vips=frozenset()), [AddVip]),
        (FRONTS, (ONE, TWO), serving(ONE), [SaveServers, AddServer]),
        (FRONTS, (), serving(ONE), [SaveServers, RemoveServer]),
        (FRONTS, (replace(ONE, address="198.18.0.99"),), serving(ONE), [SaveServers, RemoveServer, AddServer]),
    ],
)
def test_the_steps_to_what_is_wanted(wanted, members, seen, steps):
    assert [type(action) for action in steps_of(wanted, members, seen)] == steps


@pytest.mark.parametrize("state", [ServerState.MAINT, ServerState.DRAIN])
def test_a_server_that_was_left_half_way_is_enabled(state):
    half = {(ONE.backend, ONE.name): ServerSeen(ONE.address, ONE.port, state, False)}
    assert steps_of(FRONTS, (ONE,), serving(ONE, servers=half)) == (AddServer(ONE, FRONTS[0]),)


@pytest.mark.parametrize(
    ("state", "steps"),
    [(ServerState.READY, [DrainServer]), (ServerState.DRAIN, []), (ServerState.MAINT, [AddServer])],
)
def test_a_member_that_is_held_drains_and_stays(state, steps):
    key = (ONE.backend, ONE.name)
    seen = serving(ONE, servers={key: ServerSeen(ONE.address, ONE.port, state, True, 0)})
    assert [type(action) for action in steps_of(FRONTS, (ONE,), seen, held=frozenset({key}))] == steps


def test_an_old_generation_leaves_before_the_new_one_comes():
    new = replace(ONE, name="web-0.g2")
    kinds = [type(a) for a in steps_of(FRONTS, (new,), serving(ONE))]
    assert kinds == [SaveServers, RemoveServer, AddServer]


@pytest.mark.parametrize(
    ("state", "sessions", "left_s", "steps"),
    [
        (ServerState.READY, 0, 30, [DrainServer]),
        (ServerState.READY, 5, 30, [DrainServer]),
        (ServerState.DRAIN, 5, 30, []),
        (ServerState.DRAIN, 0, 30, [RemoveServer]),
        (ServerState.DRAIN, 5, 0, [RemoveServer]),
        (ServerState.READY, 5, 0, [RemoveServer]),
    ],
)
def test_a_server_that_leaves_may_finish_its_connections_until_its_time_is_over(state, sessions, left_s, steps):
    key = (ONE.backend, ONE.name)
    seen = serving(ONE, servers={key: ServerSeen(ONE.address, ONE.port, state, True, sessions)})
    seen = replace(seen, saved=fingerprint(FRONTS, ()))
    found = steps_of(FRONTS, (), seen, leaving={key: NOW + left_s})
    assert [type(action) for action in found] == steps
