"""What other hands do to our machines, files and networks: noticed at the next look, put right, or refused in words."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.engine import verbs
from orchestrator.engine.plan import Plan
from orchestrator.engine.status import State
from orchestrator.model.names import MachineId, base_volume
from orchestrator.model.spec import Ready
from orchestrator.model.world import Power
from tests.fakes.build import HELLO, OWNER, WEB, role, service
from tests.fakes.guests import Script
from tests.fakes.host import Domain, FakeHost, Volume
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import reboot, reimage
from tests.unit.test_verbs import done, events, out_of_service, ready
from tests.unit.test_volumes import contents, home, turns, write

G1, G2 = MachineId(WEB, 1), MachineId(WEB, 2)
DATA = "hello.production.web-0.data.volume.raw"
CACHE = "hello.production.web-0.cache.p1.local.raw"


def change(host: FakeHost, name: str = G1.domain, **changes: object) -> None:
    host.domains[name] = replace(host.domains[name], **changes)


def faults(world: FakeWorld) -> list[str]:
    return [event for event in events(world) if event.startswith("fault: ")]


def watched(world: FakeWorld, count: int = 60) -> Plan:
    """So many turns, after each of which all holds that must always hold."""
    with world.loop() as loop:
        for _turn in range(count):
            made = loop.tick()
            assert violations(world) == []
            world.clock.wait(max(made.requeue_s, 0.01))
    return world.look()


def stranger(file: str, power: Power = Power.RUNNING) -> Domain:
    return Domain("", "", power, files=frozenset({file}))


# --- domains


def off(host: FakeHost) -> None:
    change(host, power=Power.OFF, why="destroyed")


def forgotten(host: FakeHost) -> None:
    del host.domains[G1.domain]


def paused(host: FakeHost) -> None:
    change(host, power=Power.PAUSED, why="user")


def transient(host: FakeHost) -> None:
    change(host, is_persistent=False)


def renamed(host: FakeHost) -> None:
    host.domains["mine"] = host.domains.pop(G1.domain)


def renamed_and_off(host: FakeHost) -> None:
    off(host)
    renamed(host)


@pytest.mark.parametrize(
    ("deed", "told"),
    [
        (off, "fault: somebody switched the machine off; it is started again; libvirt says: destroyed"),
        (forgotten, "fault: the machine is gone from its host; it is started again; "),
        (paused, "fault: the machine was paused; it is resumed; libvirt says: user"),
        (transient, "fault: its definition was gone from its host; it is defined again; "),
        (renamed, "fault: mine ran"),
        (renamed_and_off, "fault: the machine is gone from its host; it is started again; "),
    ],
)
def test_a_domain_that_was_meddled_with_is_put_right_with_every_disk_and_told_once(deed, told):
    world = ready()
    write(world, "old")
    deed(home(world))
    watched(world)
    assert world.settle().deployments[0].state == "ready"
    (fault,) = faults(world)
    assert fault.startswith(told)
    assert world.record("web-0").generation == 1
    assert set(contents(world).values()) == {"old"}
    assert set(home(world).domains) == {G1.domain}
    assert (home(world).domains[G1.domain].power, world.serving()) == (Power.RUNNING, {"web-0.g1"})


@pytest.mark.parametrize("deed", [paused, transient])
def test_a_machine_that_runs_is_not_restarted_to_be_put_right(deed):
    world = ready()
    deed(home(world))
    watched(world)
    assert done(world, "start_domain", "destroy_domain", "shut_down") == []


def test_a_machine_that_libvirt_forgets_when_it_goes_off_is_rebooted_like_any_other():
    world = ready()
    transient(home(world))
    world.ask(reboot)
    watched(world)
    assert done(world, "shut_down", "define_domain", "start_domain") == [
        "shut_down web-0.g1", "define_domain web-0.g1", "start_domain web-0.g1",
    ]  # fmt: skip
    assert (world.serving(), faults(world)) == ({"web-0.g1"}, [])


def test_a_stopped_instance_stays_stopped_whatever_happens_to_its_domain():
    world = ready()
    world.ask(verbs.stop)
    world.settle()
    world.faults.done.clear()
    renamed(home(world))
    watched(world)
    assert (done(world, "start_domain"), faults(world)) == ([], [])
    (status,) = world.look().instances
    assert status.state is State.STOPPED


def test_a_machine_without_room_is_not_resumed_in_circles_and_goes_on_once_there_is_some():
    world = ready()
    home(world).free_bytes = 0
    change(home(world), power=Power.PAUSED, why="I/O error")
    begun = world.clock.now()
    made = watched(world, 20)
    assert world.clock.now() - begun > 20.0  # it is looked at now and then, not all the time
    assert "the machine is paused: I/O error, and its pool on host east has no room" in made.instances[0].reason
    assert done(world, "resume_domain") == []
    assert faults(world) == [
        "fault: the machine is paused by an I/O error, and its pool has no room; libvirt says: I/O error"
    ]
    home(world).free_bytes = 10 * 1024**3
    world.settle()
    assert done(world, "resume_domain", "start_domain") == ["resume_domain web-0.g1"]
    assert world.serving() == {"web-0.g1"}


def test_an_older_machine_that_was_started_by_hand_is_switched_off_and_told():
    world = ready()
    world.ask(reimage)
    world.settle()
    machine = Domain(OWNER, "", Power.RUNNING, machine=G1, files=frozenset({G1.overlay, DATA}))
    home(world).domains[G1.domain] = machine
    home(world).volumes[G1.seed] = Volume()
    assert violations(world) != []
    turns(world, 1)
    assert violations(world) == []
    (fault,) = faults(world)
    assert fault.startswith(f"fault: {G1.domain} ran")
    assert "switched off" in fault
    assert set(home(world).domains) == {G2.domain}
    assert G1.overlay in home(world).volumes  # it is still the way back


def test_a_twin_on_another_host_is_switched_off():
    world = ready()
    world.hosts["west"].domains[G1.domain] = replace(home(world).domains[G1.domain])
    world.hosts["west"].volumes |= {G1.overlay: Volume(), G1.seed: Volume()}
    turns(world, 1)
    assert (violations(world), world.hosts["west"].domains) == ([], {})
    assert home(world).domains[G1.domain].power is Power.RUNNING


# --- files


def test_a_machine_that_runs_on_a_deleted_overlay_is_made_anew_from_its_image():
    world = ready()
    write(world, "old")
    del home(world).volumes[G1.overlay]
    world.settle()
    assert [event for event in events(world) if event.startswith("reimage: generation 2; its overlay is gone")]
    way = done(world, "create_overlay", "drain_server", "shut_down", "start_domain")
    assert way[:3] == [f"create_overlay {short(G2.overlay)}", "drain_server web-0.g1", "shut_down web-0.g1"]
    assert contents(world) == {"overlay": "", "local": "old", "clean": "", "volume": "old"}
    assert (violations(world), world.record("web-0").kept) == ([], None)


def test_a_machine_that_is_off_and_has_lost_its_overlay_is_made_anew_at_once():
    world = ready()
    del home(world).volumes[G1.overlay]
    off(home(world))
    world.settle()
    assert (world.record("web-0").generation, world.serving(), violations(world)) == (2, {"web-0.g2"}, [])
    assert f"start_domain {short(G1.domain)}" not in done(world, "start_domain")


def test_not_more_machines_than_may_be_away_are_made_anew_at_once():
    world = ready(3)
    for host in world.hosts.values():
        for file in [name for name in host.volumes if name.endswith(".overlay.qcow2")]:
            del host.volumes[file]
    with world.loop() as loop:
        made = loop.tick()
        while made.steps or not all(d.settled for d in made.deployments):
            assert len(out_of_service(world)) <= 1
            world.clock.wait(max(made.requeue_s, 0.01))
            made = loop.tick()
    assert world.serving() == {"web-0.g2", "web-1.g2", "web-2.g2"}


@pytest.mark.parametrize(("file", "kind"), [(CACHE, "local"), ("hello.production.web-0.g1.temp.clean.raw", "clean")])
def test_local_storage_that_was_deleted_is_new_and_empty_at_the_next_start(file, kind):
    world = ready()
    write(world, "old")
    del home(world).volumes[file]
    world.settle()
    assert done(world, "shut_down") == []  # it runs on: what it has open is still whole
    off(home(world))
    watched(world)
    assert contents(world) == {"overlay": "old", "local": "old", "clean": "old", "volume": "old", kind: ""}


def half_set_up() -> FakeWorld:
    """A machine that runs, and is not ready yet."""
    world = FakeWorld()
    world.scripts[str(WEB)] = Script(setup_s=None)
    world.up(service(role(ready=Ready(timeout_s=3600.0))))
    turns(world, 20)
    assert home(world).domains[G1.domain].power is Power.RUNNING
    assert G1.seed in home(world).volumes
    return world


@pytest.mark.parametrize("is_off", [True, False])
def test_a_seed_that_was_deleted_before_setup_has_ended_is_there_again(is_off: bool):
    world = half_set_up()
    del home(world).volumes[G1.seed]
    if is_off:
        off(home(world))
    turns(world, 5)
    assert any("its answer file was gone" in fault for fault in faults(world))
    assert violations(world) == []
    world.scripts.clear()
    world.settle()
    assert G1.seed not in home(world).volumes


def base_deleted(host: FakeHost, digest: str) -> None:
    del host.volumes[base_volume(digest)]


def base_altered(host: FakeHost, digest: str) -> None:
    host.altered.add(digest)


@pytest.mark.parametrize("deed", [base_deleted, base_altered])
def test_a_base_that_was_meddled_with_is_placed_again(deed: Callable[[FakeHost, str], None]):
    world = ready()
    digest = world.record("web-0").machine.digest
    deed(home(world), digest)
    world.settle()
    assert done(world, "place_image") == [f"place_image {digest}"]
    assert (violations(world), home(world).altered, world.serving()) == ([], set(), {"web-0.g1"})


# --- strangers on our files


@pytest.mark.parametrize("file", [G1.overlay, DATA, CACHE])
def test_no_machine_is_started_while_a_stranger_runs_on_its_disks(file):
    world = ready()
    off(home(world))
    home(world).domains["desktop"] = stranger(file)
    made = watched(world, 20)
    assert done(world, "start_domain", "create_overlay", "create_disk", "delete_volume") == []
    assert made.instances[0].reason == (
        f"domain desktop on host east, which is not ours, runs on disks of this instance ({file})"
    )
    del home(world).domains["desktop"]
    world.settle()
    assert world.serving() == {"web-0.g1"}


def test_a_stranger_that_is_off_is_in_nobody_s_way():
    world = ready()
    off(home(world))
    home(world).domains["desktop"] = stranger(DATA, Power.OFF)
    world.settle()
    assert (world.serving(), home(world).domains["desktop"].power) == ({"web-0.g1"}, Power.OFF)


def test_an_old_overlay_is_not_deleted_under_a_stranger():
    world = ready()
    world.ask(reimage)
    world.settle()
    home(world).domains["desktop"] = stranger(G1.overlay)
    world.clock.pass_by(3600)
    turns(world, 5)
    assert G1.overlay in home(world).volumes


def test_down_deletes_nothing_under_a_stranger():
    world = ready()
    home(world).domains["desktop"] = stranger(G1.overlay)
    world.down(HELLO)
    turns(world, 20)
    assert G1.overlay in world.hosts["east"].volumes


@pytest.mark.parametrize("act", [reboot, reimage])
def test_a_machine_that_could_not_be_started_again_is_not_taken_down_to_be(act):
    world = ready()
    home(world).domains["desktop"] = stranger(DATA)
    world.ask(act)
    (status,) = turns(world, 30).instances
    assert "desktop" in status.reason
    assert (world.serving(), done(world, "shut_down")) == ({"web-0.g1"}, [])


def test_a_stranger_with_the_next_machine_s_name_costs_nobody_the_present_one():
    world = ready()
    home(world).domains[G2.domain] = Domain("somebody", "", Power.RUNNING)
    world.ask(reimage)
    (status,) = turns(world, 30).instances
    assert G2.domain in status.reason
    assert (world.serving(), done(world, "shut_down")) == ({"web-0.g1"}, [])


def test_an_undo_whose_overlay_has_gone_is_told():
    world = ready()
    world.ask(reimage)
    world.settle()
    del home(world).volumes[G1.overlay]
    world.ask(verbs.undo)
    world.settle()
    assert (world.record("web-0").generation, world.record("web-0").kept) == (2, None)
    assert [event for event in events(world) if "undo" in event and "gone" in event]


# --- networks and HAProxy


@pytest.mark.parametrize("how", ["stopped", "undefined"])
def test_a_network_that_has_gone_is_there_again_with_its_reservations(how):
    world = ready()
    before = home(world).networks[HELLO.network]
    if how == "stopped":
        home(world).networks[HELLO.network] = replace(before, active=False)
    else:
        del home(world).networks[HELLO.network]
    watched(world)
    assert home(world).networks == {HELLO.network: before}
    # A network that is made anew does not reach a guest that runs: a reboot plugs it in again, and that is told.
    assert len(done(world, "shut_down", "start_domain")) == 2
    assert [event for event in events(world) if "its network was gone" in event]


@pytest.mark.parametrize("how", ["away", "dead"])
def test_no_more_leave_than_may_because_haproxy_cannot_be_asked(how):
    world = ready(3)
    world.ask(reboot)
    world.balancer.is_away = how == "away"
    if how == "dead":
        world.balancer.kill()
    turns(world, 3)
    world.balancer.is_away = False
    with world.loop() as loop:
        for _turn in range(10):
            made = loop.tick()
            assert len([r for r in world.store.intent().instances if r.farewell is not None]) <= 1
            world.clock.wait(max(made.requeue_s, 0.01))
    world.settle()
    assert [r.boot for r in world.store.intent().instances] == [2, 2, 2]


def short(name: str) -> str:
    return name.removeprefix("hello.production.")


def test_a_role_without_endpoints_is_not_said_to_fail_haproxys_check():
    world = FakeWorld()
    world.up(service(role(endpoints=())))
    world.settle()
    del world.hosts["local"].domains[G1.domain]
    del world.hosts["local"].volumes[G1.overlay]
    (told,) = world.look().instances
    assert (told.state, told.reason) == (State.UNHEALTHY, "its machine is off")
