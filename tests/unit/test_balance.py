"""What HAProxy should serve, and the steps from what it serves."""

from dataclasses import replace

import pytest

from orchestrator.engine.balance import Parting, balance
from orchestrator.engine.rotation import fingerprint, frontends, layout, routes, servers, signature
from orchestrator.model.action import (
    AddServer,
    AddVip,
    ConfigureBalancer,
    DrainServer,
    RemoveServer,
    Route,
    SaveServers,
    Server,
    StopBalancer,
)
from orchestrator.model.names import DeploymentId
from orchestrator.model.spec import Protocol
from orchestrator.model.world import BalancerSeen, ServerSeen, ServerState
from tests.fakes.build import GOSSIP, HTTP, NOW, SSH, balanced, deployment, record, role, service, web

STAGING = DeploymentId("hello", "staging")
ROLE = role(endpoints=(HTTP, SSH, GOSSIP))
FRONTS = frontends([deployment(service(role()))])
ONE, TWO = (Server(FRONTS[0].name, f"web-{n}.g1", f"198.18.0.{10 + n}", 8080) for n in range(2))


def steps_of(wanted, members, seen, *, leaving=None, held=frozenset(), is_troubled=False, now=NOW):
    return balance(wanted, members, seen, Parting(leaving or {}, held), is_troubled=is_troubled, now=now)


def serving(*members: Server, **changes: object) -> BalancerSeen:
    return balanced(FRONTS, members, **changes)


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


def test_two_deployments_that_have_exchanged_their_vips_are_the_same_layout_with_other_routes():
    one, two = deployment(service(ROLE)), deployment(service(ROLE), id=STAGING, vip="198.51.100.2")
    before = frontends([one, two])
    after = frontends([replace(one, vip=two.vip), replace(two, vip=one.vip)])
    assert layout(before) == layout(after)
    assert signature(routes(before)) != signature(routes(after))
    assert fingerprint(before, ()) != fingerprint(after, ())
    other = replace(ROLE, endpoints=(replace(HTTP, protocol=Protocol.TCP), SSH))
    changed = [deployment(service(other), vip=two.vip), replace(two, vip=one.vip)]
    assert layout(before) != layout(frontends(changed))


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
        (FRONTS, (ONE,), serving(ONE, routes="other"), [Route]),
        (FRONTS, (ONE, TWO), serving(ONE, routes="other"), [SaveServers, Route, AddServer]),
        (FRONTS, (), serving(ONE, routes="other"), [SaveServers, Route, RemoveServer]),
        (FRONTS, (ONE,), serving(ONE, routes="other", layout="other"), [ConfigureBalancer]),
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
