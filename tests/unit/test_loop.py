"""The loop in a world where things go wrong: each fault stops its own track only, and what heals goes on by itself."""

import pytest

from orchestrator.errors import AgentSilent, BalancerAway, HostAway, Refused, StoreConflict
from orchestrator.model.names import DeploymentId
from orchestrator.model.record import Stage
from orchestrator.model.spec import Size
from orchestrator.model.upgrade import Share, Upgrade
from tests.fakes.build import HELLO, role, service
from tests.fakes.guests import Script
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld

EFFECTS = [
    "save_instance", "add_vip", "configure", "start", "create_pool", "place_image", "mark_image", "create_network",
    "create_overlay", "create_seed", "define_domain", "start_domain", "save", "add_server",
]  # fmt: skip
ERRORS = [Refused("no"), HostAway("away"), BalancerAway("away"), StoreConflict("changed"), AgentSilent("silent")]


def states(world: FakeWorld) -> dict[str, str]:
    return {status.record.id.name: status.state.value for status in world.settle().instances}


@pytest.mark.parametrize("effect", EFFECTS)
@pytest.mark.parametrize("times", [1, 4])
def test_an_effect_that_fails_for_a_while_is_tried_again_until_it_works(effect, times):
    world = FakeWorld()
    world.up(service(role(instances=2)))
    errors = (ERRORS * times)[:times]
    world.faults.broken[effect, ""] = [*errors]
    assert states(world) == {"web-0": "ready", "web-1": "ready"}
    assert world.faults.broken[effect, ""] == []
    assert violations(world) == []


def test_one_instances_trouble_is_not_anothers():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    overlay = "hello.production.web-0.g1.overlay.qcow2"
    world.faults.broken["create_overlay", overlay] = [Refused("host local: no room")] * 10_000
    made = world.settle()
    assert [status.state.value for status in made.instances] == ["failed", "ready"]
    failure = made.instances[0].record.failure
    assert failure is not None
    assert "no room" in failure.reason


@pytest.mark.parametrize(
    ("script", "stage", "why"),
    [
        (Script(setup_errors=("user nobody: no such group",)), Stage.SETUP, "setup failed: user nobody"),
        (Script(startup="start-up task a failed with exit code 3"), Stage.SERVICES, "start-up task a failed"),
        (Script(failed=("nginx.service (exit-code)",)), Stage.SERVICES, "services failed: nginx.service"),
        (Script(agent_s=None), Stage.AGENT, "was waiting for the guest agent"),
        (Script(setup_s=None), Stage.SETUP, "it is in init"),
        (Script(services_s=None), Stage.SERVICES, "services: nginx.service (activating)"),
        (Script(agent_s=None, off_after_s=0.5), Stage.AGENT, "went off"),
    ],
)
def test_a_guest_that_does_not_become_ready_fails_and_says_why(script, stage, why):
    world = FakeWorld()
    world.scripts["hello.production.web-0"] = script
    world.up(service(role(instances=2)))
    made = world.settle()
    failed, well = made.instances
    assert (failed.state.value, well.state.value) == ("failed", "ready")
    assert failed.stage is stage or "went off" in failed.reason
    assert why in failed.reason
    assert failed.console == ("Linux version 6.1",) or script.off_after_s
    assert world.serving() == {"web-1.g1"}
    assert [d.state for d in made.deployments] == ["failed"]


def test_a_failed_instance_that_is_mended_from_inside_comes_back():
    world = FakeWorld()
    world.scripts["hello.production.web-0"] = Script(failed=("nginx.service (exit-code)",))
    world.up(service())
    assert states(world) == {"web-0": "failed"}
    world.scripts.clear()
    with world.loop() as loop:
        loop.tick()
        world.settle_by(loop)
    assert states(world) == {"web-0": "ready"}


def test_a_machine_that_went_off_is_started_again_on_the_same_disk():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    world.settle()
    world.crash("hello.production.web-0")
    with world.loop() as loop:
        loop.tick()
        assert world.serving() == {"web-1.g1"}
        loop.tick()
        assert world.serving() == {"web-1.g1"}, "it is not in rotation before its new boot is ready"
        world.settle_by(loop)
    assert world.serving() == {"web-0.g1", "web-1.g1"}
    assert world.hosts["local"].domains["hello.production.web-0.g1"].boots == 2
    assert {record.boot for record in world.store.intent().instances} == {1, 2}


def test_a_host_that_is_away_is_unknown_and_nothing_is_started_elsewhere():
    world = FakeWorld("east", "west")
    world.up(service(role(instances=2)))
    world.settle()
    before = {name: dict(host.domains) for name, host in world.hosts.items()}
    world.hosts["east"].is_away = True
    with world.loop() as loop:
        for _turn in range(20):
            made = loop.tick()
            world.clock.wait(5)
    assert {s.record.host: s.state.value for s in made.instances} == {"east": "unknown", "west": "ready"}
    assert {name: host.domains for name, host in world.hosts.items()} == before
    world.hosts["east"].is_away = False
    assert states(world) == {"web-0": "ready", "web-1": "ready"}
    assert {name: host.domains for name, host in world.hosts.items()} == before


def test_down_waits_for_a_host_that_is_away_and_then_ends():
    world = FakeWorld("east", "west")
    world.up(service(role(instances=2)))
    world.settle()
    world.down(HELLO)
    world.hosts["east"].is_away = True
    with world.loop() as loop:
        for _turn in range(5):
            loop.tick()
            world.clock.wait(5)
        assert world.store.intent().deployments != ()
        assert world.serving() == set()
        world.hosts["east"].is_away = False
        world.settle_by(loop)
    assert world.store.intent().deployments == ()
    assert not any(host.domains or host.volumes or host.networks for host in world.hosts.values())


@pytest.mark.parametrize("most", [1, 2, 3])
def test_an_upgrade_keeps_all_but_max_unavailable_in_rotation(most):
    world = FakeWorld()
    world.up(service(role(instances=3)))
    world.settle()
    world.up(service(role(instances=3, size=Size(vcpus=2), upgrade=Upgrade(1, Share(most)))))
    least = 3
    with world.loop() as loop:
        for _turn in range(200):
            made = loop.tick()
            least = min(least, len(world.serving()))
            if not made.steps and made.deployments[0].settled:
                break
            world.clock.wait(max(made.requeue_s, 0.01))
    assert world.serving() == {"web-0.g2", "web-1.g2", "web-2.g2"}
    assert least == 3 - most


def test_an_upgrade_stops_at_the_first_machine_that_does_not_become_ready():
    world = FakeWorld()
    world.up(service(role(instances=3)))
    world.settle()
    for n in range(3):
        world.scripts[f"hello.production.web-{n}"] = Script(setup_errors=("bad",))
    world.up(service(role(instances=3, image="debian-13")))
    made = world.settle()
    assert sorted(status.state.value for status in made.instances) == ["failed", "ready", "ready"]
    assert len(world.serving()) == 2


def test_two_services_share_hosts_and_go_separately():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    other = world.up(service(name="zoo"))
    world.settle()
    alone = FakeWorld()
    alone.up(service(role(instances=2)))
    alone.settle()
    world.down(other)
    world.settle()
    assert world.state()["hosts"] == alone.state()["hosts"]
    assert world.serving() == alone.serving()
    assert world.store.intent().deployment(DeploymentId("zoo")) is None


def test_what_happened_is_told_once():
    world = FakeWorld()
    world.up(service())
    world.settle()
    told = [event.what for _number, event in world.store.events("hello")]
    assert told[0].startswith("created on local")
    assert told[-1] == "reached rotation"
    assert len(set(told)) == len(told)


def test_rules_in_front_of_the_vips_that_had_gone_are_told_of_once():
    world = FakeWorld()
    world.up(service())
    world.settle()
    assert world.balancer.firewall is not None
    world.balancer.firewall = None  # somebody flushes them
    world.settle()
    world.settle()
    assert world.balancer.firewall is not None
    told = [event for _number, event in world.store.events("hello") if "in front of the VIPs" in event.what]
    assert [(event.subject, event.what) for event in told] == [
        ("hello.production", "fault: the rules in front of the VIPs were gone; they are made again")
    ]
    assert "nft flush ruleset" in told[0].cause


def test_haproxy_that_had_gone_is_told_of_once():
    world = FakeWorld()
    world.up(service())
    world.settle()
    assert "HAProxy" not in str([event.what for _number, event in world.store.events("hello")])
    world.balancer.kill()
    world.settle()
    world.settle()
    told = [event for _number, event in world.store.events("hello") if "HAProxy" in event.what]
    assert [(event.subject, event.what) for event in told] == [
        ("hello.production", "fault: HAProxy did not run; it is started again")
    ]


def test_every_event_has_a_cause():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    world.settle()
    world.up(service(role(instances=1)))
    world.settle()
    world.down(HELLO)
    world.settle()
    told = [event for _number, event in world.store.events("")]
    assert {"reached rotation", "delete: out of rotation", "deleted"} <= {event.what for event in told}
    assert [event for event in told if not (event.cause and event.actor)] == []


def test_trouble_is_remembered_with_its_beginning_and_forgotten_when_it_is_over():
    world = FakeWorld()
    world.up(service())
    world.faults.broken["create_pool", ""] = [Refused("no")] * 3
    begun = world.clock.now()
    with world.loop() as loop:
        loop.tick()
        world.clock.pass_by(4)
        loop.tick()
        assert loop.trouble()["host local"].since == begun
        world.clock.pass_by(4)
        loop.tick()
        loop.tick()
        assert "host local" not in loop.trouble()


def test_looking_changes_nothing():
    world = FakeWorld()
    world.up(service())
    before = world.state()
    world.faults.done.clear()
    with world.loop() as loop:
        _intent, made = loop.look()
    assert made.steps
    assert world.faults.done == []
    assert world.state() == before
