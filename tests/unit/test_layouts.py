"""HAProxy refuses what is wanted: what it runs with goes on, with every change of rotation, and it is told why."""

from dataclasses import replace

import pytest

from orchestrator.engine import layouts
from orchestrator.engine.balance import Parting, balance
from orchestrator.engine.rotation import frontends, layout, routes
from orchestrator.errors import BalancerAway
from orchestrator.model.action import (
    AddServer,
    AddVip,
    ConfigureBalancer,
    RemoveServer,
    SaveServers,
    Server,
)
from orchestrator.model.spec import Protocol
from orchestrator.model.world import BackendSeen, BalancerSeen, LayoutRefused
from orchestrator.render.haproxy import alerts, blamed, config_text
from tests.fakes.build import HTTP, NOW, balanced, deployment, role, service
from tests.fakes.world import FakeWorld

HELLO, ZOO = deployment(), deployment(service(name="zoo"), vip="198.51.100.2")
TCP = service(role(endpoints=(replace(HTTP, protocol=Protocol.TCP),)))
BASE = frontends([HELLO, ZOO])
BAD = frontends([deployment(TCP), ZOO])
ONE, TWO = (Server(BASE[1].name, f"web-{n}.g1", f"198.18.0.{10 + n}", 8080) for n in range(2))


def refused(*backends: str, tries: int = 1, at: float = NOW) -> LayoutRefused:
    return LayoutRefused("no", "", backends, at, at, tries)


def running(*members: Server, **changes: object) -> BalancerSeen:
    backends = {front.name: BackendSeen() for front in BASE}
    return balanced(BASE, members, **{"backends": backends, "frontends": BASE, **changes})


def steps(wanted, members, seen, *, now=NOW + 1, is_troubled=False):
    return balance(wanted, members, seen, Parting({}), is_troubled=is_troubled, now=now)


def test_servers_come_and_go_in_what_runs_while_another_layout_is_refused():
    seen = running(ONE, refused={layout(BAD): refused()})
    assert steps(BAD, (ONE,), seen) == ()
    assert steps(BAD, (TWO,), seen) == (
        SaveServers(BASE, (TWO,)),
        RemoveServer(ONE.backend, ONE.name),
        AddServer(TWO, BASE[1]),
    )


def test_it_is_tried_again_after_a_rising_wait_and_what_goes_on_comes_first():
    for tries, wait_s in ((1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (500, 60)):
        seen = running(ONE, refused={layout(BAD): refused(tries=tries)})
        assert steps(BAD, (ONE,), seen, now=NOW + wait_s - 1) == ()
        assert steps(BAD, (ONE,), seen, now=NOW + wait_s) == (ConfigureBalancer(BAD, (ONE,)),)
    assert [type(s) for s in steps(BAD, (TWO,), seen, now=NOW + 99)] == [RemoveServer, AddServer, ConfigureBalancer]


def test_another_layout_is_tried_at_once():
    other = frontends([deployment(TCP, vip="198.51.100.9"), ZOO])
    found = steps(other, (ONE,), running(ONE, refused={layout(BAD): refused()}))
    assert found == (AddVip("198.51.100.9"), ConfigureBalancer(other, (ONE,)))


def test_others_get_what_they_want_when_it_is_known_whose_the_refusal_is():
    new = deployment(service(name="new"), vip="198.51.100.2")
    wanted = frontends([deployment(TCP), ZOO, new])
    seen = running(ONE, refused={layout(wanted): refused(BASE[0].name)})
    assert steps(wanted, (ONE,), seen) == (ConfigureBalancer(frontends([HELLO, ZOO, new]), (ONE,)),)
    assert [layouts.refusal(one.id, wanted, seen) is not None for one in (HELLO, ZOO, new)] == [True, False, False]
    # Nobody is named: it may be either of the two that differ from what runs.
    seen = running(ONE, refused={layout(wanted): refused()})
    assert steps(wanted, (ONE,), seen) == ()
    assert [layouts.refusal(one.id, wanted, seen) is not None for one in (HELLO, ZOO, new)] == [True, False, True]


def test_a_haproxy_that_died_meanwhile_is_started_with_what_it_took_last():
    seen = replace(running(), running=False, layout="", servers={}, backends={}, refused={layout(BAD): refused()})
    assert steps(BAD, (ONE,), seen) == (ConfigureBalancer(BASE, (ONE,)),)
    assert steps(BAD, (ONE,), replace(seen, frontends=())) == ()  # and with nothing, if it never took anything


def test_a_file_of_before_says_nothing_of_frontends_and_rotation_goes_on_all_the_same():
    seen = running(ONE, frontends=(), refused={layout(BAD): refused()})
    assert steps(BAD, (), seen) == (RemoveServer(ONE.backend, ONE.name),)


def test_an_address_that_cannot_be_added_stops_no_change_of_rotation():
    seen = running(ONE, vips=frozenset({"198.51.100.1"}))
    other = frontends([HELLO, deployment(service(name="zoo"), vip="198.51.100.3")])
    assert [type(s) for s in steps(other, (), seen, is_troubled=True)] == [RemoveServer, AddVip, ConfigureBalancer]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "[NOTICE]   (1) : haproxy version is 2.6\n[ALERT]    (1) : config : parsing [candidate.cfg:{line}] : 'bind'"
            " in section 'frontend' : unable to load it.\n[ALERT]    (1) : config : Error(s) found in configuration"
            " file : candidate.cfg\n[ALERT]    (1) : config : Fatal errors found in configuration.\n",
            "parsing [candidate.cfg:{line}] : 'bind' in section 'frontend' : unable to load it.",
        ),
        (
            "[ALERT]    (1) : config : Proxy '198.51.100.2:80': unable to find it.\n",
            "Proxy '198.51.100.2:80': unable to find it.",
        ),
    ],
)
def test_haproxys_words_name_whose_line_it_is(said, words):
    config = config_text(BASE, (ONE,))
    line = config.splitlines().index("frontend 198.51.100.2:80") + 3
    assert alerts(said.format(line=line)) == words.format(line=line)
    assert blamed(BASE, config, alerts(said.format(line=line))) == (BASE[1].name,)


def test_words_about_everybodys_lines_blame_nobody():
    assert blamed(BASE, config_text(BASE, ()), "parsing [candidate.cfg:4] : unknown keyword 'x'") == ()


def good_of(world):
    """The last revision of the service ``bad`` that was good."""
    record = next(r for r in world.store.intent().deployments if r.id.service == "bad")
    return max(one.revision for one in record.good)


def test_a_revision_of_which_nothing_is_new_but_what_haproxy_refuses_is_not_good():
    world = FakeWorld()
    world.up(service(name="bad"))
    world.settle()
    world.balancer.refuses["bad.production.web.http"] = "odd"
    world.up(service(role(endpoints=(replace(HTTP, protocol=Protocol.TCP),)), name="bad"))
    world.settle()
    assert good_of(world) == 1
    world.balancer.refuses.clear()
    world.clock.pass_by(layouts.LONGEST_S)
    world.settle()
    assert good_of(world) == 2


def test_a_refusal_of_one_service_is_told_there_and_all_the_others_are_repaired_scaled_and_served():
    world = FakeWorld()
    for name in ("bad", "good"):
        world.up(service(name=name))
    world.settle()
    bad = "bad.production.web.http"
    world.balancer.refuses[bad] = f"'{bad}' has something odd"
    world.up(service(role(instances=2, endpoints=(replace(HTTP, protocol=Protocol.TCP),)), name="bad"))
    world.up(service(role(instances=3), name="good"))
    made = world.settle()
    states = {status.id.service: (status.state, status.settled) for status in made.deployments}
    assert states == {"bad": ("failed", True), "good": ("ready", True)}
    assert good_of(world) == 1  # there is nothing to go back to in what HAProxy has refused
    assert "has something odd" in next(s.reason for s in made.deployments if s.id.service == "bad")
    assert [s.reason for s in made.instances if s.record.id.deployment.service == "good"] == ["", "", ""]
    assert {s.state.value for s in made.instances} == {"ready"}
    served = sorted(f"{backend.split('.')[0]}/{name}" for backend, name in world.balancer.servers)
    assert served == ["bad/web-0.g1", "bad/web-1.g1", "good/web-0.g1", "good/web-1.g1", "good/web-2.g1"]
    world.crash("good.production.web-0")
    world.settle()
    told = [(e.subject, e.what, e.cause) for _n, e in world.store.events("") if "HAProxy refuses" in e.what]
    assert told == [("bad.production", "fault: HAProxy refuses its new configuration", f"'{bad}' has something odd")]
    world.balancer.refuses.clear()
    world.clock.pass_by(layouts.LONGEST_S)
    assert {status.state for status in world.settle().deployments} == {"ready"}
    assert world.balancer.refused == {}
    assert "HAProxy takes its new configuration" in [e.what for _n, e in world.store.events("bad")]
    assert good_of(world) == 2


def test_a_new_service_that_is_refused_ends_and_nobody_makes_its_machines_again_for_that():
    world = FakeWorld()
    world.balancer.refuses["hello.production.web.http"] = "'hello.production.web.http' is odd"
    world.up(service(role(instances=1)))
    made = world.settle()
    assert [(s.state, s.settled) for s in made.deployments] == [("failed", True)]
    assert "is odd" in made.instances[0].reason
    world.clock.pass_by(7200)
    world.settle()
    assert world.record("web-0").generation == 1
    assert world.record("web-0").failure is None


def test_a_server_that_haproxy_does_not_let_go_of_keeps_no_other_from_coming():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    world.settle()
    world.faults.broken["remove_server", "web-1.g1"] = [BalancerAway("does not let go")] * 5
    world.up(service(role(instances=1), name="zoo"))
    world.up(service(role(instances=1)))
    world.settle()
    assert "zoo.production.web.http" in {backend for backend, _name in world.balancer.servers}


def test_a_service_that_is_refused_can_go_and_leaves_the_others_alone():
    world = FakeWorld()
    world.up(service(name="good"))
    world.settle()
    world.balancer.refuses["bad.production.web.http"] = "'bad.production.web.http' is odd"
    key = world.up(service(name="bad"))
    assert {s.id.service: s.state for s in world.settle().deployments} == {"bad": "failed", "good": "ready"}
    world.down(key)
    assert {s.id.service: s.state for s in world.settle().deployments} == {"good": "ready"}
    assert [front.name for front in world.balancer.frontends] == ["good.production.web.http"]


def test_a_swap_waits_for_nothing_of_another_service_that_is_refused():
    world = FakeWorld()
    for slot in ("production", "staging"):
        world.up(service(), slot)
    world.settle()
    world.balancer.refuses["bad.production.web.http"] = "no word of whose it is"
    world.up(service(name="bad"))
    world.settle()
    before = routes(world.balancer.frontends)
    world.swap("hello")
    world.settle()
    after = routes(world.balancer.frontends)
    assert after.keys() == before.keys()
    assert after != before


def test_what_goes_on_stays_open_where_it_is_while_another_port_and_address_are_refused():
    world = FakeWorld()
    world.up(service())
    world.settle()
    (before,) = world.balancer.frontends
    world.balancer.refuses[before.name] = f"'{before.name}' is odd"
    moved = replace(world.store.intent().deployments[0], vip="198.51.100.77")
    world.store.save_deployment(replace(moved, service=service(role(endpoints=(replace(HTTP, ports=(81, 81)),)))))
    world.settle()
    assert world.balancer.frontends == (before,)
    assert {before.vip, moved.vip} <= world.balancer.vips
    assert {(before.vip, before.port), (moved.vip, 81)} <= {*world.balancer.firewall.fronts}
    world.balancer.refuses.clear()
    world.clock.pass_by(layouts.LONGEST_S)
    world.settle()
    world.settle()
    assert world.balancer.vips == {moved.vip}
    assert world.balancer.firewall.fronts == ((moved.vip, 81),)
