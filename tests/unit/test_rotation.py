"""Who is in which rotation: the current machine only, and what an endpoint that ignores the instance's status gets."""

from dataclasses import replace

import pytest

from orchestrator.model.record import Failure, Stage
from orchestrator.model.spec import Endpoint, Repair
from orchestrator.model.world import ServerState
from tests.fakes.build import HTTP, role, service
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import reboot, reimage

ALWAYS = Endpoint("always", (81, 81), 8081, ignore_instance_status=True)
BACKENDS = {"hello.production.web.http", "hello.production.web.always"}


def ready(instances: int = 1) -> FakeWorld:
    world = FakeWorld()
    # Without repair: what has failed stays as it is.
    world.up(service(role(instances=instances, endpoints=(HTTP, ALWAYS), repair=Repair(is_on=False))))
    world.settle()
    return world


def backends(world: FakeWorld) -> set[str]:
    states = {key: state for key, state in world.balancer.states.items() if state is ServerState.READY}
    return {backend for backend, _name in states}


def test_an_endpoint_that_ignores_the_status_keeps_an_instance_that_has_failed():
    world = ready()
    assert backends(world) == BACKENDS
    record = world.record("web-0")
    world.store.save_instance(replace(record, failure=Failure(Stage.SERVICES, "broken", world.clock.now())))
    with world.loop() as loop:
        loop.tick()
    assert backends(world) == {"hello.production.web.always"}


def test_it_does_not_keep_a_machine_that_is_off():
    world = ready()
    world.crash("hello.production.web-0")
    with world.loop() as loop:
        loop.tick()
    assert backends(world) == set()


@pytest.mark.parametrize("verb", [reboot, reimage])
def test_it_does_not_keep_one_that_is_on_its_way_out_and_has_it_back_only_when_that_is_ready_again(verb):
    world = ready()
    world.ask(verb)
    world.step_by_step()
    assert backends(world) == BACKENDS


def test_the_connections_of_a_machine_that_has_died_are_not_waited_for():
    world = ready(2)
    keys = [(backend, "web-1.g1") for backend in BACKENDS]
    for key in keys:
        world.balancer.sessions[key] = 3
    world.up(service(role(instances=1, endpoints=(HTTP, ALWAYS))))
    with world.loop() as loop:
        loop.tick()
        loop.tick()
        assert {world.balancer.states[key] for key in keys} == {ServerState.DRAIN}
        world.crash("hello.production.web-1")
        begun = world.clock.now()
        loop.tick()
    assert not set(keys) & set(world.balancer.servers)
    assert world.clock.now() - begun < 1


def test_only_the_current_generation_is_ever_in_rotation():
    world = ready(2)
    world.ask(reimage)
    for _turn in range(400):
        with world.loop() as loop:
            made = loop.tick()
        current = {f"{r.id.name}.g{r.generation}" for r in world.store.intent().instances}
        assert {name for (_b, name), s in world.balancer.states.items() if s is ServerState.READY} <= current
        world.clock.wait(max(made.requeue_s, 0.01))
        if not made.steps and all(d.settled for d in made.deployments):
            break
    assert world.serving() == {"web-0.g2", "web-1.g2"}


def test_haproxy_that_has_died_comes_back_with_the_current_machines_in_one_turn():
    world = ready(2)
    world.ask(reimage, "web-0")
    world.settle()
    world.balancer.kill()
    with world.loop() as loop:
        loop.tick()
    assert world.serving() == {"web-0.g2", "web-1.g1"}
    assert backends(world) == BACKENDS
