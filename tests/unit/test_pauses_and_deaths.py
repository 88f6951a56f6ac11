"""A service that is paused or not to be repaired is left alone; what died is told by its own signal; cuts anywhere."""

import contextlib
from dataclasses import replace

import pytest

from orchestrator.engine.deploy import paused, resumed
from orchestrator.engine.plan import plan
from orchestrator.engine.pulse import Sample, beat
from orchestrator.engine.status import State
from orchestrator.model.names import MachineId
from orchestrator.model.record import Act
from orchestrator.model.spec import Ready, Repair
from orchestrator.model.world import PANIC, GuestSeen, Power
from tests.fakes.build import HELLO, role, service
from tests.fakes.faults import Killed
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import reboot, reimage
from tests.unit.test_mending import DEAD, HARD, QUICK, SICK, by_repair, done, fall_ill, ready, told, watch

# --- off, paused


@pytest.mark.parametrize("script", [SICK, DEAD], ids=["sick", "hung"])
def test_repair_off_does_nothing(script):
    world = ready(2, repair=Repair(is_on=False))
    fall_ill(world, script, is_down=script is DEAD)
    made = watch(world, 3600)
    assert (done(world, *HARD, "drain_server"), told(world)) == ([], [])
    assert all(s.reason.endswith("repair is off") for s in made.instances)
    assert (made.deployments[0].state, made.deployments[0].settled) == ("failed", True)


def news(world: FakeWorld) -> list[tuple[str, str]]:
    """What was told of web-0 since it was ready."""
    told = [(event.what, event.cause) for _number, event in world.store.events("hello.production.web-0")]
    return told[[what for what, _ in told].index("reached rotation") + 1 :]


@pytest.mark.parametrize(("is_off", "why"), [(True, "repair is off"), (False, "the service is paused")])
def test_what_is_left_alone_is_told_once_and_so_is_its_end(is_off, why):
    world = ready(2, repair=replace(QUICK, is_on=not is_off))
    if not is_off:
        pause(world)
    fall_ill(world, SICK, "web-0")
    watch(world, 600)
    world.scripts["hello.production.web-0"] = Script()
    watch(world, 600)
    (first, cause), (last, how) = news(world)
    assert (first, cause) == (f"unhealthy; {why}", "httpd (down: httpd)")
    assert last == "well again"
    assert how.endswith(f"s after: {cause}")
    assert (done(world, *HARD, "drain_server"), told(world)) == ([], [])
    assert all(instance.care is None for instance in world.store.intent().instances)


def test_a_note_is_no_obstacle_to_the_repair_that_comes_after_the_pause():
    world = ready(2, repair=QUICK)
    pause(world)
    fall_ill(world, SICK, "web-0")
    watch(world, 60)
    resume(world)
    watch(world, 600)
    assert [what for what, _ in news(world)][:2] == ["unhealthy; the service is paused", "repair: restarts httpd"]


def test_a_first_failure_says_nothing_of_repair():
    world = FakeWorld()
    world.scripts["hello.production.web-0"] = Script(setup_errors=("bad",))
    world.up(service(role(repair=Repair(is_on=False))))
    assert world.settle().instances[0].reason == "setup failed: bad"


def pause(world: FakeWorld) -> None:
    (record,) = world.store.intent().deployments
    world.store.save_deployment(paused(record, "new disks", world.clock.now()))


def resume(world: FakeWorld) -> None:
    (record,) = world.store.intent().deployments
    world.store.save_deployment(resumed(record, world.clock.now()))


def off(world: FakeWorld) -> None:
    world.crash("hello.production.web-0")


def halted(world: FakeWorld) -> None:
    host = world.hosts["local"]
    name = "hello.production.web-0.g1"
    host.domains[name] = replace(host.domains[name], power=Power.PAUSED, why="by somebody")


def sick(world: FakeWorld) -> None:
    fall_ill(world, SICK, "web-0")


def another_image(world: FakeWorld) -> None:
    world.up(service(role(instances=2, image="debian-13", repair=QUICK)))


@pytest.mark.parametrize("deed", [off, halted, sick, another_image])
def test_a_paused_service_is_left_alone_until_it_is_resumed(deed):
    world = ready(2)
    pause(world)
    deed(world)
    made = watch(world, 3600)
    assert (done(world, *HARD[:-2], "resume_domain", "drain_server"), told(world)) == ([], [])
    assert (made.deployments[0].state, made.deployments[0].settled) == ("paused", True)
    resume(world)
    watch(world, 600)
    assert done(world, *HARD, "resume_domain") != []


def test_what_is_asked_for_is_done_in_a_pause_too():
    world = ready(2)
    pause(world)
    world.ask(reboot, "web-0")
    world.ask(reimage, "web-1")
    watch(world, 120)
    assert (world.record("web-0").boot, world.record("web-1").generation) == (2, 2)
    assert world.settle().deployments[0].state == "paused"
    world.down(HELLO)
    world.settle()
    assert world.store.intent().instances == ()


def test_after_a_pause_the_grace_begins_anew():
    world = ready(1, repair=replace(QUICK, grace_s=300.0))
    world.clock.pass_by(3600)
    pause(world)
    fall_ill(world, DEAD, is_down=True)
    watch(world, 60)
    resume(world)
    watch(world, 280)
    assert done(world, *HARD) == []
    watch(world, 60)
    assert told(world) == ["repair: out of rotation", "repair: reboot"]


# --- deaths, each by its own signal


@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("crashed", "fault: its QEMU process died; it is started again"),
        ("shutdown", "fault: the guest shut itself down; it is started again"),
        ("destroyed", "fault: somebody switched the machine off; it is started again"),
        (PANIC, "fault: the guest's kernel panicked; it is started again"),
    ],
)
def test_a_machine_that_died_is_started_at_once_whatever_the_grace(why, said):
    world = ready(2, repair=Repair())
    host, name = world.hosts["local"], "hello.production.web-0.g1"
    host.domains[name] = replace(host.domains[name], power=Power.OFF, why=why)
    watch(world, 20)
    events = [event for _number, event in world.store.events("hello")]
    (fault,) = (event for event in events if event.what.startswith("fault"))
    assert fault.what == said
    assert fault.cause.startswith(f"libvirt says: {why}")
    assert ("Linux version 6.1" in fault.cause) == (why == PANIC)
    (back,) = (event for event in events if event.what == "back in rotation")
    assert back.cause.endswith("s after it went out by itself")
    assert (world.serving(), world.record("web-0").fault) == ({"web-0.g1", "web-1.g1"}, None)


def panic(world: FakeWorld) -> None:
    host, record = world.hosts["local"], world.record("web-0")
    name = f"hello.production.web-0.g{record.generation}"
    host.domains[name] = replace(host.domains[name], power=Power.OFF, why=PANIC)


def test_a_kernel_that_dies_again_and_again_is_not_only_started_again_for_ever():
    world = ready(2, repair=replace(QUICK, grace_s=300.0))
    generations = []
    for _time in range(6):
        panic(world)
        watch(world, 100)
        generations.append(world.record("web-0").generation)
    assert generations == [1, 2, 3, 4, 4, 4]
    assert told(world)[-1] == "repair: stops"
    assert by_repair(world)[-1].cause == "3 of 3 reimages did not help: the guest's kernel panicked again"
    assert "web-0.g4" in world.serving()  # it runs; nobody makes it anew any more


def test_a_kernel_that_died_once_is_started_again_and_that_is_all():
    world = ready(2)
    panic(world)
    watch(world, 100)
    assert (told(world), world.record("web-0").generation, world.record("web-0").care) == (
        ["repair: well again"], 1, None,
    )  # fmt: skip


def test_an_io_error_is_told_once_and_apart():
    world = ready(1)
    host, name = world.hosts["local"], "hello.production.web-0.g1"
    host.free_bytes = 0
    host.domains[name] = replace(host.domains[name], power=Power.PAUSED, why="I/O error")
    watch(world, 300)
    host.free_bytes = 10 * 1024**3
    watch(world, 30)
    faults = [event.what for _n, event in world.store.events("hello") if event.what.startswith("fault")]
    assert faults == [
        "fault: the machine is paused by an I/O error, and its pool has no room",
        "fault: the machine was paused by an I/O error; it is resumed",
    ]


def test_a_machine_that_does_not_come_back_from_its_death_is_made_anew():
    world = ready(2)
    world.scripts["hello.production.web-0"] = Script(off_after_s=0.5, agent_s=None)
    off(world)
    watch(world, 30)
    assert "repair: reboot" in told(world) or "repair: reimage" in told(world)
    world.scripts.clear()
    made = watch(world, 400)
    assert {s.state for s in made.instances} == {State.READY}


# --- cut anywhere


@pytest.mark.parametrize("mended_by", ["restart", "reboot", "reimage"])
def test_repair_that_is_cut_anywhere_ends_where_an_undisturbed_one_does(mended_by):
    def begun() -> FakeWorld:
        world = ready(2)
        fall_ill(world, replace(SICK, mended_by=(mended_by,)), "web-0")
        return world

    whole = begun()
    watch(whole, 500)
    effects = len(whole.faults.done)
    assert effects > 2
    for lives in range(effects):
        world = begun()
        world.faults.lives = lives
        with contextlib.suppress(Killed):
            watch(world, 500)
        world.faults.lives = None
        watch(world, 500)
        assert world.state() == whole.state(), lives
        assert world.record("web-0").next is None
        assert [a.act for r in world.store.intent().instances if (a := r.farewell)] == list[Act]()


def test_frozen_file_systems_are_told_and_nothing_is_judged_or_done():
    world = FakeWorld()
    world.up(service())
    world.settle()
    with world.loop() as loop:
        seen, intent = loop.see(), world.store.intent()
    machine = MachineId(world.record("web-0").id, 1)
    frozen = replace(seen, guests={machine: GuestSeen(frozen=True)}, pulses={})
    made = plan(intent, frozen, world.clock.now())
    (status,) = made.instances
    assert (status.state, status.in_rotation, made.steps) == (State.READY, True, ())
    assert status.reason.startswith("its file systems are frozen")


def test_what_the_guest_says_is_told_before_it_counts_as_a_look():
    world = ready(2)
    with world.loop() as loop:
        seen, intent, now = loop.see(), world.store.intent(), world.clock.now()
    machine = MachineId(world.record("web-0").id, 1)
    pulse = beat(None, Sample(now, answers=True, is_up=False), Ready())
    said = replace(seen.guests[machine], waiting=("httpd (down)",))
    doubtful = replace(seen, guests={**seen.guests, machine: said}, pulses={**seen.pulses, machine: pulse})
    assert plan(intent, doubtful, now).instances[0].reason.startswith("httpd (down); HAProxy's check failed;")
