"""`after`: an instance is not started for the first time before the roles that it names have been ready."""

import json
from dataclasses import replace

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.engine import verbs
from orchestrator.engine.startorder import longest
from orchestrator.engine.status import State
from orchestrator.errors import InvalidInput
from orchestrator.model.spec import Ready
from tests.fakes.build import HELLO, role, service
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld

DB = role("db", 2, endpoints=())
WEB = role("web", 1, after=("db",), ready=Ready(timeout_s=10.0))
DB_1 = "hello.production.db-1"


def states(plan):
    return {status.record.id.name: (status.state, status.reason) for status in plan.instances}


def started(world, name):
    return world.record(name).timeline.started


def run(world, until):
    """Run the loop until something is true of its plan, and return that plan."""
    with world.loop() as loop:
        for _turn in range(2000):
            made = loop.tick()
            if until(made):
                return made
            world.clock.wait(max(made.requeue_s, 0.01))
    raise AssertionError("it never came true")


def test_it_starts_when_all_of_the_other_role_are_ready():
    world = FakeWorld()
    world.scripts[DB_1] = Script(agent_s=20, setup_s=30, services_s=40)  # longer than web's own time to become ready
    world.up(service(WEB, DB))
    plan = world.settle()
    assert plan.deployments[0].state == "ready"
    assert started(world, "web-0") >= world.record("db-1").timeline.rotation
    # Nobody has said that db waits for anybody.
    assert started(world, "db-0") < world.record("db-1").timeline.rotation
    assert any(event.what == "starts: role db is ready" for _number, event in world.store.events(""))


def test_it_says_what_it_waits_for():
    world = FakeWorld()
    world.scripts[DB_1] = Script(setup_s=None)
    world.up(service(WEB, DB))
    plan = run(world, lambda _plan: world.clock.now() - world.record("web-0").timeline.requested > 5)
    assert states(plan)["web-0"] == (State.PENDING, "waiting for role db: db-1 is at setup")
    assert world.hosts["local"].domains.keys() == {"hello.production.db-0.g1", f"{DB_1}.g1"}


def test_when_the_other_role_fails_it_does_not_wait_for_ever():
    world = FakeWorld()
    world.scripts[DB_1] = Script(setup_errors=("no room",))
    world.up(service(WEB, DB))
    plan = run(world, lambda plan: bool(plan.deployments) and plan.deployments[0].settled)
    assert plan.deployments[0].state == "failed"
    assert states(plan)["web-0"] == (State.PENDING, "waiting for role db: db-1 failed at setup")
    # Once it is mended, the rest goes on.
    world.scripts[DB_1] = Script()
    world.ask(lambda record: verbs.reimage(record, record.machine), "db-1")
    assert world.settle().deployments[0].state == "ready"


def test_what_becomes_of_the_other_role_later_holds_up_nobody():
    world = FakeWorld()
    world.up(service(WEB, DB))
    world.settle()
    world.ask(verbs.stop)
    world.settle()
    world.ask(lambda record: verbs.start(record, timeout_s=300, now=world.clock.now()), "web-0")
    assert states(world.settle())["web-0"][0] is State.READY
    # A new one of the role does not wait for one that has been ready either.
    world.up(service(replace(WEB, instances=2), DB))
    assert states(world.settle())["web-1"][0] is State.READY
    assert world.record("db-0").wanted.value == "stopped"


def test_one_that_waits_can_go():
    world = FakeWorld()
    world.scripts[DB_1] = Script(setup_s=None)
    world.up(service(WEB, DB))
    run(world, lambda plan: states(plan).get("web-0", ("", ""))[0] is State.PENDING)
    world.down(HELLO)
    run(world, lambda plan: not plan.deployments)
    assert world.hosts["local"].domains == {}


def test_a_role_that_is_not_waited_for_any_more():
    world = FakeWorld()
    world.scripts[DB_1] = Script(setup_s=None)
    world.up(service(WEB, DB))
    run(world, lambda plan: states(plan).get("web-0", ("", ""))[0] is State.PENDING)
    world.up(service(replace(WEB, after=()), DB))
    assert states(run(world, lambda plan: states(plan)["web-0"][0] is State.READY))["db-1"][0] is not State.READY


def test_the_longest_way():
    each = {"a": 1.0, "b": 10.0, "c": 100.0, "d": 5.0}
    assert longest(each, {"a": ("b", "c"), "b": ("c",)}) == 111.0
    assert longest(each, {}) == 100.0
    assert longest({}, {}) == 0.0


def problems(**after):
    roles = {name: {"image": "tiny", "after": before} for name, before in after.items()}
    with pytest.raises(InvalidInput) as caught:
        parse(json.dumps({"service": "hello", "roles": roles}), "f")
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_the_order_in_the_file():
    roles = {"web": {"image": "tiny", "after": ["db", "cache"]}, "db": {"image": "tiny"}, "cache": {"image": "tiny"}}
    found = parse(json.dumps({"service": "hello", "roles": roles}), "f")
    assert [one.after for one in found.roles] == [("db", "cache"), (), ()]


@pytest.mark.parametrize(
    ("after", "path", "said"),
    [
        ({"web": ["db"]}, "roles.web.after[0]", "there is no role 'db'; known: web"),
        ({"web": ["web"]}, "roles.web.after[0]", "is the role itself, which would wait for itself for ever"),
        ({"web": ["db", "db"], "db": []}, "roles.web.after[1]", "db is given twice"),
        ({"web": ["db"], "db": ["web"]}, "roles.db.after[0]",
         "none of them would ever start: db waits for web, web waits for db"),
        ({"c": ["a"], "a": ["b"], "b": ["c"]}, "roles.a.after[0]",
         "none of them would ever start: a waits for b, b waits for c, c waits for a"),
        ({"web": "db", "db": []}, "roles.web.after", "must be a list"),
        ({"web": [1]}, "roles.web.after[0]", "must be a text"),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be(after, path, said):
    assert problems(**after) == [(path, said)]


def test_a_ring_is_told_once_and_not_of_who_waits_for_it():
    assert [path for path, _said in problems(x=["a"], a=["b"], b=["a"])] == ["roles.a.after[0]"]
