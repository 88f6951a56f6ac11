"""A store that is lost, rebuilt from the hosts: nothing is restarted for it, and all is as it was."""

from dataclasses import replace

import pytest

from orchestrator.engine import verbs
from orchestrator.engine.recover import copies, instances
from orchestrator.model.names import DeploymentCopy
from orchestrator.model.record import InstanceRecord
from orchestrator.model.spec import Service, Size
from orchestrator.model.world import HostSeen, Lease, Power
from orchestrator.render.records import load_deployment
from tests.fakes.build import HELLO, NOW, OWNER, deployment, role, service, web
from tests.fakes.host import Volume
from tests.fakes.invariants import violations
from tests.fakes.store import FakeStore
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import ALL, LARGER, anew, reboot, reimage, relocate, run_until_cut
from tests.unit.test_verbs import STOP, done, out_of_service
from tests.unit.test_volumes import contents, home, turns, write

DISRUPTIVE = ("shut_down", "destroy_domain", "start_domain", "define_domain", "undefine_domain", "create_overlay")
WEB_2 = service(role(instances=2, disks=ALL, stop=STOP))


def deployed(what: Service = WEB_2) -> FakeWorld:
    """At rest on two hosts."""
    world = FakeWorld("east", "west")
    world.up(what)
    world.step_by_step()
    return world


def lose_the_store(world: FakeWorld) -> None:
    """And rebuild it, as ``vmrole recover`` does."""
    world.store = FakeStore(OWNER, world.faults)
    hosts = {name: host.observe() for name, host in world.hosts.items()}
    bases = {file: volume.base for host in world.hosts.values() for file, volume in host.volumes.items()}
    for name, copy in copies(hosts.values()).values():
        with world.hosts[name].export_volume(copy.file) as pieces:
            record = replace(load_deployment(b"".join(pieces)), version=0)
        world.store.save_deployment(record)
        for instance in instances(record, hosts, OWNER, bases, world.clock.now()):
            world.store.save_instance(instance)
    world.faults.done.clear()


def told(record: InstanceRecord) -> tuple[object, ...]:
    """What must be as it was."""
    machine = (record.machine, record.generation, record.newest, record.place, record.volumes)
    return (record.id, record.host, record.dip, record.wanted, record.has_run, record.failure, *machine)


def all_of(world: FakeWorld) -> list[tuple[object, ...]]:
    return [told(record) for record in world.store.intent().instances]


def same(_world: FakeWorld) -> None:
    """Nothing happens before."""


def one_reimaged(world: FakeWorld) -> None:
    world.ask(reimage, "web-0")


def all_relocated(world: FakeWorld) -> None:
    world.ask(relocate)


def new_places(world: FakeWorld) -> None:
    world.ask(anew)


def rebooted(world: FakeWorld) -> None:
    world.ask(reboot)


def upgraded(world: FakeWorld) -> None:
    world.up(service(role(instances=2, disks=ALL, stop=STOP, image="debian-13")))


def grown(world: FakeWorld) -> None:
    world.up(service(role(instances=2, disks=LARGER, stop=STOP)))


def fewer(world: FakeWorld) -> None:
    world.up(service(role(instances=1, disks=ALL, stop=STOP)))


@pytest.mark.parametrize("before", [same, one_reimaged, all_relocated, new_places, rebooted, upgraded, grown, fewer])
def test_a_lost_store_costs_no_machine_its_run(before):
    world = deployed()
    before(world)
    world.step_by_step()
    wanted, deployments, serving = all_of(world), world.store.intent().deployments, world.serving()
    lose_the_store(world)
    assert all_of(world) == wanted
    world.step_by_step()
    assert all_of(world) == wanted
    assert [d.as_copied() for d in world.store.intent().deployments] == [d.as_copied() for d in deployments]
    assert done(world, *DISRUPTIVE, "drain_server", "remove_server") == []
    assert (world.serving(), violations(world), world.look().steps) == (serving, [], ())


def test_what_is_written_on_the_disks_is_still_there():
    world = deployed()
    write(world, "old")
    lose_the_store(world)
    world.step_by_step()
    assert set(contents(world).values()) == {"old"}


def test_a_change_goes_on_after_recovery_with_new_numbers():
    world = deployed()
    world.ask(reimage)
    world.step_by_step()
    lose_the_store(world)
    world.step_by_step()
    world.ask(reimage)
    world.step_by_step()
    assert [(r.generation, r.newest) for r in world.store.intent().instances] == [(3, 3), (3, 3)]


def halfway(world: FakeWorld, change: Service) -> None:
    """Run until the first instance of two has another generation."""
    world.up(change)
    with world.loop() as loop:
        while {r.generation for r in world.store.intent().instances} != {1, 2}:
            world.clock.wait(max(loop.tick().requeue_s, 0.01))


@pytest.mark.parametrize(
    "change",
    [
        service(role(instances=2, disks=ALL, stop=STOP, image="debian-13")),
        service(role(instances=2, disks=ALL, stop=STOP, size=Size(vcpus=2))),
    ],
)
def test_an_upgrade_that_was_under_way_is_completed(change):
    world = deployed()
    halfway(world, change)
    lose_the_store(world)
    assert sorted(record.generation for record in world.store.intent().instances) == [1, 2]
    world.step_by_step()
    machines = {record.machine for record in world.store.intent().instances}
    assert [(machine.size, machine.disks) for machine in machines] == [(change.roles[0].size, ALL)]
    assert all(record.generation > 1 for record in world.store.intent().instances)
    assert (violations(world), out_of_service(world)) == ([], set())


@pytest.mark.parametrize("effects", range(0, 120, 6))
def test_a_store_may_be_lost_at_any_moment_of_an_upgrade(effects):
    world = deployed()
    write(world, "old")
    upgraded(world)
    run_until_cut(world, effects)
    lose_the_store(world)
    world.step_by_step()
    made = world.look()
    assert [d.state for d in made.deployments] == ["ready"]
    assert (contents(world)["volume"], contents(world)["local"]) == ("old", "old")
    assert len(world.serving()) == 2


@pytest.mark.parametrize("act", [reimage, relocate, anew, reboot])
@pytest.mark.parametrize("effects", range(0, 60, 7))
def test_a_store_may_be_lost_at_any_moment_of_an_act(act, effects):
    world = deployed()
    write(world, "old")
    world.ask(act)
    run_until_cut(world, effects)
    lose_the_store(world)
    world.clock.pass_by(1)  # who had been asked to shut down has done so: nobody knows of it any more
    world.step_by_step()
    assert [d.state for d in world.look().deployments] == ["ready"]
    assert contents(world)["volume"] == "old"
    assert len({record.dip for record in world.store.intent().instances}) == 2


def test_a_machine_whose_domain_has_gone_is_defined_again_on_its_overlay():
    world = deployed()
    write(world, "old")
    before = all_of(world)
    world.hosts[world.record("web-0").host].domains.pop("hello.production.web-0.g1")
    lose_the_store(world)
    assert all_of(world) == before
    world.settle()
    assert done(world, "create_overlay", "define_domain", "start_domain") == [
        "define_domain web-0.g1", "start_domain web-0.g1",
    ]  # fmt: skip
    assert (contents(world)["overlay"], violations(world)) == ("old", [])


def test_a_machine_that_is_off_is_started():
    world = deployed()
    world.crash("hello.production.web-0")
    lose_the_store(world)
    world.settle()
    assert done(world, *DISRUPTIVE) == ["start_domain web-0.g1"]


def test_an_instance_of_which_nothing_is_left_is_made_anew_with_its_volume():
    world = deployed()
    write(world, "old")
    host = home(world)
    host.domains.pop("hello.production.web-0.g1")
    del host.volumes["hello.production.web-0.g1.overlay.qcow2"]
    lose_the_store(world)
    world.settle()
    assert (contents(world)["volume"], contents(world)["overlay"], world.record("web-0").host) == ("old", "", "east")


def test_a_volume_that_was_lost_before_the_store_was_is_not_noticed_but_made():
    world = deployed()
    world.crash("hello.production.web-0")
    del home(world).volumes["hello.production.web-0.data.volume.raw"]
    lose_the_store(world)
    world.settle()
    assert contents(world)["volume"] == ""


# --- copies


def test_a_copy_that_was_only_half_written_is_not_believed():
    world = deployed()
    record = world.store.intent().deployments[0]
    newest = DeploymentCopy(HELLO, record.revision + 1)
    for host in world.hosts.values():
        host.volumes[newest.file] = Volume(content='{"id": {"serv')
    lose_the_store(world)
    (found,) = world.store.intent().deployments
    assert found.as_copied() == record.as_copied()
    world.step_by_step()
    assert not [file for host in world.hosts.values() for file in host.volumes if file == newest.file]


def test_a_marker_without_its_file_is_not_believed():
    old, new = DeploymentCopy(HELLO, 1), DeploymentCopy(HELLO, 2)
    host = HostSeen("east", volumes=frozenset({old.file, old.marker, new.marker}))
    assert copies([host]) == {HELLO: ("east", old)}


def test_the_newest_whole_copy_of_all_hosts_is_believed():
    old, new = DeploymentCopy(HELLO, 2), DeploymentCopy(HELLO, 10)
    hosts = [
        HostSeen("east", volumes=frozenset({old.file, old.marker})),
        HostSeen("west", volumes=frozenset({new.file, new.marker})),
    ]
    assert copies(hosts) == copies(hosts[::-1]) == {HELLO: ("west", new)}


def test_nothing_is_found_where_nothing_is():
    assert copies([HostSeen("east", volumes=frozenset({"junk", "hello.production.r1.json"}))]) == {}
    assert instances(deployment(), {"local": HostSeen("local")}, OWNER, {}, NOW) == ()


def test_what_is_not_ours_is_not_recovered():
    world = deployed()
    host = home(world)
    name = "hello.production.web-0.g1"
    host.domains[name] = replace(host.domains[name], owner="somebody")
    del host.volumes["hello.production.web-0.g1.overlay.qcow2"]
    hosts = {n: h.observe() for n, h in world.hosts.items()}
    assert [r.id.name for r in instances(world.store.intent().deployments[0], hosts, OWNER, {}, NOW)] == ["web-1"]


def test_the_machine_that_runs_is_the_instance_s_whatever_else_is_there():
    world = deployed()
    world.ask(reimage, "web-0")
    world.step_by_step()
    world.ask(verbs.undo, "web-0")
    world.step_by_step()  # generation 1 runs, and the overlay of generation 2 is kept
    lose_the_store(world)
    world.step_by_step()
    assert (world.record("web-0").generation, world.record("web-0").newest) == (1, 2)
    assert done(world, *DISRUPTIVE) == []
    world.ask(reimage, "web-0")
    world.step_by_step()
    assert world.record("web-0").generation == 3


def test_of_machines_that_are_off_the_newest_that_is_defined_is_the_instance_s():
    volumes = frozenset({web(0, 1).overlay, web(0, 2).overlay, web(0, 3).overlay})
    world = deployed(service(role()))
    (domain,) = home(world).observe().domains.values()
    domains = {
        web(0, n).domain: replace(domain, name=web(0, n).domain, machine=web(0, n), power=Power.OFF) for n in (1, 2)
    }
    (found,) = instances(deployment(), {"local": HostSeen("local", volumes=volumes, domains=domains)}, OWNER, {}, NOW)
    assert (found.generation, found.newest) == (2, 3)


def test_no_two_instances_get_one_address():
    world = deployed(service(role(instances=2)))
    record = replace(deployment(service(role(instances=2))))
    net = next(iter(home(world).networks.values()))
    lease = Lease(web(1).instance.mac, "198.18.0.10", "web-1")
    volumes = frozenset({web(0).overlay, web(1).overlay})
    host = HostSeen("local", volumes=volumes, networks={net.name: replace(net, leases=frozenset({lease}))})
    found = instances(record, {"local": host}, OWNER, {}, NOW)
    assert len({instance.dip for instance in found}) == 2


# --- what recovery cannot know, and does not say


def outdated(world: FakeWorld) -> None:
    """Another image is asked for, and that is all that has happened yet."""
    world.up(service(role(disks=ALL, stop=STOP, image="debian-13")))
    run_until_cut(world, 14)
    assert DeploymentCopy(HELLO, 2).marker in home(world).volumes
    assert set(home(world).domains) == {"hello.production.web-0.g1"}


def test_an_outdated_machine_that_libvirt_forgets_when_it_is_off_is_upgraded_too():
    world = deployed(service(role(disks=ALL, stop=STOP)))
    outdated(world)
    (name,) = home(world).domains
    home(world).domains[name] = replace(home(world).domains[name], is_persistent=False)
    lose_the_store(world)
    turns(world, 60)
    # The disks of a second generation had been made already, so the next one is the third.
    assert world.serving() == {"web-0.g3"}


def test_an_outdated_overlay_whose_domain_has_gone_is_not_taken_for_a_new_one():
    world = deployed(service(role(disks=ALL, stop=STOP)))
    outdated(world)
    host = home(world)
    host.domains.clear()
    for file in [file for file in host.volumes if ".web-0.g2." in file]:
        del host.volumes[file]
    lose_the_store(world)
    world.settle()
    found = world.record("web-0")
    assert host.volumes[f"{found.id}.g{found.generation}.overlay.qcow2"].base == found.machine.digest


def test_growth_that_was_still_to_be_done_is_done_after_recovery():
    world = deployed(service(role(disks=ALL, stop=STOP)))
    world.up(service(role(disks=LARGER, stop=STOP)))
    run_until_cut(world, 3)
    assert DeploymentCopy(HELLO, 2).marker in home(world).volumes
    lose_the_store(world)
    world.settle()
    assert home(world).volumes["hello.production.web-0.data.volume.raw"].size_bytes == 128 * 1024**2
