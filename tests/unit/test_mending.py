"""Repair in a whole world: from what is seen to machines that serve again, or are left alone with a reason."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.engine import verbs
from orchestrator.engine.deploy import retried
from orchestrator.engine.plan import Plan
from orchestrator.engine.status import State
from orchestrator.model.record import Event
from orchestrator.model.spec import Disk, DiskKind, Repair, Rung, Stop
from orchestrator.model.world import ServerState
from tests.fakes.build import role, service
from tests.fakes.guests import Script
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import reboot, reimage

QUICK = Repair(grace_s=30.0)
SICK = Script(sick=("httpd (down: httpd)",))
DEAD = Script(agent_s=None)
UNSET = Script(setup_errors=("the database is not there",))
Check = Callable[[FakeWorld], object]


def ready(instances: int = 1, *hosts: str, **changes: object) -> FakeWorld:
    world = FakeWorld(*hosts)
    world.up(service(role(instances=instances, stop=Stop(drain_s=5.0, timeout_s=7.0), **{"repair": QUICK, **changes})))
    world.settle()
    world.faults.done.clear()
    return world


def fall_ill(world: FakeWorld, script: Script, *names: str, is_down: bool = False) -> None:
    for record in world.store.intent().instances:
        if not names or record.id.name in names:
            world.scripts[str(record.id)] = script
            if is_down:
                world.balancer.down.add(f"{record.id.name}.g{record.generation}")


def watch(world: FakeWorld, seconds: float, check: Check = lambda _world: None) -> Plan:
    """One process that runs the loop for so long, with a check after each turn."""
    until = world.clock.now() + seconds
    with world.loop() as loop:
        while world.clock.now() < until:
            made = loop.tick()
            check(world)
            world.clock.wait(max(made.requeue_s, 0.05))
        return loop.look()[1]


def done(world: FakeWorld, *effects: str) -> list[str]:
    return [f"{name} {what}".replace("hello.production.", "") for name, what in world.faults.done if name in effects]


HARD = ("restart", "shut_down", "destroy_domain", "start_domain", "create_overlay", "undefine_domain")


def by_repair(world: FakeWorld) -> list[Event]:
    return [event for _number, event in world.store.events("hello") if event.actor == "repair"]


def told(world: FakeWorld) -> list[str]:
    return [event.what for event in by_repair(world)]


def touched(world: FakeWorld) -> set[str]:
    """The instances to which anything was done."""
    subjects = [what.replace("hello.production.", "") for name, what in world.faults.done if name in HARD]
    return {subject.partition(".g")[0] for subject in subjects}


def treated(world: FakeWorld) -> int:
    cares = [record.care for record in world.store.intent().instances]
    return sum(c is not None and c.well is None and (c.remedy is not None or bool(c.verdict)) for c in cares)


# --- the rungs


def test_a_service_that_failed_is_restarted_out_of_rotation_and_comes_back():
    world = ready(2)
    fall_ill(world, replace(SICK, mended_by=("restart",)), "web-0")
    made = watch(world, 60)
    assert done(world, *HARD) == ["restart web-0.g1"]
    assert done(world, "drain_server", "add_server", "remove_server") == [
        "drain_server web-0.g1",
        "add_server web-0.g1",
    ]
    assert told(world) == ["repair: restarts httpd", "repair: well again"]
    (first, last) = by_repair(world)
    assert first.cause == "httpd (down: httpd)"
    assert "after restart 1 of 1" in last.cause
    assert [s.state for s in made.instances] == [State.READY, State.READY]
    assert world.record("web-0").boot == 1


def test_a_restart_that_does_not_help_is_followed_by_a_reboot_after_the_grace():
    world = ready(2, repair=replace(QUICK, grace_s=120.0))
    fall_ill(world, replace(SICK, mended_by=("reboot",)), "web-0")
    made = watch(world, 60)
    (status,) = (s for s in made.instances if s.record.id.name == "web-0")
    assert status.state is State.UNHEALTHY
    assert status.reason.startswith("httpd (down: httpd); restart 1 of 1 is done; reboot in ")
    assert made.deployments[0].state == "working"
    watch(world, 120)
    assert told(world) == ["repair: restarts httpd", "repair: reboot", "repair: well again"]
    assert done(world, "restart", "shut_down", "destroy_domain", "create_overlay") == [
        "restart web-0.g1", "shut_down web-0.g1",
    ]  # fmt: skip
    assert world.record("web-0").boot == 2


def test_what_no_reboot_mends_is_made_anew():
    world = ready(2)
    fall_ill(world, replace(SICK, mended_by=("reimage",)), "web-0")
    watch(world, 400)
    assert told(world) == ["repair: restarts httpd", "repair: reboot", "repair: reimage", "repair: well again"]
    assert world.serving() == {"web-0.g2", "web-1.g1"}
    assert world.record("web-0").kept is not None
    assert any(e.what == "reimage: generation 2" and "httpd" in e.cause for _n, e in world.store.events("hello"))


def test_a_guest_that_hangs_is_power_cycled_and_nobody_in_it_is_asked():
    world = ready(2)
    fall_ill(world, DEAD, "web-0", is_down=True)
    made = watch(world, 20)
    (status,) = (s for s in made.instances if s.record.id.name == "web-0")
    assert (status.state, done(world, *HARD)) == (State.UNKNOWN, [])
    assert "hung: the guest agent is silent for" in status.reason
    assert "its console says: Linux version 6.1" in status.reason
    assert "reboot in " in status.reason
    watch(world, 14)
    assert done(world, "shut_down", "destroy_domain", "start_domain") == [
        "destroy_domain web-0.g1", "start_domain web-0.g1",
    ]  # fmt: skip
    world.scripts.clear()
    world.balancer.down.clear()
    watch(world, 60)
    assert world.serving() == {"web-0.g1", "web-1.g1"}
    assert told(world) == ["repair: out of rotation", "repair: reboot", "repair: well again"]
    (back,) = (e for _n, e in world.store.events("hello") if e.what == "back in rotation")
    assert "after it went out by itself" in back.cause


def test_a_check_of_haproxy_s_that_fails_while_the_guest_answers_is_a_fault_of_the_boot():
    world = ready(1)
    world.balancer.down.add("web-0.g1")
    watch(world, 60)
    assert told(world)[:2] == ["repair: out of rotation", "repair: reboot"]
    assert "HAProxy's check fails for" in by_repair(world)[0].cause


def test_with_another_host_the_last_rung_is_to_move():
    world = ready(1, "east", "west")
    home = world.record("web-0").host
    fall_ill(world, SICK)
    watch(world, 1200)
    assert told(world)[:6] == ["repair: restarts httpd", "repair: reboot", *["repair: reimage"] * 3, "repair: relocate"]
    assert world.record("web-0").host != home


def test_repair_does_not_move_what_would_lose_its_local_storage():
    world = ready(1, "east", "west", disks=(Disk("cache", DiskKind.LOCAL, 64, "/var/cache/app"),))
    fall_ill(world, SICK)
    watch(world, 1200)
    assert "repair: relocate" not in told(world)
    assert told(world)[-1] == "repair: stops"


# --- the breaker


def failing(**changes: object) -> FakeWorld:
    """web-0 is made anew in vain: its setup does not work any more."""
    world = ready(2, **changes)
    world.scripts["hello.production.web-0"] = UNSET
    world.ask(reimage, "web-0")
    return world


def test_repair_that_does_not_help_stops_and_says_why():
    world = failing()
    made = watch(world, 600)
    (status,) = (s for s in made.instances if s.record.id.name == "web-0")
    assert status.state is State.FAILED
    assert status.reason == (
        "repair has stopped: 3 of 3 reimages failed at setup: setup failed: the database is not there"
    )
    assert told(world) == ["repair: reimage"] * 3 + ["repair: stops"]
    assert by_repair(world)[-1].cause.startswith("3 of 3 reimages failed at setup")
    assert (made.deployments[0].state, made.deployments[0].settled) == ("failed", True)
    before = len(world.faults.done)
    assert watch(world, 3600).steps == ()
    assert len(world.faults.done) == before


def test_what_is_kept_for_a_way_back_is_from_before_the_vain_tries():
    world = failing()
    watch(world, 600)
    kept = world.record("web-0").kept
    assert kept is not None
    assert kept.generation == 1


@pytest.mark.parametrize("how", ["up", "reimage", "reboot"])
def test_whoever_asks_again_has_repair_begin_anew(how):
    world = failing()
    watch(world, 600)
    world.scripts.clear()
    if how == "up":
        intent = world.store.intent()
        for record in retried(intent, intent.deployments[0], world.clock.now()):
            world.store.save_instance(record)
    else:
        world.ask({"reimage": reimage, "reboot": reboot}[how], "web-0")
    made = watch(world, 300)
    assert [s.state for s in made.instances] == [State.READY, State.READY]


def test_a_first_setup_that_fails_is_the_user_s_to_mend():
    world = FakeWorld()
    fall_ill(world, UNSET)
    world.scripts["hello.production.web-0"] = UNSET
    world.up(service(role(repair=QUICK)))
    made = world.settle()
    assert made.deployments[0].state == "failed"
    assert watch(world, 3600).instances[0].reason == "setup failed: the database is not there"
    assert (told(world), world.record("web-0").generation) == ([], 1)


def test_an_upgrade_to_what_never_worked_is_not_repaired():
    world = ready(2)
    fall_ill(world, UNSET)
    world.up(service(role(instances=2, image="debian-13", repair=QUICK)))
    watch(world, 3600)
    assert (told(world), world.record("web-0").generation) == ([], 2)


def test_an_old_overlay_that_was_asked_for_is_not_made_anew():
    world = failing(repair=replace(QUICK, reimage=Rung(0, 1.0), reboot=Rung(0, 1.0)))
    watch(world, 60)
    world.ask(verbs.undo, "web-0")
    world.scripts.clear()
    watch(world, 60)
    assert world.record("web-0").generation == 1


def test_an_episode_is_over_once_it_has_been_well_for_the_grace():
    world = ready(1)
    script = replace(SICK, mended_by=("restart",))
    fall_ill(world, script)
    watch(world, 40)
    care = world.record("web-0").care
    assert care is not None
    assert care.well is not None
    watch(world, 60)
    assert world.record("web-0").care is None
    assert world.look().steps == ()


def test_a_relapse_goes_on_up_the_ladder():
    world = ready(1, repair=replace(QUICK, grace_s=300.0))
    fall_ill(world, replace(SICK, mended_by=("restart",)))
    watch(world, 40)
    fall_ill(world, replace(SICK, mended_by=("reboot",)))
    watch(world, 400)
    well = "repair: well again"
    assert told(world) == ["repair: restarts httpd", well, "repair: out of rotation", "repair: reboot", well]


# --- unknown


def test_silence_alone_destroys_nothing_for_hours_and_the_others_carry():
    world = ready(3)
    fall_ill(world, DEAD, "web-1")
    made = watch(world, 7200)
    assert (done(world, *HARD), treated(world)) == ([], 0)
    (status,) = (s for s in made.instances if s.record.id.name == "web-1")
    assert status.state is State.UNKNOWN
    assert "the guest agent does not answer for" in status.reason
    assert world.balancer.states["hello.production.web.http", "web-1.g1"] is ServerState.DRAIN
    assert told(world) == ["repair: out of rotation"]
    # Another process, which has looked but once, says what is known.
    (status,) = (s for s in world.look().instances if s.record.id.name == "web-1")
    assert (status.state, status.in_rotation) == (State.UNKNOWN, False)
    assert status.reason.startswith("out of rotation for ")
    assert "the guest agent does not answer for" in status.reason
    world.scripts.clear()
    watch(world, 30)
    assert world.balancer.states["hello.production.web.http", "web-1.g1"] is ServerState.READY
    assert told(world) == ["repair: out of rotation", "repair: well again, back in rotation"]


def test_the_only_one_is_not_drained_for_its_silence():
    world = ready(1)
    fall_ill(world, DEAD)
    made = watch(world, 3600)
    assert (done(world, *HARD, "drain_server"), made.instances[0].state) == ([], State.UNKNOWN)
    assert made.instances[0].in_rotation


def test_a_role_that_nobody_on_the_network_can_ask_is_never_touched_for_silence():
    world = ready(2, endpoints=())
    fall_ill(world, DEAD)
    made = watch(world, 7200)
    assert done(world, *HARD) == []
    assert {s.state for s in made.instances} == {State.UNKNOWN}


def test_an_unreachable_host_suspends_judgement():
    world = ready(2)
    fall_ill(world, DEAD, is_down=True)
    world.hosts["local"].is_away = True
    watch(world, 3600)
    assert (done(world, *HARD), told(world)) == ([], [])


def test_a_guest_whose_file_systems_are_frozen_is_not_judged():
    world = ready(1)
    fall_ill(world, replace(SICK, frozen=True), is_down=True)
    watch(world, 3600)
    assert (done(world, *HARD), told(world)) == ([], [])


# --- the budget


@pytest.mark.parametrize("script", [SICK, DEAD], ids=["sick", "hung"])
@pytest.mark.parametrize(("instances", "percent", "most"), [(3, 20, 1), (5, 40, 2), (4, 100, 4)])
def test_when_all_fail_at_once_no_more_than_the_budget_is_touched_ever(script, instances, percent, most):
    world = ready(instances, repair=replace(QUICK, max_percent=percent))
    fall_ill(world, script, is_down=script is DEAD)

    def within(world: FakeWorld) -> None:
        assert treated(world) <= most
        assert len(touched(world)) <= most
        assert violations(world) == [] or script is DEAD

    watch(world, 3600, within)
    assert len(touched(world)) == most


def test_those_that_wait_say_so():
    world = ready(3)
    fall_ill(world, SICK)
    made = watch(world, 30)
    reasons = [s.reason for s in made.instances if "waits for its turn" in s.reason]
    assert len(reasons) == 2
    assert "at most 1 of web may be away or under repair" in reasons[0]


def test_an_upgrade_and_repair_share_what_may_be_away():
    world = ready(3)
    fall_ill(world, SICK, "web-2")
    watch(world, 20)
    assert touched(world) == {"web-2"}
    world.ask(reboot, "web-0")
    watch(world, 10)
    assert "shut_down web-0.g1" not in done(world, "shut_down")


def test_what_was_wrong_with_a_machine_is_not_said_of_the_next_one():
    world = FakeWorld()
    world.up(service(role(instances=1, repair=Repair(is_on=False))))
    world.settle()
    world.scripts["hello.production.web-0"] = Script(failed=("httpd (x)",))
    world.ask(reboot)
    with world.loop() as loop:
        while loop.tick().instances[0].state is not State.FAILED:
            world.clock.pass_by(0.2)
        world.ask(reimage)
        while (status := loop.tick().instances[0]).state is not State.STOPPING:
            world.clock.pass_by(0.2)
        world.scripts["hello.production.web-0"] = Script()  # the next machine is well
        while status.state is not State.READY:
            status = loop.tick().instances[0]
            assert not (status.record.generation == 2 and status.is_left), status
            world.clock.pass_by(0.2)
    assert status.record.generation == 2


def test_an_instance_is_back_once_and_only_when_what_was_done_is_over():
    world = ready(2)
    fall_ill(world, replace(SICK, mended_by=("restart",)), "web-0")
    watch(world, 60)
    events = [(e.what, e.subject) for _n, e in world.store.events("hello")]
    whats = [what for what, subject in events if subject.endswith("web-0") and what.startswith(("repair", "back"))]
    assert whats == ["repair: restarts httpd", "repair: well again", "back in rotation"]
