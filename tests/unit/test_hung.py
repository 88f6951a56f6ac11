"""What hangs hinders nothing else: it is waited for once, shortly, and not touched again before it has come back."""

import threading
import time

from orchestrator.model.world import Power
from tests.fakes.build import role, service
from tests.fakes.guests import Script
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld

AT_ONCE_S = 0.8  # a turn that waits for nothing, on a busy machine; waiting for a guest takes a second


def two_hosts(*, instances: int = 2) -> FakeWorld:
    world = FakeWorld("east", "west")
    world.up(service(role(instances=instances)))
    world.settle()
    return world


def timed(call):
    begun = time.monotonic()
    return call(), time.monotonic() - begun


def told(made) -> dict[str, str]:
    return {status.record.id.name: status.state.value for status in made.instances}


def threads(name: str = "") -> int:
    return sum(thread.name.startswith(name) for thread in threading.enumerate())


def is_woken(world: FakeWorld) -> bool:
    """Whether somebody has woken the loop; the clock's time goes on if not."""
    time.sleep(0.01)
    before = world.clock.now()
    world.clock.wait(1)
    return world.clock.now() == before


def test_a_host_that_hangs_is_waited_for_once_and_told():
    world = two_hosts()
    with world.loop() as loop:
        loop.tick()
        world.hosts["east"].gate.clear()
        made, first_s = timed(loop.tick)
        assert told(made) == {"web-0": "unknown", "web-1": "ready"}
        assert "east does not answer" in made.instances[0].reason
        assert first_s < 3
        before = threads()
        for _turn in range(5):
            _made, again_s = timed(loop.tick)
            assert again_s < AT_ONCE_S
        assert threads() <= before, "it is not asked again"
        assert world.serving() == {"web-0.g1", "web-1.g1"}
        world.hosts["east"].gate.set()
        assert told(world.settle_by(loop)) == {"web-0": "ready", "web-1": "ready"}


def test_what_happens_elsewhere_is_seen_to_while_a_host_hangs():
    world = two_hosts()
    with world.loop() as loop:
        loop.tick()
        world.hosts["east"].gate.clear()
        loop.tick()
        world.crash("hello.production.web-1")
        _made, taken_s = timed(loop.tick)
        assert taken_s < AT_ONCE_S
        assert world.hosts["west"].domains["hello.production.web-1.g1"].power is Power.RUNNING
        assert [host for host in world.hosts.values() if host.domains.keys() & {"hello.production.web-0.g1"}] == [
            world.hosts["east"]
        ]
        world.hosts["east"].gate.set()


def test_an_answer_that_comes_late_is_used_and_wakes():
    world = two_hosts()
    with world.loop() as loop:
        loop.tick()
        world.hosts["east"].gate.clear()
        loop.tick()
        world.clock.wait(1)
        assert not is_woken(world)
        world.hosts["east"].gate.set()
        assert any(is_woken(world) for _try in range(500))
        assert told(loop.tick())["web-0"] == "ready"


def test_hung_guests_do_not_starve_the_others_of_their_host():
    world = FakeWorld()
    world.up(service(role(instances=12)))
    world.settle()
    gate = threading.Event()
    with world.loop() as loop:
        loop.tick()
        for number in range(6):
            world.scripts[f"hello.production.web-{number}"] = Script(gate=gate)
        loop.tick()
        made, taken_s = timed(loop.tick)
        assert taken_s < AT_ONCE_S
        assert [told(made)[f"web-{n}"] for n in range(6, 12)] == ["ready"] * 6
        before = threads("guest-")
        for _look in range(3):
            world.clock.pass_by(5)
            made, taken_s = timed(loop.tick)
            assert taken_s < AT_ONCE_S
        assert [told(made)[f"web-{n}"] for n in range(12)] == ["unknown"] * 6 + ["ready"] * 6
        for _turn in range(30):
            loop.tick()
        assert threads("guest-") <= before + 4, "they are not asked again and again"
        world.scripts.clear()
        gate.set()
        assert set(told(world.settle_by(loop)).values()) == {"ready"}


def test_a_guest_that_is_late_is_what_it_was_until_it_was_silent_in_three_looks():
    world = two_hosts()
    gate = threading.Event()
    with world.loop() as loop:
        loop.tick()
        world.scripts["hello.production.web-0"] = Script(gate=gate)
        made = loop.tick()
        assert told(made)["web-0"] == "ready"
        assert made.requeue_s <= 1, "soon there is more to be said"
        world.clock.pass_by(4)
        made = loop.tick()
        assert (told(made)["web-0"], made.instances[0].reason[:31]) == ("ready", "the guest agent did not answer ")
        for _look in range(3):
            world.clock.pass_by(5)
            made = loop.tick()
        made = loop.tick()  # what was decided by the look before has been stored
        assert told(made)["web-0"] == "unknown"
        assert "the guest agent does not answer for" in made.instances[0].reason
        assert made.requeue_s == 5
        world.scripts.clear()
        gate.set()
        assert told(world.settle_by(loop))["web-0"] == "ready"


def test_a_step_that_hangs_is_left_behind_and_its_instance_alone():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    overlay = "hello.production.web-0.g1.overlay.qcow2"
    gate = world.faults.gates["create_overlay", overlay] = threading.Event()
    with world.loop() as loop:
        for _turn in range(200):
            made = loop.tick()
            if told(made).get("web-1") == "ready":
                break
            world.clock.wait(max(made.requeue_s, 0.01))
        assert told(made) == {"web-0": "provisioning", "web-1": "ready"}
        assert [effect for effect in world.faults.done if "web-0" in effect[1] and effect[0] != "save_instance"] == []
        before = list(world.faults.done)
        for _turn in range(5):
            made, taken_s = timed(loop.tick)
            assert taken_s < AT_ONCE_S
            assert made.requeue_s >= 1, "nothing is looked at in haste for what cannot be hurried"
        assert world.faults.done == before
        world.clock.pass_by(61)
        assert "CreateOverlay has been under way" in loop.tick().instances[0].reason
        gate.set()
        assert told(world.settle_by(loop)) == {"web-0": "ready", "web-1": "ready"}
    assert world.faults.done.count(("create_overlay", overlay)) <= 2
    assert violations(world) == []


def test_a_track_that_was_left_behind_ends_with_its_step():
    world = FakeWorld()
    world.up(service())
    gate = world.faults.gates["create_seed", "hello.production.web-0.g1.seed.iso"] = threading.Event()
    with world.loop() as loop:
        while not any(effect == "create_overlay" for effect, _subject in world.faults.done):
            loop.tick()
        gate.set()
        assert loop.finish()
        names = [effect for effect, _subject in world.faults.done]
        assert names[-1] == "create_seed"
        assert told(world.settle_by(loop)) == {"web-0": "ready"}


def test_an_image_that_does_not_come_holds_up_only_who_needs_it():
    world = FakeWorld()
    world.up(service())
    world.settle()
    digest = role(image="debian-13").image
    world.up(service(role(image=digest), name="zoo"))
    image = next(d for d in world.store.intent().deployments if d.id.service == "zoo").digests["web"]
    gate = world.faults.gates["place_image", image] = threading.Event()
    with world.loop() as loop:
        loop.tick()
        loop.tick()
        world.crash("hello.production.web-0")
        _made, taken_s = timed(loop.tick)
        assert taken_s < 1
        assert world.hosts["local"].domains["hello.production.web-0.g1"].power is Power.RUNNING
        assert not any("zoo" in subject for effect, subject in world.faults.done if effect == "create_overlay")
        gate.set()
        assert set(told(world.settle_by(loop)).values()) == {"ready"}


def test_a_hung_host_does_not_take_the_threads_of_another():
    world = two_hosts(instances=16)
    gate = threading.Event()
    with world.loop() as loop:
        loop.tick()
        east = [r.id for r in world.store.intent().instances if r.host == "east"]
        for key in east:
            world.faults.gates["start_domain", f"{key}.g1"] = gate
            world.crash(str(key))
        loop.tick()
        west = next(r.id for r in world.store.intent().instances if r.host == "west")
        world.crash(str(west))
        _made, taken_s = timed(loop.tick)
        assert world.hosts["west"].domains[f"{west}.g1"].power is Power.RUNNING
        assert taken_s < 1.5
        gate.set()
        assert set(told(world.settle_by(loop)).values()) == {"ready"}


def test_an_idle_loop_stores_nothing():
    world = two_hosts()
    world.faults.done.clear()
    with world.loop() as loop:
        for _turn in range(50):
            made = loop.tick()
            world.clock.wait(made.requeue_s)
    assert world.faults.done == []
    assert made.requeue_s == 5
