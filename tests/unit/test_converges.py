"""The signature test: cut a change after any effect, as kill -9 does; the next run ends where an undisturbed one does.

A cut drops everything that a process remembers; the world and the store stay as they are in that moment. What must
always hold (``tests/fakes/invariants.py``) is checked after every single effect.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.engine import verbs
from orchestrator.model.names import DeploymentId
from orchestrator.model.record import InstanceRecord
from orchestrator.model.spec import Disk, DiskKind, Service, Size, Stop
from orchestrator.model.upgrade import Share, Upgrade
from orchestrator.model.world import NetworkSeen, Power
from tests.fakes.build import GOSSIP, HELLO, HTTP, OWNER, SSH, role, service
from tests.fakes.faults import Killed
from tests.fakes.guests import Script
from tests.fakes.host import Domain, Volume
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld

EFFECTS_A_LIFE = 12
Change = Callable[[FakeWorld], object]


def up(instances: int, **changes: object) -> Change:
    return lambda world: world.up(service(role(instances=instances, **changes)))


def down(world: FakeWorld) -> None:
    world.down(HELLO)


def crash(world: FakeWorld) -> None:
    world.balancer.kill()


def ask(verb: Callable[[InstanceRecord], InstanceRecord], *names: str) -> Change:
    return lambda world: world.ask(verb, *names)


def reboot(record: InstanceRecord) -> InstanceRecord:
    return verbs.reboot(record, 0.0)


def reimage(record: InstanceRecord) -> InstanceRecord:
    return verbs.reimage(record, record.machine)


def relocate(record: InstanceRecord) -> InstanceRecord:
    """To the other host of two."""
    host, net = ("west", 19) if record.host == "east" else ("east", 18)
    return verbs.relocate(record, record.machine, host, f"198.{net}.0.{100 + record.id.ordinal}")


def anew(record: InstanceRecord) -> InstanceRecord:
    """A new place on the same host."""
    return verbs.relocate(record, record.machine, record.host, record.dip)


def start(record: InstanceRecord) -> InstanceRecord:
    return verbs.start(record, timeout_s=300, now=1_700_000_000.0)


def deaf(world: FakeWorld) -> None:
    """web-0's guest does not shut down when it is asked to."""
    world.scripts["hello.production.web-0"] = Script(shutdown_s=None)


CACHE = Disk("cache", DiskKind.LOCAL, 64, "/var/cache/app")
TEMP = Disk("temp", DiskKind.LOCAL, 64, "/var/tmp/app", is_clean=True)
DATA = Disk("data", DiskKind.VOLUME, 64, "/srv")
ALL = (CACHE, TEMP, DATA)
LARGER = (CACHE, TEMP, replace(DATA, size_mib=128))

CHANGES: dict[str, tuple[Change, ...]] = {
    "first up": (up(2),),
    "scale up": (up(1), up(3)),
    "scale down": (up(3), up(1)),
    "another image": (up(2), up(2, image="debian-13")),
    "another size": (up(2), up(2, size=Size(vcpus=2))),
    "all at once": (up(3), up(3, image="debian-13", upgrade=Upgrade(max_unavailable=Share(3)))),
    "another port": (up(1), up(1, endpoints=(replace(HTTP, ports=(81, 81)),))),
    "no endpoints": (up(1), up(1, endpoints=())),
    "down": (up(2), down),
    "down before it is ready": (up(2), lambda world: world.clock.pass_by(0.1), down),
    "up again": (up(1), down, up(2)),
    "death of HAProxy": (up(2), crash),
    "reboot one": (up(2), ask(reboot, "web-0")),
    "reboot all": (up(3), ask(reboot)),
    "reboot a deaf one": (deaf, up(2, stop=Stop(timeout_s=2)), ask(reboot)),
    "reimage": (up(2, disks=ALL), ask(reimage)),
    "reimage, then back": (up(2, disks=ALL), ask(reimage), ask(verbs.undo, "web-1")),
    "back and forth": (up(1, disks=ALL), ask(reimage), ask(verbs.undo), ask(verbs.undo)),
    "upgrade, then back": (up(2), up(2, image="debian-13"), ask(verbs.undo)),
    "relocate": (up(2, disks=ALL), ask(relocate)),
    "relocate, and home again": (up(1, disks=ALL), ask(relocate), ask(relocate)),
    "a new place on the same host": (up(2, disks=ALL), ask(anew)),
    "stop": (up(3), ask(verbs.stop, "web-0", "web-2")),
    "stop, then start": (up(2, disks=ALL), ask(verbs.stop), ask(start)),
    "stop, change, start": (up(2), ask(verbs.stop, "web-0"), up(2, image="debian-13"), ask(start)),
    "reimage of a stopped one": (up(2), ask(verbs.stop, "web-0"), ask(reimage, "web-0")),
    "all verbs at once": (up(4, disks=ALL), ask(reboot, "web-0"), ask(reimage, "web-1"), ask(relocate, "web-2")),
    "with disks": (up(2, disks=ALL),),
    "more room": (up(2, disks=ALL), up(2, disks=LARGER)),
    "a disk less": (up(2, disks=ALL), up(2, disks=(CACHE,))),
    "in and out again": (up(2, disks=ALL), up(1, disks=ALL), up(2, disks=ALL)),
    "down with disks": (up(2, disks=ALL), down),
}


def settled(*changes: Change) -> FakeWorld:
    """A world after these changes, the last of them still to be carried out."""
    world = FakeWorld("east", "west")
    for number, change in enumerate(changes):
        change(world)
        if number < len(changes) - 1:
            world.step_by_step()
    world.faults.done.clear()
    return world


def run_until_cut(world: FakeWorld, effects: int) -> bool:
    """Run until this many effects were had; whether there were so many."""
    world.faults.done.clear()
    world.faults.lives = effects
    try:
        world.step_by_step()
    except Killed:
        return True
    finally:
        world.faults.lives = None
    return False


def cut_everywhere(world: FakeWorld) -> list[FakeWorld]:
    """Carry out what is wanted, one effect after the other; the world as it was before each, when nobody is left."""
    cut: list[FakeWorld] = []
    world.faults.before = lambda: cut.append(world.copied())
    world.step_by_step()
    world.faults.before = None
    return cut


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_is_cut_anywhere_is_completed_by_the_next_run(name):
    whole = settled(*CHANGES[name])
    cut = cut_everywhere(whole)
    assert len(cut) == len(whole.faults.done) > 0
    for k, world in enumerate(cut):
        assert len(world.faults.done) == k
        assert violations(world) == [], k
        assert world.settle().steps == (), k
        assert world.state() == whole.state(), k


@pytest.mark.parametrize("name", ["first up", "scale down", "reimage"])
def test_a_copied_world_is_what_a_cut_leaves(name):
    """So that one run can show every cut."""
    cut = cut_everywhere(settled(*CHANGES[name]))
    for k in range(0, len(cut), 5):
        world = settled(*CHANGES[name])
        assert run_until_cut(world, k)
        assert world.state() == cut[k].state()
        assert world.clock.now() == cut[k].clock.now()


@pytest.mark.parametrize("name", ["first up", "another image", "down"])
def test_it_may_be_cut_again_and_again(name):
    whole = settled(*CHANGES[name])
    whole.step_by_step()
    world = settled(*CHANGES[name])
    for _process in range(200):
        if not run_until_cut(world, EFFECTS_A_LIFE):
            break
    assert world.settle().steps == ()
    assert world.state() == whole.state()


def test_nothing_is_left_after_down():
    world = settled(up(3), down)
    world.step_by_step()
    for host in world.hosts.values():
        assert (host.domains, host.networks, host.volumes, host.has_pool) == ({}, {}, {}, False)
    assert (world.balancer.is_running, world.balancer.vips) == (False, set())
    assert world.store.intent().deployments + world.store.intent().instances == ()


def test_a_settled_world_has_an_empty_plan():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    world.settle()
    for _later in range(3):
        world.clock.pass_by(60)
        assert world.look().steps == ()


# --- generated services, worlds and cuts

ENDPOINTS = st.sampled_from([(), (HTTP,), (HTTP, SSH), (GOSSIP,), (SSH, GOSSIP)])


@st.composite
def services(draw: st.DrawFn) -> Service:
    names = draw(st.lists(st.sampled_from(["web", "worker", "web-0"]), min_size=1, max_size=3, unique=True))
    roles = []
    for number, name in enumerate(names):
        shifted = tuple(
            replace(e, ports=(e.ports[0] + 100 * number, e.ports[1] + 100 * number)) if e.ports[0] else e
            for e in draw(ENDPOINTS)
        )
        roles.append(
            role(
                name,
                draw(st.integers(1, 3)),
                image=draw(st.sampled_from(["debian-12", "debian-13"])),
                endpoints=shifted,
                upgrade=Upgrade(max_unavailable=Share(draw(st.integers(1, 3)))),
                size=Size(vcpus=draw(st.integers(1, 2))),
            )
        )
    return service(*roles)


def with_strangers(world: FakeWorld) -> FakeWorld:
    """Things on the hosts that are not ours, some of them with names that could be."""
    for host in world.hosts.values():
        host.domains["hello.production.other-0.g1"] = Domain("somebody", "", Power.RUNNING)
        host.domains["desktop"] = Domain("", "", Power.RUNNING)
        host.networks["default"] = NetworkSeen("default", True, "", None)
    return world


def strangers(world: FakeWorld) -> list[object]:
    return [
        {n: d for n, d in host.domains.items() if d.owner != OWNER}
        | {n: d for n, d in host.networks.items() if d.owner != OWNER}
        for host in world.hosts.values()
    ]


@settings(max_examples=60, deadline=None)
@given(
    first=services(),
    second=services(),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    hosts=st.sampled_from([("local",), ("east", "west")]),
    is_down=st.booleans(),
)
def test_any_change_cut_anywhere_converges(first, second, cuts, hosts, is_down):
    worlds = []
    for lives in (cuts, []):
        world = with_strangers(FakeWorld(*hosts))
        before = strangers(world)
        key = world.up(first)
        world.step_by_step()
        world.up(second)
        if is_down:
            world.down(key)
        for effects in lives:
            run_until_cut(world, effects)
            assert violations(world) == []
        world.step_by_step()
        assert strangers(world) == before
        worlds.append(world)
    cut, whole = worlds
    assert cut.look().steps == ()
    assert cut.state() == whole.state()


@st.composite
def half_done(draw: st.DrawFn) -> FakeWorld:
    """Any mixture of what a change has made and what of it is gone again, as after cuts, crashes and people."""
    world = FakeWorld()
    world.up(service(role(instances=draw(st.integers(1, 3)))))
    run_until_cut(world, draw(st.integers(0, 40)))
    host = world.hosts["local"]
    for name in draw(st.lists(st.sampled_from(sorted(host.domains) or [""]), unique=True)):
        if name:
            host.domains[name] = replace(host.domains[name], power=Power.OFF)
    for name in draw(st.lists(st.sampled_from(sorted(host.networks) or [""]), unique=True)):
        if name:
            host.networks[name] = replace(host.networks[name], active=False)
    for vip in draw(st.lists(st.sampled_from(sorted(world.balancer.vips) or [""]), unique=True)):
        world.balancer.vips.discard(vip)
    if draw(st.booleans()):
        world.balancer.kill()
    if draw(st.booleans()):
        world.clock.pass_by(draw(st.sampled_from([0.1, 1.2, 1.7, 3.0])))
    return world


@settings(max_examples=60, deadline=None)
@given(half_done())
def test_any_half_done_world_comes_to_rest_ready(world):
    made = world.settle()
    assert [d.state for d in made.deployments] == ["ready"]
    assert violations(world) == []
    wanted = world.store.intent().deployments[0].service.roles[0].instances
    assert world.serving() == {f"web-{n}.g1" for n in range(wanted)}


@settings(max_examples=40, deadline=None)
@given(world=half_done(), volume=st.booleans())
def test_any_half_done_world_can_be_taken_down(world, volume):
    host = world.hosts["local"]
    if volume and host.has_pool:
        host.volumes["hello.production.web-0.g7.overlay.qcow2"] = Volume()
    world.down(DeploymentId("hello"))
    assert world.settle().steps == ()
    assert (host.domains, host.networks, host.volumes, host.has_pool) == ({}, {}, {}, False)
    assert (world.balancer.is_running, world.balancer.vips) == (False, set())


def test_the_invariants_see_what_they_are_for():
    world = FakeWorld("east", "west")
    world.up(service())
    world.step_by_step()
    (host,) = (h for h in world.hosts.values() if h.domains)
    (name,) = host.domains
    other = next(h for h in world.hosts.values() if h is not host)
    other.domains[name] = replace(host.domains[name])
    host.volumes.clear()
    world.scripts["hello.production.web-0"] = replace(world.script(""), services_s=None)
    found = "\n".join(violations(world))
    assert "runs more than once" in found
    assert "is defined without" in found
    assert "is in rotation, but its machine is not ready" in found
    assert [(d.name, d.owner) for d in other.observe().domains.values()] == [(name, OWNER)]
