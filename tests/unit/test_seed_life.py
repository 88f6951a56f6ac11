"""The answer file's disc: there until the machine has been ready, then gone for good; anew for every generation."""

from dataclasses import replace

import pytest

from orchestrator.engine import verbs
from orchestrator.engine.plan import has_disc_left
from orchestrator.model.names import MachineId
from orchestrator.model.record import Wanted
from orchestrator.model.secret import Secret, SecretRef
from orchestrator.model.setup import File, Setup
from orchestrator.model.world import Power
from tests.fakes.build import HELLO, WEB, role, service
from tests.fakes.guests import Script
from tests.fakes.host import Volume
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import reboot, reimage
from tests.unit.test_verbs import done, ready
from tests.unit.test_volumes import home, turns

G1, G2 = MachineId(WEB, 1), MachineId(WEB, 2)
EFFECTS = ("create_seed", "eject_seed", "start_domain")


def seeds(world: FakeWorld) -> set[str]:
    return {file for host in world.hosts.values() for file in host.volumes if file.endswith(".seed.iso")}


def attached(world: FakeWorld) -> set[str]:
    return {f for host in world.hosts.values() for d in host.domains.values() for f in d.files if f.endswith(".iso")}


def check_gone(world: FakeWorld) -> None:
    assert (seeds(world), attached(world), violations(world)) == (set(), set(), [])


def test_it_is_ejected_before_it_is_deleted_and_within_five_seconds_of_ready():
    world = FakeWorld()
    world.up(service(role()))
    with world.loop() as loop:
        while world.store.intent().instances == () or world.record("web-0").timeline.services is None:
            made = loop.tick()
            world.clock.wait(max(made.requeue_s, 0.01))
        ready_at = world.record("web-0").timeline.services
        while seeds(world):
            world.clock.wait(max(loop.tick().requeue_s, 0.01))
    assert world.clock.now() - ready_at < 5.0
    ways = [f"{name} {what}" for name, what in world.faults.done if G1.seed in what or name == "eject_seed"]
    assert ways == [f"create_seed {G1.seed}", f"eject_seed {G1.domain}", f"delete_volume {G1.seed}"]
    world.settle()
    check_gone(world)


def test_who_waits_for_a_reimage_waits_until_the_disc_is_gone():
    """Also without an endpoint, where nothing else comes after ready: nobody may be there to take it away later."""
    world = FakeWorld()
    world.up(service(role(endpoints=())))
    world.settle()
    world.ask(reimage)
    with world.loop() as loop:
        while (made := loop.tick()) and (not is_ready(world, 2) or has_disc_left(made, WEB)):
            world.clock.wait(max(made.requeue_s, 0.01))
    assert world.record("web-0").is_set_up
    check_gone(world)


def is_ready(world: FakeWorld, generation: int) -> bool:
    record = world.record("web-0")
    return record.generation == generation and record.timeline.services is not None


def test_a_reboot_and_a_crash_do_without_it():
    world = ready()
    world.ask(reboot)
    world.settle()
    world.crash("hello.production.web-0")
    world.settle()
    assert done(world, *EFFECTS) == ["start_domain web-0.g1", "start_domain web-0.g1"]
    check_gone(world)


def test_a_machine_whose_definition_is_gone_is_defined_without_it():
    world = ready()
    del home(world).domains[G1.domain]
    world.settle()
    assert done(world, *EFFECTS) == ["start_domain web-0.g1"]
    check_gone(world)


def test_every_generation_gets_its_own_and_the_way_back_needs_none():
    world = ready()
    world.ask(reimage)
    world.settle()
    made = ["create_seed web-0.g2.seed.iso"] * 2  # once beforehand; again in case that was cut short
    assert done(world, *EFFECTS) == [*made, "start_domain web-0.g2", "eject_seed web-0.g2"]
    check_gone(world)
    world.faults.done.clear()
    world.ask(verbs.undo)
    world.settle()
    assert done(world, *EFFECTS) == ["start_domain web-0.g1"]
    check_gone(world)


@pytest.mark.parametrize("wanted", [Wanted.UP, Wanted.STOPPED])
def test_a_machine_that_went_off_before_it_was_ejected_loses_it_all_the_same(wanted):
    world = ready()
    host = home(world)
    domain = host.domains[G1.domain]
    host.volumes[G1.seed] = Volume()
    host.domains[G1.domain] = replace(domain, power=Power.OFF, files=domain.files | {G1.seed})
    world.ask(lambda record: replace(record, wanted=wanted))
    world.settle()
    assert done(world, "eject_seed") == ["eject_seed web-0.g1"]
    check_gone(world)


def test_a_machine_that_does_not_get_ready_keeps_it():
    world = FakeWorld()
    world.scripts[str(WEB)] = Script(setup_errors=("no",))
    world.up(service(role()))
    world.settle()
    assert (seeds(world), attached(world)) == ({G1.seed}, {G1.seed})
    world.down(HELLO)
    turns(world, 20)
    check_gone(world)


def test_a_secret_that_is_lost_is_told_and_what_runs_runs_on():
    setup = Setup(files=(File("/x", SecretRef("env:X", "k1")),))
    world = FakeWorld()
    world.secrets.kept["k1"] = Secret(b"x")
    world.up(service(role(setup=setup)))
    world.settle()
    world.secrets.kept.clear()
    world.ask(reimage)
    turns(world, 10)
    assert world.serving() == {"web-0.g1"}
    (status,) = world.look().instances
    with world.loop() as loop:
        loop.tick()
        (trouble,) = loop.trouble().values()
    assert "env:X" in trouble.error.message
    assert "vmrole up" in trouble.error.message
    assert status.record.generation == 1
