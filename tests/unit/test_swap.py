"""The two slots of a service exchange their VIPs: what HAProxy does then, what stands against it, what comes after."""

from dataclasses import replace

import pytest

from orchestrator.engine import rotation
from orchestrator.engine.recover import copies
from orchestrator.engine.swap import is_taken_with, pair, unfit
from orchestrator.errors import BalancerAway
from orchestrator.model.action import ConfigureBalancer, Route
from orchestrator.model.names import DeploymentCopy, DeploymentId, parse_copy
from orchestrator.model.record import Pause
from orchestrator.model.rollout import Rollout
from orchestrator.model.secret import SecretRef
from orchestrator.model.spec import Endpoint, Protocol, Tls, Traffic
from orchestrator.model.world import ServerState
from tests.fakes.build import HTTP, SSH, role, service
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld

LIVE, STAGED = DeploymentId("hello"), DeploymentId("hello", "staging")
ONE, TWO = "198.51.100.1", "198.51.100.2"


def two_slots(staged=None, **script) -> FakeWorld:
    world = FakeWorld()
    if script:
        world.scripts["hello.staging.web-0"] = Script(**script)
    world.up(service(role(instances=2)))
    world.up(staged or service(role(instances=2)), "staging")
    if not script:
        world.settle()
    return world


def vips(world: FakeWorld) -> dict[str, str]:
    return {record.id.slot: record.vip for record in world.store.intent().deployments}


def leads(world: FakeWorld) -> dict[str, str]:
    return rotation.routes(world.balancer.frontends)


def reasons(world: FakeWorld) -> tuple[str, ...]:
    with world.loop() as loop:
        intent, plan = loop.look()
    two = pair(intent, "hello")
    assert two is not None
    return unfit(two, plan.instances)


def test_new_connections_go_to_the_other_deployment_and_nothing_else_is_done():
    world = two_slots()
    before = world.state()
    world.swap("hello")
    with world.loop() as loop:
        made = loop.tick()
    assert not any(isinstance(step.action, ConfigureBalancer) for step in made.steps)
    assert leads(world) == {f"{ONE}:80": "hello.staging.web.http", f"{TWO}:80": "hello.production.web.http"}
    world.settle()
    after = world.state()
    assert after["instances"] == before["instances"]
    assert set(world.balancer.servers) == {
        (f"hello.{slot}.web.http", f"web-{n}.g1") for slot in ("production", "staging") for n in range(2)
    }


def test_a_loop_that_stands_by_routes_before_it_asks_any_guest_or_host():
    world = two_slots()
    with world.loop() as loop:
        world.settle_by(loop)
        world.hosts["local"].is_away = True
        world.swap("hello")
        made = loop.tick()
    assert leads(world)[f"{ONE}:80"] == "hello.staging.web.http"
    assert not any(isinstance(step.action, Route) for step in made.steps)
    assert {ServerState.READY} == set(world.balancer.states.values())


def test_swapped_twice_it_is_as_before():
    world = two_slots()
    before = leads(world)
    for _again in range(2):
        world.swap("hello")
        world.settle()
    assert leads(world) == before
    assert vips(world) == {"production": ONE, "staging": TWO}
    assert [record.is_live for record in world.store.intent().deployments] == [True, False]


def test_after_haproxy_s_death_the_ports_lead_where_they_led():
    world = two_slots()
    world.swap("hello")
    world.settle()
    swapped = leads(world)
    world.balancer.kill()
    world.settle()
    assert leads(world) == swapped


@pytest.mark.parametrize("effect", ["save", "route"])
def test_killed_in_the_middle_of_a_swap_the_next_loop_goes_on(effect):
    world = two_slots()
    world.swap("hello")
    world.faults.broken[effect, ""] = [BalancerAway("gone")]
    world.settle()
    assert leads(world)[f"{ONE}:80"] == "hello.staging.web.http"


def test_another_revision_takes_no_vip_back():
    world = two_slots()
    world.swap("hello")
    world.settle()
    world.up(service(role(instances=3)))
    world.settle()
    assert vips(world) == {"production": TWO, "staging": ONE}
    assert leads(world)[f"{ONE}:80"] == "hello.staging.web.http"


def test_the_copies_on_hosts_know_of_a_swap_and_the_newest_is_taken():
    world = two_slots()
    world.swap("hello")
    world.settle()
    found = copies([host.observe() for host in world.hosts.values()])
    assert {key: copy for key, (_host, copy) in found.items()} == {
        key: DeploymentCopy(key, 1, 1) for key in (LIVE, STAGED)
    }
    assert parse_copy("hello.staging.r3.s12.ok") == DeploymentCopy(STAGED, 3, 12)


def test_without_two_deployments_there_is_nothing_to_swap():
    world = FakeWorld()
    world.up(service())
    assert pair(world.store.intent(), "hello") is None


def test_what_is_well_can_be_swapped_also_while_it_is_paused():
    world = two_slots()
    record = world.store.intent().deployment(STAGED)
    world.store.save_deployment(replace(record, paused=Pause(1.0)))
    assert reasons(world) == ()


def endpoints(*given: Endpoint):
    return service(role(instances=2, endpoints=given))


TCP = replace(HTTP, protocol=Protocol.TCP, check_path="")


@pytest.mark.parametrize(
    ("staged", "told"),
    [
        (endpoints(TCP), ["port 80: protocol is http in production, tcp in staging"]),
        (
            endpoints(replace(HTTP, ports=(81, 81))),
            ["only hello has the VIP port 80", "only hello (staging) has the VIP port 81"],
        ),
        (endpoints(HTTP, SSH), ["only hello (staging) has the VIP port 9100-9109"]),
        (
            endpoints(replace(HTTP, traffic=Traffic(idle_s=5, max_connections=7))),
            [
                "port 80: max_connections is 0 in production, 7 in staging",
                "port 80: idle_timeout is 60 s in production, 5 s in staging",
            ],
        ),
        (
            endpoints(replace(HTTP, traffic=Traffic(tls=Tls(SecretRef("file:/x", "5eed"))))),
            ["port 80: tls is off in production, at least 1.2 in staging"],
        ),
    ],
)
def test_each_difference_at_the_vip_is_told(staged, told):
    assert list(reasons(two_slots(staged))) == told


def test_another_certificate_is_told_without_its_value():
    given = [endpoints(replace(HTTP, traffic=Traffic(tls=Tls(SecretRef("file:/x", key))))) for key in ("5eed", "0ther")]
    world = FakeWorld()
    world.up(given[0])
    world.up(given[1], "staging")
    world.settle()
    assert reasons(world) == ("port 80: the certificate is not the same in production and staging",)


def test_other_ways_to_balance_and_other_names_are_no_difference():
    world = two_slots(service(role("shop", 2, endpoints=(replace(HTTP, name="front", target=9999),))))
    assert reasons(world) == ()
    world.swap("hello")
    world.settle()
    assert leads(world)[f"{ONE}:80"] == "hello.staging.shop.front"


def test_each_instance_that_is_not_ready_is_told_with_its_reason():
    world = two_slots(agent_s=None)
    with world.loop() as loop:
        for _turn in range(5):
            loop.tick()
    told = reasons(world)
    assert [text for text in told if text.startswith("web-0 of hello (staging) is ")]


def test_what_is_gone_upgraded_or_on_its_way_is_told_all_at_once():
    world = two_slots()
    live, _staged = world.store.intent().deployments
    world.store.save_deployment(replace(live, rollout=Rollout(2)))
    instance = world.store.intent().members(STAGED)[0]
    world.store.save_instance(replace(instance, reboot=world.clock.now()))
    told = reasons(world)
    assert told[0] == "an upgrade of hello is under way"
    assert told[1].startswith("web-0 of hello (staging) is draining: reboot")
    world.down(STAGED)
    assert "hello (staging) is being deleted" in reasons(world)


def test_only_the_one_that_is_to_be_live_has_to_be_ready():
    world = two_slots()
    world.crash("hello.production.web-0")
    assert reasons(world) == ()
    world.swap("hello")
    assert any(text.startswith("web-0 of hello is ") for text in reasons(world))


def test_the_old_deployment_goes_and_a_new_one_is_not_live_before_it_is_swapped():
    world = two_slots()
    world.swap("hello")
    world.settle()
    assert not is_taken_with(world.store.intent(), world.store.intent().deployment(LIVE))
    world.down(LIVE)
    world.settle()
    world.up(service(role(instances=1)))
    world.settle()
    assert vips(world) == {"production": TWO, "staging": ONE}
    two = pair(world.store.intent(), "hello")
    assert (two.live.id, two.coming.id) == (STAGED, LIVE)


def test_when_the_live_one_goes_the_other_is_the_service():
    world = two_slots()
    world.swap("hello")
    world.settle()
    assert is_taken_with(world.store.intent(), world.store.intent().deployment(STAGED))
    world.down(STAGED)
    world.settle()
    (left,) = world.store.intent().deployments
    assert (left.id, left.vip, left.is_live) == (LIVE, TWO, True)
    assert world.balancer.vips == {TWO}
    assert leads(world) == {f"{TWO}:80": "hello.production.web.http"}
    world.up(service(), "staging")
    world.settle()
    two = pair(world.store.intent(), "hello")
    assert (two.live.id, two.coming.id) == (LIVE, STAGED)


def test_a_deployment_that_comes_back_while_it_goes_is_not_live_twice():
    world = two_slots()
    world.swap("hello")
    world.down(STAGED)
    world.up(service(role(instances=2)), "staging")
    assert sorted(record.is_live for record in world.store.intent().deployments) == [False, True]
    world.settle()
    assert len(set(vips(world).values())) == 2
