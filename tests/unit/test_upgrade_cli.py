"""An upgrade as people and scripts are told of it, and what each command says in the end."""

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import root
from orchestrator.cli.forecast import forecast_text
from orchestrator.cli.upgrade import report
from orchestrator.cli.upgradeview import upgrade_json, upgrade_text
from orchestrator.cli.view import status_json, status_text
from orchestrator.control.settle import End, Rest
from orchestrator.engine import upgradeverbs
from orchestrator.errors import UserError, VmroleError
from tests.fakes.build import NOW, deployment
from tests.fakes.world import FakeWorld
from tests.unit.test_rollout import BAD, NEW, OLD, ready, record, wanted

VERBS = (upgradeverbs.resumed, upgradeverbs.promoted, upgradeverbs.rolled_back)


@pytest.fixture(name="stopped")
def stopped_world() -> FakeWorld:
    world = ready()
    world.images[NEW] = BAD
    world.up(wanted("debian-13"))
    world.settle()
    return world


def test_the_status_says_where_it_is_and_what_each_instance_waits_for(stopped):
    text = click.unstyle(upgrade_text(stopped.look(), record(stopped), stopped.clock.now()))
    rows = [line.split() for line in text.splitlines()[3:]]
    assert [row[:4] for row in rows] == [
        ["0", "web-0", "new", "debian-13"],
        ["0", "web-2", "new", "debian-13"],
        ["1", "web-1", "waits", "debian-12"],
        ["1", "web-3", "waits", "debian-12"],
    ]
    assert "upgrade to revision 2 has stopped: web-0 did not get healthy in its time, at setup" in text
    assert "] 0 of 4 instances" in text


def test_scripts_are_told_the_same(stopped):
    found = upgrade_json(stopped.look(), record(stopped))
    assert (found["revision"], found["good"]) == (2, [1])
    assert {key: found["upgrade"][key] for key in ("state", "domain", "waits_for", "rollback")} == {
        "state": "failed",
        "domain": 0,
        "waits_for": None,
        "rollback": False,
    }
    assert found["upgrade"]["stopped"]["instance"] == "web-0"
    assert [i["digest"] for i in found["instances"]] == [NEW, NEW, OLD, OLD]


def test_the_service_s_own_status_mentions_it(stopped):
    plan = stopped.look()
    assert status_json(plan, record(stopped))["upgrade"]["state"] == "failed"
    assert "`vmrole upgrade status hello` shows it" in status_text(plan, record(stopped), stopped.clock.now())


def test_without_one_it_says_so():
    world = ready()
    assert "hello: no upgrade is under way; revision 1" in upgrade_text(world.look(), record(world), 0.0)
    assert upgrade_json(world.look(), record(world))["upgrade"] is None
    assert status_json(world.look(), record(world))["upgrade"] is None


def test_one_that_has_stopped_is_a_failure_that_says_which_why_and_what_next(stopped):
    with pytest.raises(VmroleError) as told:
        report(Rest(End.FAILED, stopped.look()), record(stopped))
    assert "web-0 did not get healthy in its time, at setup: setup failed: no such file" in told.value.message
    assert "`vmrole upgrade rollback hello`" in told.value.hint


def test_a_canary_that_waits_is_a_good_end(capsys):
    world = ready()
    world.up(wanted("debian-13"), canary=1)
    plan = world.settle()
    report(Rest(End.READY, plan), record(world))
    said = capsys.readouterr().out
    assert "web-0 healthy, waits for promote or rollback" in said
    assert "`vmrole upgrade promote hello` goes on, `vmrole upgrade rollback hello` goes back" in said


@pytest.mark.parametrize(
    "verb",
    [lambda known: upgradeverbs.paused(known, NOW), *VERBS],
    ids=["pause", "resume", "promote", "rollback"],
)
def test_what_there_is_nothing_for_is_refused(verb):
    with pytest.raises(UserError) as told:
        verb(deployment())
    assert told.value.exit_code == 2
    assert "`vmrole up" in told.value.hint


@pytest.mark.parametrize("command", ["status", "pause", "resume", "promote", "rollback"])
def test_a_name_that_is_none_is_refused(command):
    done = CliRunner().invoke(root, ["upgrade", command, "../hello"])
    assert isinstance(done.exception, UserError)


def test_a_plan_names_the_images_that_come_to_every_host_first():
    world = FakeWorld("h0", "h1")
    world.up(wanted(instances=1))
    world.settle()
    before = world.store.intent()
    world.up(wanted("debian-13", instances=1))
    hosts = {name: host.observe() for name, host in world.hosts.items()}
    text = forecast_text(before, record(world), world.look(), hosts)
    assert [line.strip() for line in text.splitlines() if "upload" in line] == [
        f"upload image {NEW[:19]} to h0",
        f"upload image {NEW[:19]} to h1",
    ]
