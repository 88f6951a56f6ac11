"""What each act does to each disk of an instance, to its numbers and its place; and volumes as the hosts have them."""

from dataclasses import replace

import pytest

from orchestrator.engine import verbs
from orchestrator.engine.status import State
from orchestrator.engine.volumes import found, parse
from orchestrator.model.names import VolumeId
from orchestrator.model.world import DomainSeen, HostSeen, Power
from tests.fakes.build import HELLO, OWNER, WEB, role, service
from tests.fakes.host import Domain
from tests.fakes.invariants import violations
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import ALL, anew, reboot, reimage, relocate, start
from tests.unit.test_verbs import ACTS, STOP, done, ready


def contents(world: FakeWorld, name: str = "web-0") -> dict[str, str]:
    """What is written on each disk of an instance's machine, by its kind; "" is a new one."""
    found = world.record(name)
    host = world.hosts[found.host]
    (machine,) = (d for n, d in host.domains.items() if n == f"{found.id}.g{found.generation}")
    kinds = {"overlay.qcow2": "overlay", "local.raw": "local", "clean.raw": "clean", "volume.raw": "volume"}
    return {kind: host.volumes[f].content for f in machine.files for end, kind in kinds.items() if f.endswith(end)}


def write(world: FakeWorld, text: str, name: str = "web-0") -> None:
    """The guest writes on every disk that it has."""
    found = world.record(name)
    host = world.hosts[found.host]
    for file in host.domains[f"{found.id}.g{found.generation}"].files:
        if not file.startswith("base."):
            host.volumes[file] = replace(host.volumes[file], content=text)


# --- numbers, names and disks


def test_a_reboot_counts_boots_and_nothing_else():
    world = ready()
    before = world.record("web-0")
    world.ask(reboot)
    world.step_by_step()
    after = world.record("web-0")
    assert (after.boot, after.generation, after.newest) == (before.boot + 1, 1, 1)
    assert (after.id.mac, after.dip, after.host, after.place) == (before.id.mac, before.dip, before.host, before.place)
    assert (after.reboot, after.farewell) == (None, None)


def test_a_reimage_is_a_new_generation_in_the_same_place():
    world = ready()
    before = world.record("web-0")
    world.ask(reimage)
    world.step_by_step()
    after = world.record("web-0")
    assert (after.generation, after.newest, after.boot) == (2, 2, 1)
    assert (after.dip, after.host, after.place) == (before.dip, before.host, before.place)
    assert (after.next, after.kept.generation) == (None, 1)


def test_undo_is_the_old_generation_with_its_own_count_of_boots():
    world = ready()
    world.ask(reboot)
    world.step_by_step()
    world.ask(reimage)
    world.step_by_step()
    world.ask(verbs.undo)
    world.step_by_step()
    after = world.record("web-0")
    assert (after.generation, after.newest, after.boot) == (1, 2, 3)
    world.ask(reimage)
    world.step_by_step()
    assert (world.record("web-0").generation, world.record("web-0").newest) == (3, 3)


def test_relocation_is_a_new_generation_in_another_place():
    world = ready()
    before = world.record("web-0")
    world.ask(relocate)
    world.step_by_step()
    after = world.record("web-0")
    assert (before.host, after.host, after.dip) == ("east", "west", "198.19.0.100")
    assert (after.generation, after.newest, after.place, after.kept) == (2, 2, before.place + 1, None)
    assert after.id.mac == before.id.mac
    assert "hello.production.web-0.g1" not in world.hosts["east"].domains


def test_a_new_place_on_the_same_host_keeps_host_and_dip():
    world = ready()
    before = world.record("web-0")
    world.ask(anew)
    world.step_by_step()
    after = world.record("web-0")
    assert (after.host, after.dip, after.place) == (before.host, before.dip, before.place + 1)


TABLE = {  # the contract, cell by cell; "" is new (from the image, or empty)
    "reboot": {"overlay": "old", "local": "old", "clean": "old", "volume": "old"},
    "reimage": {"overlay": "", "local": "old", "clean": "", "volume": "old"},
    "relocate": {"overlay": "", "local": "", "clean": "", "volume": "old"},
    "anew": {"overlay": "", "local": "", "clean": "", "volume": "old"},
}


@pytest.mark.parametrize("name", TABLE)
def test_each_act_does_to_each_disk_what_the_contract_says(name):
    world = ready()
    write(world, "old")
    world.ask(ACTS[name])
    world.step_by_step()
    assert contents(world) == TABLE[name]


@pytest.mark.parametrize("again", [reboot, reimage, relocate])
def test_the_contract_holds_any_number_of_times(again):
    world = ready()
    for time in ("first", "second", "third"):
        write(world, time)
        world.ask(again)
        world.step_by_step()
        assert contents(world)["volume"] == time
    assert violations(world) == []


def test_stop_and_start_keep_every_disk():
    world = ready()
    write(world, "old")
    world.ask(verbs.stop)
    world.step_by_step()
    world.ask(start)
    world.step_by_step()
    assert set(contents(world).values()) == {"old"}


def test_undo_brings_back_the_overlay_as_it_was_left_and_volumes_as_they_are_now():
    world = ready()
    write(world, "first")
    world.ask(reimage)
    world.step_by_step()
    write(world, "second")
    world.ask(verbs.undo)
    world.step_by_step()
    assert contents(world) == {"overlay": "first", "local": "second", "clean": "first", "volume": "second"}
    world.ask(verbs.undo)
    world.step_by_step()
    assert (contents(world)["overlay"], world.record("web-0").generation) == ("second", 2)


def test_the_fate_of_a_deleted_instance_s_disks():
    world = ready()
    write(world, "old")
    host = world.hosts[world.record("web-0").host]
    world.down(HELLO)
    world.step_by_step()
    assert {name: volume.content for name, volume in host.volumes.items()} == {
        "hello.production.web-0.data.volume.raw": "old"
    }
    world.up(service(role(disks=ALL, stop=STOP)))
    world.step_by_step()
    assert contents(world) == {"overlay": "", "local": "", "clean": "", "volume": "old"}


# --- what is kept for a way back


def test_the_old_overlay_is_kept_for_a_while_and_then_dropped():
    world = ready()
    world.ask(reimage)
    world.step_by_step()
    host, old = world.hosts[world.record("web-0").host], "hello.production.web-0.g1.overlay.qcow2"
    world.clock.pass_by(STOP.keep_s - 5)
    world.settle()
    assert old in host.volumes
    world.clock.pass_by(6)
    world.settle()
    assert (old in host.volumes, world.record("web-0").kept) == (False, None)
    assert "hello.production.web-0.g1.temp.clean.raw" not in host.volumes


def test_the_old_overlay_is_dropped_early_when_its_host_is_full():
    world = ready()
    world.ask(reimage)
    world.step_by_step()
    host = world.hosts[world.record("web-0").host]
    host.free_bytes = 1024**2
    world.settle()
    assert (host.volumes.get("hello.production.web-0.g1.overlay.qcow2"), world.record("web-0").kept) == (None, None)


def test_nothing_is_kept_where_nothing_is_to_be_kept():
    world = FakeWorld()
    world.up(service(role(stop=replace(STOP, keep_s=0.0))))
    world.step_by_step()
    world.ask(reimage)
    world.step_by_step()
    assert (world.record("web-0").kept, "hello.production.web-0.g1.overlay.qcow2" in world.hosts["local"].volumes) == (
        None,
        False,
    )


# --- more room


def test_more_room_needs_no_new_machine():
    world = ready()
    write(world, "old")
    larger = tuple(replace(disk, size_mib=128) for disk in ALL)
    world.up(service(role(disks=larger, stop=STOP)))
    world.step_by_step()
    host = world.hosts[world.record("web-0").host]
    assert {v.size_bytes // 1024**2 for n, v in host.volumes.items() if n.endswith(".raw")} == {128}
    assert (world.record("web-0").generation, set(contents(world).values())) == (1, {"old"})
    assert done(world, "shut_down", "destroy_domain", "start_domain") == []


LARGER = service(role(disks=tuple(replace(disk, size_mib=128) for disk in ALL), stop=STOP))
FILE = "hello.production.web-0.data.volume.raw"


def home(world: FakeWorld):
    """The host of web-0."""
    return world.hosts[world.record("web-0").host]


def turns(world: FakeWorld, count: int):
    """So many turns of the loop, and the plan after them; for worlds that do not come to rest."""
    with world.loop() as loop:
        for _turn in range(count):
            world.clock.wait(max(loop.tick().requeue_s, 0.01))
    return world.look()


def test_a_stopped_instance_s_disks_grow_while_it_is_off():
    world = ready()
    world.ask(verbs.stop)
    world.settle()
    world.up(LARGER)
    world.settle()
    assert home(world).volumes[FILE].size_bytes == 128 * 1024**2
    assert world.record("web-0").machine.disks == LARGER.roles[0].disks


def test_a_disk_does_not_grow_under_a_paused_machine():
    world = ready()
    (name,) = home(world).domains
    home(world).domains[name] = replace(home(world).domains[name], power=Power.PAUSED)
    world.up(LARGER)
    world.settle()
    assert home(world).volumes[FILE].size_bytes == 128 * 1024**2


def test_a_disk_does_not_grow_under_a_stranger():
    world = ready()
    world.ask(verbs.stop)
    world.settle()
    home(world).domains["desktop"] = Domain("", "", Power.RUNNING, files=frozenset({FILE}))
    world.up(LARGER)
    turns(world, 5)
    assert home(world).volumes[FILE].size_bytes == 64 * 1024**2
    del home(world).domains["desktop"]
    world.settle()
    assert home(world).volumes[FILE].size_bytes == 128 * 1024**2


def test_growth_is_not_forgotten_while_a_host_cannot_be_asked():
    world = ready()
    host = home(world)
    world.up(LARGER)
    host.is_away = True
    turns(world, 3)
    host.is_away = False
    world.settle()
    assert host.volumes[FILE].size_bytes == 128 * 1024**2


# --- a volume that has gone


def test_a_volume_that_has_gone_is_not_made_anew_and_its_instance_says_so():
    world = ready()
    del home(world).volumes[FILE]
    world.crash("hello.production.web-0")
    made = turns(world, 10)
    (status,) = made.instances
    assert status.state is State.UNHEALTHY
    assert "volume hello/web-0/data has gone from every host" in status.reason
    assert (FILE in home(world).volumes, done(world, "create_disk", "start_domain")) == (False, [])


@pytest.mark.parametrize("act", ["reimage", "relocate", "anew"])
def test_a_machine_without_its_volume_is_left_running_until_the_next_one_could_have_it(act):
    world = ready()
    del home(world).volumes[FILE]
    world.ask(ACTS[act])
    (status,) = turns(world, 10).instances
    assert "volume hello/web-0/data has gone from every host" in status.reason
    assert done(world, "drain_server", "shut_down") == []


def test_a_machine_that_runs_on_a_deleted_volume_says_so():
    world = ready()
    del home(world).volumes[FILE]
    (status,) = turns(world, 3).instances
    assert "volume hello/web-0/data" in status.reason


def test_a_volume_that_is_put_back_is_used_again():
    world = ready()
    kept = home(world).volumes.pop(FILE)
    world.crash("hello.production.web-0")
    turns(world, 5)
    home(world).volumes[FILE] = replace(kept, content="back")
    world.settle()
    assert (world.serving(), contents(world)["volume"]) == ({"web-0.g1"}, "back")


@pytest.mark.parametrize("away", ["east", "west"])
def test_no_volume_is_made_while_a_host_cannot_be_asked(away):
    world = FakeWorld("east", "west")
    world.up(service(role(disks=ALL)))
    world.hosts[away].is_away = True
    turns(world, 5)
    assert not [file for host in world.hosts.values() for file in host.volumes if ".volume." in file]
    world.hosts[away].is_away = False
    world.settle()
    assert world.serving() == {"web-0.g1"}


# --- as the hosts have them

KEY = VolumeId(WEB, "data")
SNAPSHOT = (KEY.snapshot("monday"), KEY.snapshot_marker("monday"))


def seen(*names: str, **changes: object) -> HostSeen:
    return replace(HostSeen("local", has_pool=True), volumes=frozenset(names), **changes)


def test_a_volume_is_found_with_its_size_and_its_whole_snapshots():
    host = seen(KEY.file, *SNAPSHOT, KEY.snapshot("half"), "hello.production.web-0.cache.p1.local.raw", "junk.raw")
    (volume,) = found([host], {"local": {KEY.file: (64, 3)}})
    assert (volume.id, volume.host, volume.size_bytes, volume.used_bytes) == (KEY, "local", 64, 3)
    assert (volume.snapshots, volume.names, volume.is_whole) == ((("monday", "local"),), ("monday",), True)


@pytest.mark.parametrize("names", [(KEY.file, KEY.coming), (KEY.coming,)])
def test_a_volume_that_is_being_written_is_not_whole(names):
    assert [volume.is_whole for volume in found([seen(*names)], {})] == [False]


@pytest.mark.parametrize(("power", "expected"), [(Power.RUNNING, True), (Power.PAUSED, True), (Power.OFF, False)])
def test_a_volume_is_in_use_while_any_domain_that_has_it_is_on(power, expected):
    domain = DomainSeen("whatever", power, OWNER, files=frozenset({KEY.file}))
    (volume,) = found([seen(KEY.file, domains={"whatever": domain})], {})
    assert (volume.user, volume.is_in_use) == (domain, expected)


def test_a_volume_is_told_once_wherever_its_parts_are():
    other = VolumeId(replace(WEB, ordinal=1), "data")
    east = replace(seen(other.file, *SNAPSHOT), name="east")
    west = replace(seen(KEY.file, KEY.coming), name="west")
    mine, its = found([east, west], {})
    assert (mine.id, mine.host, mine.snapshots, mine.is_whole) == (KEY, "west", (("monday", "east"),), False)
    assert (its.id, its.host, its.is_whole) == (other, "east", True)


def test_of_two_files_of_a_volume_the_whole_one_counts():
    half, whole = replace(seen(KEY.file, KEY.coming), name="a"), replace(seen(KEY.file), name="b")
    (volume,) = found([half, whole], {})
    assert (volume.host, volume.is_whole) == ("b", True)


def test_snapshots_of_a_volume_that_is_gone_are_still_found():
    (volume,) = found([seen(*SNAPSHOT)], {})
    assert (volume.host, volume.is_whole, volume.names) == ("", False, ("monday",))


def test_what_vouches_for_a_file_is_deleted_before_it():
    (volume,) = found([seen(KEY.file, KEY.coming, *SNAPSHOT)], {})
    expected = (KEY.snapshot_marker("monday"), KEY.snapshot("monday"), KEY.file, KEY.coming)
    assert volume.files == tuple(("local", file) for file in expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hello/web-0/data", KEY),
        ("hello/web-0", None),
        ("hello/web-0/", None),
        ("hello/web/data", None),
        ("hello/web-0/data/x", None),
        ("Hello/web-0/data", None),
        ("", None),
    ],
)
def test_a_volume_s_name_as_people_say_it(text, expected):
    assert parse(text, "production") == expected
