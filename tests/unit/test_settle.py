"""When `up` and `down` come back, and what they have to say."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from orchestrator.control.settle import End, Settler
from orchestrator.errors import HostAway, Refused
from tests.fakes.build import HELLO, role, service
from tests.fakes.guests import Script
from tests.fakes.small import FakeLease
from tests.fakes.world import FakeWorld


@contextmanager
def settler(world: FakeWorld, lease: FakeLease | None = None) -> Iterator[tuple[Settler, list[str]]]:
    said: list[str] = []
    with world.loop() as loop:
        yield Settler(loop, lease or FakeLease(), world.clock, lambda _plan: None, said.append), said


def wanting(script: Script | None = None) -> FakeWorld:
    world = FakeWorld()
    world.up(service(role(instances=2)))
    if script is not None:
        world.scripts["hello.production.web-0"] = script
    return world


@pytest.mark.parametrize(
    ("script", "timeout_s", "end"),
    [
        (None, 600, End.READY),
        (Script(setup_errors=("x",)), 600, End.FAILED),
        (Script(agent_s=None), 600, End.FAILED),
        (Script(agent_s=None), 20, End.TIMEOUT),
    ],
)
def test_the_end_of_an_up(script, timeout_s, end):
    with settler(wanting(script)) as (made, _said):
        rest = made.settle(HELLO, timeout_s)
    assert (rest.end, rest.has_changed) == (end, True)


def test_nothing_has_changed_when_it_was_so_already():
    world = wanting()
    world.settle()
    with settler(world) as (made, _said):
        rest = made.settle(HELLO, 600)
    assert (rest.end, rest.has_changed) == (End.READY, False)


def test_the_end_of_a_down():
    world = wanting()
    world.settle()
    world.down(HELLO)
    with settler(world) as (made, _said):
        assert made.settle(HELLO, 600).end is End.GONE
    assert world.hosts["local"].domains == {}


def test_it_ends_early_when_that_is_enough():
    with settler(wanting(Script(agent_s=None))) as (made, _said):
        rest = made.settle(HELLO, 600, is_enough=lambda plan, _key: len(plan.instances) == 2)
    assert rest.end is End.ENOUGH


def test_what_the_world_goes_on_to_refuse_is_told_soon_and_as_it_was_said():
    world = wanting()
    world.faults.broken["create_pool", ""] = [Refused("no room on the disk")] * 1000
    begun = world.clock.now()
    with settler(world) as (made, _said):
        rest = made.settle(HELLO, 600)
    assert rest.end is End.REFUSED
    assert rest.error is not None
    assert rest.error.message == "no room on the disk"
    assert world.clock.now() - begun < 15


def test_what_the_world_refuses_once_is_not_told():
    world = wanting()
    world.faults.broken["create_pool", ""] = [Refused("restarting")] * 2
    with settler(world) as (made, _said):
        assert made.settle(HELLO, 600).end is End.READY


def test_a_host_that_is_away_is_waited_for():
    world = wanting()
    world.faults.broken["create_pool", ""] = [HostAway("away")] * 30
    with settler(world) as (made, _said):
        assert made.settle(HELLO, 600).end is End.READY


def test_it_watches_while_somebody_else_runs_the_loop():
    world = wanting()
    world.settle()
    world.faults.done.clear()
    with settler(world, FakeLease("process 7")) as (made, said):
        rest = made.settle(HELLO, 600)
    assert rest.end is End.READY
    assert world.faults.done == []
    assert said == ["process 7 runs the loop of this home: watching it"]
