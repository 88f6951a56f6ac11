"""An instance that says it is busy: out of rotation, its connections left alone, and nothing else done to it."""

import pytest

from orchestrator.engine.plan import NET_S, UNHEARD_S
from orchestrator.engine.status import State
from orchestrator.model.spec import Ready, Stop, Via
from orchestrator.model.world import ServerState
from tests.fakes.build import HELLO, role, service
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld

FIRST = "hello.production.web-0"


def running(**changes) -> FakeWorld:
    world = FakeWorld()
    world.up(service(role(instances=2, stop=Stop(drain_s=30.0), **changes)))
    world.settle()
    return world


def states(world: FakeWorld) -> dict[str, State]:
    return {status.record.id.name: status.state for status in world.look().instances}


def test_busy_and_back():
    world = running()
    world.scripts[FIRST] = Script(busy="counting money")
    plan = world.settle()
    assert states(world) == {"web-0": State.BUSY, "web-1": State.READY}
    assert next(d for d in plan.deployments if d.id == HELLO).state == "ready"
    assert {name.rsplit(".", 1)[0] for name in world.serving()} == {"web-1"}
    world.scripts[FIRST] = Script()
    world.settle()
    assert states(world) == {"web-0": State.READY, "web-1": State.READY}
    assert len(world.serving()) == 2
    told = [event.what for _number, event in world.store.events("hello")]
    assert told.count("busy: out of rotation") == 1
    assert told.count("not busy any more") == 1
    assert world.record("web-0").generation == 1


def test_connections_of_a_busy_one_may_finish():
    world = running()
    key = next(key for key in world.balancer.servers if key[1].startswith("web-0"))
    world.balancer.sessions[key] = 3
    world.scripts[FIRST] = Script(busy="x")
    with world.loop() as loop:
        for _turn in range(5):
            loop.tick()
        assert world.balancer.states[key] is ServerState.DRAIN
        world.clock.wait(31)
        loop.tick()
    assert key not in world.balancer.servers


@pytest.mark.parametrize("count", [1, 2])
def test_busy_from_the_start_does_not_keep_up_from_ending(count):
    world = FakeWorld()
    for ordinal in range(count):
        world.scripts[f"hello.production.web-{ordinal}"] = Script(busy="warming up")
    world.up(service(role(instances=2)))
    plan = world.settle()
    assert plan.deployments[0].settled
    assert sum(state is State.BUSY for state in states(world).values()) == count
    assert len(world.serving()) == 2 - count


@pytest.mark.parametrize(
    ("ready", "booting_s", "ready_s"),
    [
        (Ready(), NET_S, NET_S),
        (Ready(interval_s=2.0), 2.0, 2.0),
        (Ready(interval_s=60.0), NET_S, NET_S),
        (Ready(via=Via.NETWORK), UNHEARD_S, NET_S),
    ],
)
def test_how_often_is_looked(ready, booting_s, ready_s):
    world = FakeWorld()
    world.scripts[FIRST] = Script(agent_s=30.0, setup_s=30.0, services_s=30.0)
    world.up(service(role(ready=ready)))
    with world.loop() as loop:
        booting = loop.run(lambda plan: not plan.steps and plan.instances[0].state is State.BOOTING)
        assert booting.requeue_s == booting_s
    assert world.settle().requeue_s == ready_s
