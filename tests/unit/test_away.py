"""Who cannot be asked is unknown, not gone: what runs there is left alone, and nothing is forgotten."""

from dataclasses import replace

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.errors import InvalidInput
from tests.fakes.build import digest_of, role, service
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld


def turns(world, count, seconds=1.0):
    with world.loop() as loop:
        for _ in range(count):
            loop.tick()
            world.clock.wait(seconds)


@pytest.fixture
def two_hosts():
    world = FakeWorld("east", "west")
    world.up(service(role(instances=2)))
    world.settle()
    return world


def test_the_instances_of_a_silent_host_stay_in_rotation(two_hosts):
    before = two_hosts.serving()
    two_hosts.hosts["east"].is_away = True
    turns(two_hosts, 5, seconds=5)
    assert two_hosts.serving() == before


def test_an_instance_on_a_silent_host_gets_no_new_generation(two_hosts):
    record = two_hosts.store.intent().deployments[0]
    two_hosts.hosts["east"].is_away = True
    changed = service(role(instances=2, image="debian-13"))
    digests = {"web": digest_of("debian-13")}
    two_hosts.store.save_deployment(replace(record, service=changed, revision=2, digests=digests))
    turns(two_hosts, 50, seconds=0.5)
    assert two_hosts.serving()
    assert violations(two_hosts) == []
    assert {r.host: r.generation for r in two_hosts.store.intent().instances}["east"] == 1


def test_down_waits_for_a_silent_balancer_and_then_leaves_nothing():
    world = FakeWorld()
    key = world.up(service())
    world.settle()
    world.down(key)
    world.balancer.is_away = True
    turns(world, 6)
    world.balancer.is_away = False
    world.settle()
    assert (world.balancer.is_running, world.balancer.vips) == (False, set())


@pytest.mark.parametrize(
    "where", ['run: ["\\ud800"]', 'files: [{path: /x, content: "\\ud800"}]', 'settings: {A: "\\ud800"}']
)
def test_half_a_character_is_a_problem_of_the_file(where):
    text = f"service: app\nroles:\n  web:\n    image: a\n    setup:\n      {where}\n"
    with pytest.raises(InvalidInput, match="half of a character"):
        parse(text, "app.yaml")
