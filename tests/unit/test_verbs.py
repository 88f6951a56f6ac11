"""What is asked of single instances, from the command's word to the machine that is at rest again, in its order."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.control.apply import apply
from orchestrator.control.observe import Observer
from orchestrator.engine import verbs
from orchestrator.engine.plan import plan
from orchestrator.engine.status import State
from orchestrator.errors import UserError
from orchestrator.model.names import DeploymentId, InstanceId
from orchestrator.model.record import InstanceRecord, Intent, Wanted
from orchestrator.model.spec import Stop
from orchestrator.model.upgrade import Share, Upgrade
from orchestrator.model.world import Power, ServerState
from tests.fakes.build import deployment, record, role, service
from tests.fakes.guests import Script
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import ALL, anew, reboot, reimage, relocate, start

ACTS = {"reboot": reboot, "reimage": reimage, "relocate": relocate, "anew": anew, "stop": verbs.stop}
STOP = Stop(drain_s=5.0, timeout_s=7.0, keep_s=600.0)
BACKEND = "hello.production.web.http"


def ready(instances: int = 1, **changes: object) -> FakeWorld:
    """A deployment that has come to rest on two hosts, and a clean sheet for what is done from now on."""
    world = FakeWorld("east", "west")
    world.up(service(role(instances=instances, disks=ALL, stop=STOP, **changes)))
    world.step_by_step()
    world.faults.done.clear()
    return world


def done(world: FakeWorld, *effects: str) -> list[str]:
    """``effect object`` of these effects, in the order in which they were had."""
    return [f"{name} {what}".replace("hello.production.", "") for name, what in world.faults.done if name in effects]


def events(world: FakeWorld) -> list[str]:
    return [f"{event.what}; {event.cause}" for _number, event in world.store.events("hello")]


def run(world: FakeWorld, check: Callable[[], object]) -> None:
    """The loop to its rest, with a check of one's own after each action."""
    observer = Observer(world.hosts, world.guests, world.balancer)
    for _turn in range(800):
        intent, now = world.store.intent(), world.clock.now()
        made = plan(intent, observer.look(intent, {}, frozenset(), now), now)
        if not made.steps and all(d.settled for d in made.deployments):
            break
        for step in made.steps:
            apply(step.action, world.effects)
            check()
        world.clock.wait(max(made.requeue_s, 0.01))
    observer.close()
    assert world.look().steps == ()


def out_of_service(world: FakeWorld) -> set[str]:
    """The instances that are to serve and do not."""
    wanted = {
        r.id.name: f"{r.id.name}.g{r.generation}" for r in world.store.intent().instances if r.wanted is Wanted.UP
    }
    states = {name: state for (_backend, name), state in world.balancer.states.items()}
    return {name for name, server in wanted.items() if states.get(server) is not ServerState.READY}


# --- the order of things


@pytest.mark.parametrize("name", ACTS)
def test_every_act_takes_the_machine_out_of_rotation_before_anything_is_done_to_it(name):
    world = ready()
    world.ask(ACTS[name])
    world.step_by_step()
    way = done(
        world, "drain_server", "remove_server", "shut_down", "destroy_domain", "undefine_domain", "delete_volume",
        "define_domain", "start_domain", "import_volume", "add_server",
    )  # fmt: skip
    assert way[:3] == ["drain_server web-0.g1", "remove_server web-0.g1", "shut_down web-0.g1"]
    assert way.count("shut_down web-0.g1") == 1
    assert done(world, "destroy_domain") == []


@pytest.mark.parametrize("name", ["reimage", "relocate", "anew"])
def test_the_next_machine_s_disks_are_made_before_the_old_one_leaves(name):
    world = ready()
    world.ask(ACTS[name])
    world.step_by_step()
    way = done(world, "create_overlay", "create_seed", "create_disk", "drain_server")
    before = way[: way.index("drain_server web-0.g1")]
    assert {"create_overlay web-0.g2.overlay.qcow2", "create_seed web-0.g2.seed.iso"} <= set(before)
    assert "create_disk web-0.g2.temp.clean.raw" in before


@pytest.mark.parametrize("name", ["reimage", "relocate", "anew"])
def test_the_old_machine_is_gone_before_the_new_one_starts(name):
    world = ready()
    world.ask(ACTS[name])
    world.step_by_step()
    way = done(world, "undefine_domain", "define_domain", "start_domain", "add_server")
    assert way == ["undefine_domain web-0.g1", "define_domain web-0.g2", "start_domain web-0.g2", "add_server web-0.g2"]


def test_a_volume_is_copied_between_the_two_machines_and_only_then_deleted_where_it_was():
    world = ready()
    world.ask(relocate)
    world.step_by_step()
    data = "web-0.data.volume.raw"
    way = done(world, "undefine_domain", "import_volume", "import_end", "delete_volume", "define_domain")
    kept = [step for step in way if data in step or "_domain" in step]
    assert kept == [
        "undefine_domain web-0.g1", f"import_volume {data}", f"import_end {data}", f"delete_volume {data}",
        "define_domain web-0.g2",
    ]  # fmt: skip


def test_undo_makes_no_overlay_and_takes_the_same_road():
    world = ready()
    world.ask(reimage)
    world.step_by_step()
    world.faults.done.clear()
    world.ask(verbs.undo)
    world.step_by_step()
    assert done(world, "create_overlay", "create_disk") == []
    way = done(world, "drain_server", "remove_server", "shut_down", "undefine_domain", "start_domain", "add_server")
    assert way == [
        "drain_server web-0.g2", "remove_server web-0.g2", "shut_down web-0.g2", "undefine_domain web-0.g2",
        "start_domain web-0.g1", "add_server web-0.g1",
    ]  # fmt: skip


def test_start_after_stop_is_the_same_machine_again():
    world = ready()
    world.ask(verbs.stop)
    world.step_by_step()
    world.faults.done.clear()
    world.ask(start)
    world.step_by_step()
    assert done(world, "start_domain", "add_server", "create_overlay", "create_seed", "define_domain") == [
        "start_domain web-0.g1", "add_server web-0.g1",
    ]  # fmt: skip


# --- connections and deaf guests


def test_the_guest_is_not_told_before_its_connections_have_ended():
    world = ready()
    world.balancer.sessions[BACKEND, "web-0.g1"] = 2
    world.ask(reboot)
    with world.loop() as loop:
        begun = world.clock.now()
        while world.clock.now() < begun + 2.0:
            world.clock.wait(max(loop.tick().requeue_s, 0.1))
            assert done(world, "remove_server", "shut_down") == []
        world.balancer.sessions.clear()
        loop.tick()
        assert done(world, "remove_server") == ["remove_server web-0.g1"]
        assert world.clock.now() < begun + STOP.drain_s


def test_a_connection_that_stays_is_ended_at_the_limit():
    world = ready()
    world.balancer.sessions[BACKEND, "web-0.g1"] = 1
    world.ask(reboot)
    removed: list[float] = []

    def watch() -> None:
        if done(world, "remove_server") and not removed:
            removed.append(world.clock.now())

    begun = world.clock.now()
    run(world, watch)
    assert STOP.drain_s <= removed[0] - begun < STOP.drain_s + 1.0
    assert done(world, "drain_server", "remove_server", "shut_down") == [
        "drain_server web-0.g1", "remove_server web-0.g1", "shut_down web-0.g1",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ACTS)
def test_a_deaf_guest_is_switched_off_only_when_its_time_is_over_and_that_is_told(name):
    world = ready()
    world.scripts["hello.production.web-0"] = Script(shutdown_s=None)
    world.ask(ACTS[name])
    times: dict[str, float] = {}

    def watch() -> None:
        for effect in ("shut_down", "destroy_domain"):
            if done(world, effect):
                times.setdefault(effect, world.clock.now())

    run(world, watch)
    assert STOP.timeout_s <= times["destroy_domain"] - times["shut_down"] < STOP.timeout_s + 1.0
    assert done(world, "shut_down", "destroy_domain") == ["shut_down web-0.g1", "destroy_domain web-0.g1"]
    assert any("switched off; the guest did not shut down within 7 s" in event for event in events(world))


def test_a_guest_that_has_no_agent_yet_is_not_asked():
    world = ready()
    world.scripts["hello.production.web-0"] = Script(agent_s=None)
    world.crash("hello.production.web-0")
    with world.loop() as loop:
        for _turn in range(3):
            loop.tick()
    world.ask(verbs.stop)
    world.settle()
    assert done(world, "shut_down", "destroy_domain") == ["destroy_domain web-0.g1"]


# --- one after the other


@pytest.mark.parametrize("at_once", [1, 2])
@pytest.mark.parametrize("name", ["reboot", "reimage", "relocate", "anew"])
def test_no_more_of_a_role_are_away_at_once_than_may_be(name, at_once):
    world = ready(4, upgrade=Upgrade(max_unavailable=Share(at_once)))
    world.ask(ACTS[name])
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, len(out_of_service(world)))
        assert most <= at_once
        assert violations(world) == []

    run(world, watch)
    assert most == at_once
    assert len(done(world, "shut_down")) == 4
    assert out_of_service(world) == set()


def test_stopping_all_takes_them_one_by_one():
    world = ready(3)
    world.ask(verbs.stop)

    def running() -> int:
        return sum(
            d.power is Power.RUNNING and d.asked is not None for h in world.hosts.values() for d in h.domains.values()
        )

    def watch() -> None:
        assert violations(world) == []
        assert running() <= 1

    run(world, watch)
    made = world.look()
    assert {status.state for status in made.instances} == {State.STOPPED}
    assert [d.state for d in made.deployments] == ["stopped"]


def test_one_that_does_not_serve_anyway_need_not_wait_for_its_turn():
    world = ready(2)
    world.scripts["hello.production.web-1"] = Script(services_s=None)
    world.crash("hello.production.web-1")
    world.scripts["hello.production.web-0"] = Script(services_s=None)
    with world.loop() as loop:
        for _turn in range(4):
            world.clock.wait(max(loop.tick().requeue_s, 0.1))
        world.ask(reboot, "web-1")
        loop.tick()
    assert world.record("web-1").farewell is not None
    assert world.record("web-0").farewell is None


def test_undo_without_anything_kept_is_the_user_s_error():
    with pytest.raises(UserError, match="no overlay to go back to") as told:
        verbs.undo(record())
    assert "stop.keep_overlay" in told.value.hint


def test_a_stopped_instance_is_not_rebooted():
    with pytest.raises(UserError, match="hello/web-0 is stopped") as told:
        verbs.reboot(record(wanted=Wanted.STOPPED), 0.0)
    assert "vmrole start hello/web-0" in told.value.hint


@pytest.mark.parametrize("name", ACTS)
def test_a_verb_said_twice_is_said_once(name):
    world = ready()
    world.ask(ACTS[name])
    once = world.record("web-0")
    assert ACTS[name](once) == once


# --- stopped, and what comes by itself


def test_a_stopped_instance_is_left_stopped_by_the_loop_and_by_up():
    world = ready(2)
    world.ask(verbs.stop, "web-0")
    world.step_by_step()
    world.faults.done.clear()
    world.up(service(role(instances=3, disks=ALL, stop=STOP)))
    world.settle()
    states = {status.record.id.name: status.state for status in world.look().instances}
    assert states == {"web-0": State.STOPPED, "web-1": State.READY, "web-2": State.READY}
    assert not [step for step in done(world, "start_domain", "create_overlay") if "web-0" in step]


def test_a_stopped_instance_gets_another_image_without_being_started():
    world = ready()
    world.ask(verbs.stop)
    world.step_by_step()
    world.faults.done.clear()
    world.up(service(role(disks=ALL, stop=STOP, image="debian-13")))
    world.settle()
    assert (world.record("web-0").generation, done(world, "start_domain")) == (2, [])


def test_a_reboot_from_inside_is_a_boot_and_no_fault():
    world = ready()
    (host,) = (h for h in world.hosts.values() if h.domains)
    name = "hello.production.web-0.g1"
    host.domains[name] = replace(host.domains[name], boots=2, since=world.clock.now())
    world.clock.pass_by(1.2)
    world.settle()
    assert world.record("web-0").boot == 2
    assert not [event for event in events(world) if "fault" in event]
    assert done(world, "start_domain", "shut_down", "destroy_domain") == []
    assert world.serving() == {"web-0.g1"}


def test_a_guest_that_powers_itself_off_is_started_again_and_that_is_a_fault():
    world = ready()
    world.crash("hello.production.web-0")
    world.settle()
    assert [event for event in events(world) if event.startswith("fault: the machine went off by itself")]
    assert done(world, "start_domain") == ["start_domain web-0.g1"]
    assert (world.record("web-0").boot, world.record("web-0").generation) == (2, 1)


def test_a_stop_that_is_taken_back_is_no_fault():
    world = ready()
    world.ask(verbs.stop)
    with world.loop() as loop:
        while not done(world, "shut_down"):
            world.clock.wait(max(loop.tick().requeue_s, 0.1))
    world.ask(start)
    world.settle()
    assert world.serving() == {"web-0.g1"}
    assert not [event for event in events(world) if "fault" in event]


# --- who is meant


def known(*names: str, service_name: str = "hello") -> tuple[InstanceRecord, ...]:
    parsed = [name.rpartition("-") for name in names]
    return tuple(record(InstanceId(DeploymentId(service_name), r, int(n))) for r, _dash, n in parsed)


INTENT = Intent(
    "owner",
    (deployment(), deployment(service(name="shop"))),
    (*known("web-0", "web-1", "worker-0"), *known("web-0", service_name="shop")),
)


@pytest.mark.parametrize(
    ("targets", "everything", "expected"),
    [
        (["hello/web-1"], False, ["hello/web-1"]),
        (["hello/web"], False, ["hello/web-0", "hello/web-1"]),
        (["hello/web-0", "hello/web"], False, ["hello/web-0", "hello/web-1"]),
        (["hello"], True, ["hello/web-0", "hello/web-1", "hello/worker-0"]),
        (["hello/web"], True, ["hello/web-0", "hello/web-1"]),
        ([], True, ["hello/web-0", "hello/web-1", "hello/worker-0", "shop/web-0"]),
        (["shop/web-0", "hello/worker-0"], False, ["hello/worker-0", "shop/web-0"]),
    ],
)
def test_the_instances_that_are_meant(targets, everything, expected):
    found = verbs.chosen(INTENT, targets, slot="production", everything=everything)
    assert [f"{r.id.deployment.service}/{r.id.name}" for r in found] == expected


def test_whatever_names_nothing_is_told_all_at_once():
    with pytest.raises(UserError) as told:
        verbs.chosen(
            INTENT, ["hello/web-9", "hello/web-0", "hello", "nope/web-0", "hello/"], slot="production", everything=False
        )
    assert told.value.message == "there is no instance hello/web-9, hello, nope/web-0, hello/"
    assert "hello/web-0, hello/web-1, hello/worker-0, shop/web-0" in told.value.hint


def test_nobody_is_meant_when_nobody_is_named():
    with pytest.raises(UserError, match="no instance is named"):
        verbs.chosen(INTENT, [], slot="production", everything=False)
    assert verbs.chosen(Intent("owner"), [], slot="production", everything=True) == ()
