"""`down` of a deployment that somebody has broken: in the right order, and nothing is left but what is kept."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.errors import BalancerAway, HostAway
from orchestrator.model.names import DeploymentId, InstanceId, MachineId, VolumeId, parse_machine
from orchestrator.model.record import Act, Failure, Farewell, Pause, Stage, Wanted
from orchestrator.model.rollout import Rollout
from orchestrator.model.spec import Disk, DiskKind, Stop
from orchestrator.model.world import Power
from tests.fakes.build import OWNER, record, role, service
from tests.fakes.faults import Killed
from tests.fakes.guests import Script
from tests.fakes.host import FakeHost
from tests.fakes.pool import Domain, Volume
from tests.fakes.world import FakeWorld

SLOTS = ["production", "staging"]
DISKS = (Disk("data", DiskKind.VOLUME, 64, "/srv"), Disk("cache", DiskKind.LOCAL, 64, "/cache"))
WHAT = service(role(instances=2, disks=DISKS, stop=Stop(drain_s=5, timeout_s=5)))
Break = Callable[[FakeWorld, DeploymentId], object]


def made(slot: str) -> tuple[FakeWorld, DeploymentId]:
    """Both slots, at rest; the key of one of them."""
    world = FakeWorld()
    for each in SLOTS:
        world.up(WHAT, each)
    world.settle()
    return world, DeploymentId("hello", slot)


def host(world: FakeWorld) -> FakeHost:
    return world.hosts["local"]


def first(key: DeploymentId) -> MachineId:
    return MachineId(InstanceId(key, "web", 0), 1)


def change(world: FakeWorld, key: DeploymentId, **changes: object) -> None:
    domains = host(world).domains
    domains[first(key).domain] = replace(domains[first(key).domain], **changes)


def stored(world: FakeWorld, key: DeploymentId, **changes: object) -> None:
    known = next(r for r in world.store.intent().instances if r.id == first(key).instance)
    world.store.save_instance(replace(known, **changes))


def wanted(world: FakeWorld, key: DeploymentId, **changes: object) -> None:
    known = world.store.intent().deployment(key)
    assert known is not None
    world.store.save_deployment(replace(known, **changes))


def without(world: FakeWorld, *files: str) -> None:
    for file in files:
        host(world).volumes.pop(file, None)


def no_pool(world: FakeWorld, _key: DeploymentId) -> None:
    host(world).has_pool = False
    host(world).volumes.clear()


def unstoppable(world: FakeWorld, key: DeploymentId) -> None:
    world.scripts[str(first(key).instance)] = Script(shutdown_s=None)


def half_swapped(world: FakeWorld, _key: DeploymentId) -> None:
    """The records are exchanged, and who did it was killed before HAProxy was told."""
    world.swap("hello")


def swapped(world: FakeWorld, key: DeploymentId) -> None:
    half_swapped(world, key)
    world.settle()


def busy_server(world: FakeWorld, key: DeploymentId) -> None:
    world.balancer.sessions[f"{key}.web.http", "web-0.g1"] = 3


def older(world: FakeWorld, key: DeploymentId) -> None:
    """A machine of an older generation that nobody took away, and files of one more."""
    old = replace(first(key), generation=7)
    host(world).domains[old.domain] = Domain(OWNER, "", machine=old)
    host(world).volumes[replace(first(key), generation=8).overlay] = Volume()


def no_machine(world: FakeWorld, key: DeploymentId) -> None:
    """A row of an instance of which there is nothing."""
    world.store.save_instance(record(InstanceId(key, "web", 77), version=0))


def no_role(world: FakeWorld, key: DeploymentId) -> None:
    """A row of an instance of a role that there is not."""
    world.store.save_instance(record(InstanceId(key, "ghost", 0), version=0))


BREAKS: dict[str, Break] = {
    "nothing": lambda _w, _k: None,
    "the network is undefined": lambda w, k: host(w).networks.pop(k.network),
    "the network is off": lambda w, k: host(w).networks.update(
        {k.network: replace(host(w).networks[k.network], active=False)}
    ),
    "a domain is undefined": lambda w, k: host(w).domains.pop(first(k).domain),
    "a domain is paused": lambda w, k: change(w, k, power=Power.PAUSED, why="user"),
    "a domain is off": lambda w, k: change(w, k, power=Power.OFF, why="crashed"),
    "a domain is transient": lambda w, k: change(w, k, is_persistent=False),
    "a domain has another name": lambda w, k: host(w).domains.update(mine=host(w).domains.pop(first(k).domain)),
    "the overlay is gone": lambda w, k: without(w, first(k).overlay),
    "the seed and the console are gone": lambda w, k: without(w, first(k).seed, first(k).console),
    "the volume is gone": lambda w, k: without(w, VolumeId(first(k).instance, "data").file),
    "the pool is gone": no_pool,
    "HAProxy is dead": lambda w, _k: w.balancer.kill(),
    "HAProxy is dead, and so is its file": lambda w, _k: w.balancer.stop(),
    "the VIPs are gone": lambda w, _k: w.balancer.vips.clear(),
    "a client does not go": busy_server,
    "a guest does not shut down": unstoppable,
    "a guest never answered": lambda w, k: w.scripts.update({str(first(k).instance): Script(agent_s=None)}),
    "a machine has failed": lambda w, k: stored(w, k, failure=Failure(Stage.SETUP, "broken", 1.0, is_final=True)),
    "a reboot was under way": lambda w, k: stored(w, k, reboot=1.0, farewell=Farewell(Act.REBOOT, 1.0, 2.0)),
    "an instance is stopped": lambda w, k: stored(w, k, wanted=Wanted.STOPPED),
    "it is paused": lambda w, k: wanted(w, k, paused=Pause(1.0)),
    "an upgrade was under way": lambda w, k: wanted(w, k, rollout=Rollout(1)),
    "older machines are left": older,
    "a row without a machine": no_machine,
    "a row without a role": no_role,
    "VIPs half exchanged": half_swapped,
    "VIPs exchanged": swapped,
}


def until_gone(world: FakeWorld, key: DeploymentId) -> None:
    """Run the loop as `down` does: until nothing of the deployment is known or left to be done."""
    with world.loop() as loop:
        for _turn in range(400):
            made = loop.tick()
            if not made.steps and key not in {found.id for found in made.deployments}:
                return
            world.clock.wait(max(made.requeue_s, 0.01))
    raise AssertionError(f"{key} is not gone: {made.steps} {made.deployments}")


@pytest.mark.parametrize(("slot", "with_volumes"), [("production", True), ("staging", False)])
@pytest.mark.parametrize("name", BREAKS)
def test_nothing_is_left_of_a_broken_deployment_and_the_other_slot_is_as_it_was(name, slot, with_volumes):
    world, key = made(slot)
    volumes = {VolumeId(InstanceId(key, "web", n), "data").file for n in range(2)}
    BREAKS[name](world, key)
    there = volumes & set(host(world).volumes)
    world.down(key, with_volumes=with_volumes)
    until_gone(world, key)
    left = {file for file in host(world).volumes if file.startswith(f"{key}.")}
    assert left == (set() if with_volumes else there)
    assert not [
        name for name in host(world).domains if (found := parse_machine(name)) and found.instance.deployment == key
    ]
    assert "mine" not in host(world).domains
    assert key.network not in host(world).networks
    assert not [backend for backend, _name in world.balancer.servers if backend.startswith(f"{key}.")]
    (other,) = world.store.intent().deployments
    assert other.id == key.other
    assert world.balancer.vips == {other.vip}
    assert {record.id.deployment for record in world.store.intent().instances} == {key.other}
    # The other slot is served as before, and the last to go takes everything with it.
    assert {name for backend, name in world.balancer.servers if backend.startswith(f"{key.other}.")}
    world.down(key.other, with_volumes=True)
    until_gone(world, key.other)
    assert (host(world).domains, host(world).networks) == ({}, {})
    assert (world.balancer.is_running, world.balancer.vips) == (False, set())


@pytest.mark.parametrize("lives", range(0, 56, 5))
def test_an_up_that_was_killed_anywhere_is_taken_down(lives):
    world = FakeWorld()
    key = world.up(WHAT, "staging")
    world.faults.lives = lives
    with contextlib.suppress(Killed):
        world.settle()
    world.faults.lives = None
    world.down(key, with_volumes=True)
    world.settle()
    assert (host(world).domains, host(world).networks, host(world).volumes) == ({}, {}, {})
    assert (world.balancer.is_running, world.balancer.vips) == (False, set())


def test_the_order_is_rotation_notice_domain_disks_network_vip_record():
    world, key = made("staging")
    world.faults.done.clear()
    world.down(key)
    world.settle()
    order = list(dict.fromkeys(name for name, subject in world.faults.done if "production" not in subject))
    ways = [
        "drain_server", "remove_server", "shut_down", "undefine_domain", "delete_volume", "forget_instance",
        "delete_network", "remove_vip", "forget_deployment",
    ]  # fmt: skip
    assert [name for name in order if name in ways] == ways


@pytest.mark.parametrize(("what", "said"), [("host", "local"), ("balancer", "HAProxy")])
def test_what_cannot_be_asked_is_waited_for_and_told(what, said):
    world, key = made("production")
    world.down(key)
    (world.balancer if what == "balancer" else host(world)).is_away = True
    with world.loop() as loop:
        for _turn in range(20):
            plan = loop.tick()
            world.clock.wait(0.5)
    reasons = [status.reason for status in plan.instances if status.record.id.deployment == key]
    reasons += [found.reason for found in plan.deployments if found.id == key]
    assert any(said in reason for reason in reasons), reasons
    (world.balancer if what == "balancer" else host(world)).is_away = False
    world.settle()
    assert [record.id for record in world.store.intent().deployments] == [key.other]


@pytest.mark.parametrize(("effect", "error"), [
    ("destroy_domain", HostAway), ("undefine_domain", HostAway), ("delete_volume", HostAway),
    ("delete_network", HostAway), ("remove_vip", BalancerAway), ("remove_server", BalancerAway),
    ("drain_server", BalancerAway), ("shut_down", HostAway), ("forget_instance", HostAway),
    ("forget_deployment", HostAway),
])  # fmt: skip
def test_a_step_that_does_not_work_at_first_is_done_again(effect, error):
    world, key = made("staging")
    world.scripts[str(first(key).instance)] = Script(shutdown_s=None)
    world.faults.broken[effect, ""] = [error("not now")] * 3
    world.down(key)
    world.settle()
    assert [record.id for record in world.store.intent().deployments] == [key.other]
