"""An effect hangs, people change their mind meanwhile, and it is had after all: it all ends as it would have otherwise.

What is left behind is a plan that was cut, whose last effect comes late.
"""

import threading

import pytest

from orchestrator.engine import verbs
from orchestrator.model.record import Wanted
from tests.fakes.build import HELLO, role, service
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import ALL, reimage

MAKING = [
    "add_vip", "configure", "create_pool", "place_image", "create_network", "create_overlay", "create_seed",
    "create_disk", "define_domain", "start_domain", "save", "add_server",
]  # fmt: skip
ENDING = ["drain_server", "remove_server", "shut_down", "undefine_domain", "delete_volume", "start_domain", "save"]
MINDS = {
    "nothing": lambda _world: None,
    "stop": lambda world: world.ask(verbs.stop),
    "reimage": lambda world: world.ask(reimage),
    "down": lambda world: world.down(HELLO, with_volumes=True),
}


def run_with_a_gate(world: FakeWorld, effect: str, mind: str) -> None:
    """Tick until ``effect`` hangs and on, have another wish, let it go, and come to rest."""
    gate = world.faults.gates[effect, ""] = threading.Event()
    with world.loop() as loop:
        for _turn in range(40):
            loop.tick()
            world.clock.wait(0.5)
        assert effect in {name for name, _subject in world.faults.held}
        assert effect not in {name for name, _subject in world.faults.done}
        MINDS[mind](world)
        for _turn in range(3):
            loop.tick()
            world.clock.wait(0.5)
        assert violations(world) == []
        gate.set()
        world.settle_by(loop)
    assert violations(world) == []


def is_as_wished(world: FakeWorld, mind: str) -> bool:
    if mind == "down":
        is_empty = not any(host.domains or host.volumes or host.networks for host in world.hosts.values())
        return world.store.intent().deployments == () and is_empty
    (record,) = world.store.intent().instances
    if mind == "stop":
        return record.wanted is Wanted.STOPPED and world.serving() == set()
    return record.wanted is Wanted.UP and world.serving() == {f"web-0.g{record.generation}"}


@pytest.mark.parametrize("mind", MINDS)
@pytest.mark.parametrize("effect", MAKING)
def test_while_it_is_made(effect, mind):
    world = FakeWorld()
    world.up(service(role(disks=ALL)))
    run_with_a_gate(world, effect, mind)
    assert is_as_wished(world, mind)


@pytest.mark.parametrize("mind", MINDS)
@pytest.mark.parametrize("effect", ENDING)
def test_while_it_is_made_anew(effect, mind):
    world = FakeWorld()
    world.up(service(role(disks=ALL)))
    world.settle()
    world.faults.done.clear()
    world.ask(reimage)
    run_with_a_gate(world, effect, mind)
    assert is_as_wished(world, mind)
