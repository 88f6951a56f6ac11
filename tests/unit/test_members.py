"""Who there should be, where each lives, and whose turn it is to be made anew."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.members import Member, free_dip, members, moved, succeed, successor, turns, undone
from orchestrator.errors import Refused
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import InstanceId, VolumeId
from orchestrator.model.record import Act, Kept, Timeline, Wanted
from orchestrator.model.setup import Setup
from orchestrator.model.spec import Disk, DiskKind, Size
from orchestrator.model.world import HostSeen, NetworkSeen
from tests.fakes.build import DIGEST, HELLO, NOW, OWNER, READY, deployment, record, role, service, web
from tests.fakes.world import FakeWorld

OLD, NEW = MachineSpec(DIGEST, Size(), Setup()), MachineSpec(DIGEST, Size(2), Setup())
HOSTS = [HostSeen("east"), HostSeen("west")]
LOCAL, AWAY = HostSeen("local"), HostSeen("local", problem="away")
DATA = Disk("data", DiskKind.VOLUME, 64, "/srv")
SUBNETS = {"east": IPv4Network("198.18.0.0/24"), "west": IPv4Network("198.19.0.0/24")}


def test_new_members_are_spread_over_the_hosts():
    made = members(deployment(service(role(instances=5)), subnets=SUBNETS), (), HOSTS, NOW)
    assert [r.host for r in made] == ["east", "west", "east", "west", "east"]
    assert [r.dip for r in made] == ["198.18.0.10", "198.19.0.10", "198.18.0.11", "198.19.0.11", "198.18.0.12"]
    assert [r.id.name for r in made] == [f"web-{n}" for n in range(5)]


def test_every_role_is_spread_not_only_the_whole():
    wanted = service(role("a", 1), role("b", 2))
    made = members(deployment(wanted, subnets=SUBNETS), (), HOSTS, NOW)
    assert {r.host for r in made if r.id.role == "b"} == {"east", "west"}


def test_members_stay_where_they_are():
    present = [record(web(n).instance, host="west", dip=f"198.19.0.{20 + n}") for n in range(2)]
    made = members(deployment(service(role(instances=3)), subnets=SUBNETS), present, HOSTS, NOW)
    assert list(made[:2]) == present
    assert (made[2].host, made[2].dip) == ("east", "198.18.0.10")


def test_those_too_many_are_marked_and_keep_their_address():
    present = [record(web(n).instance) for n in range(3)]
    made = members(deployment(service(role(instances=1))), present, [LOCAL], NOW)
    assert [(r.id.ordinal, r.wanted) for r in made] == [(0, Wanted.UP), (1, Wanted.GONE), (2, Wanted.GONE)]
    assert [r.dip for r in made] == [r.dip for r in present]


def test_an_address_is_free_only_when_its_member_is_gone():
    leaving = record(InstanceId(HELLO, "old", 0), dip="198.18.0.10")
    made = members(deployment(), [leaving], [LOCAL], NOW)
    assert [r.dip for r in made] == ["198.18.0.10", "198.18.0.11"]


def test_nobody_is_wanted_after_down():
    made = members(deployment(wanted=Wanted.GONE), [record()], [LOCAL], NOW)
    assert [r.wanted for r in made] == [Wanted.GONE]


def test_nobody_new_is_placed_while_no_host_answers():
    assert members(deployment(), (), [AWAY], NOW) == ()


def test_a_full_subnet_is_refused_with_the_limit():
    taken = {f"198.18.0.{n}" for n in range(256)}
    with pytest.raises(Refused, match="no address left") as caught:
        free_dip(IPv4Network("198.18.0.0/24"), taken)
    assert "245 instances" in caught.value.hint
    assert free_dip(IPv4Network("198.18.0.0/24"), taken - {"198.18.0.254"}) == "198.18.0.254"


def test_an_instance_returns_to_the_host_that_has_its_volume():
    with_volume = deployment(service(role(instances=2, disks=(DATA,))), subnets=SUBNETS)
    west = replace(HOSTS[1], volumes=frozenset({VolumeId(web(0).instance, "data").file}))
    made = members(with_volume, (), [HOSTS[0], west], NOW)
    assert [r.host for r in made] == ["west", "east"]


def test_an_instance_with_volumes_is_put_nowhere_while_a_host_may_have_them():
    with_volume = deployment(service(role(disks=(DATA,))), subnets=SUBNETS)
    assert members(with_volume, (), [HOSTS[0], replace(HOSTS[1], problem="away")], NOW) == ()
    assert len(members(deployment(subnets=SUBNETS), (), [HOSTS[0], replace(HOSTS[1], problem="away")], NOW)) == 1


MEMBERS = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=12).map(
    lambda rows: [Member(web(n).instance, *row) for n, row in enumerate(rows)]
)


@given(MEMBERS, st.integers(1, 5))
def test_no_more_than_max_unavailable_are_taken_from_service(role_, most):
    chosen = set(turns(role_, most))
    taken = [m for m in role_ if m.is_serving and m.id in chosen]
    away_already = [m for m in role_ if m.counts and not m.is_serving]
    assert len(taken) <= max(0, most - len(away_already))


@given(MEMBERS, st.integers(1, 5))
def test_only_those_that_want_a_turn_get_one_and_idle_ones_at_once(role_, most):
    chosen = set(turns(role_, most))
    assert chosen <= {m.id for m in role_ if m.wants_turn}
    assert {m.id for m in role_ if m.wants_turn and not m.is_serving} <= chosen


@given(MEMBERS)
def test_it_always_goes_on_when_all_serve(role_):
    serving = [replace(m, is_serving=True) for m in role_]
    assert bool(turns(serving, 1)) == any(m.wants_turn for m in serving)


def test_a_new_generation_starts_from_nothing_but_who_it_is():
    old = record(timeline=READY, boot=7, boot_id="x", starts=2, generation=4, newest=4, has_run=True)
    asked = successor(old, Act.REIMAGE, NEW, "asked for")
    assert (asked.generation, asked.next.generation, asked.newest) == (4, 5, 5)
    new = succeed(asked, asked.next, timeout_s=60, keep=True, now=NOW + 5)
    assert (new.id, new.host, new.dip, new.version, new.place) == (old.id, old.host, old.dip, old.version, old.place)
    assert (new.generation, new.machine, new.timeline) == (5, NEW, Timeline(NOW + 5))
    assert (new.boot, new.boot_id, new.starts, new.deadline, new.has_run) == (1, "", 0, NOW + 65, False)
    assert new.kept == Kept(4, old.machine, 7)


def test_the_way_back_is_the_old_machine_and_can_itself_be_undone():
    old = record(timeline=READY, boot=7, boot_id="x", has_run=True)
    asked = successor(old, Act.REIMAGE, NEW, "asked for")
    new = replace(succeed(asked, asked.next, timeout_s=60, keep=True, now=NOW), has_run=True)
    wish = undone(new, new.kept)
    back = succeed(wish, wish.next, timeout_s=60, keep=True, now=NOW)
    assert (back.generation, back.machine, back.boot, back.has_run, back.newest) == (1, OLD, 7, True, 2)
    assert back.kept.generation == 2


def test_nothing_is_kept_of_a_machine_that_moves():
    old = record(timeline=READY, has_run=True)
    wish = moved(old, OLD, "west", "198.19.0.10")
    new = succeed(wish, wish.next, timeout_s=60, keep=True, now=NOW)
    assert (new.host, new.dip, new.place, new.kept) == ("west", "198.19.0.10", 2, None)


def test_an_address_that_a_machine_that_is_gone_still_has_by_dhcp_is_nobodys():
    gone, key = InstanceId(HELLO, "ops", 0), InstanceId(HELLO, "web", 0)
    network = NetworkSeen(HELLO.network, True, OWNER, None, held={"198.18.0.10": gone.mac, "198.18.0.11": key.mac})
    host = HostSeen("local", networks={HELLO.network: network})
    (made,) = members(deployment(), (), [host], NOW)
    assert made.dip == "198.18.0.11"  # its own it gets again
    assert free_dip(IPv4Network("198.18.0.0/28"), set(), {f"198.18.0.{n}" for n in range(10, 15)}) == "198.18.0.10"


def test_a_role_that_goes_leaves_its_addresses_to_nobody_for_a_while():
    world = FakeWorld()
    world.up(service(role(instances=2), role("ops", endpoints=())))
    world.settle()
    world.up(service(role(instances=2), role("aux", endpoints=())))
    world.settle()
    world.up(service(role(instances=3), role("aux", endpoints=())))
    world.settle()
    assert sorted(world.record(name).dip for name in ("web-0", "web-1", "web-2", "aux-0")) == [
        f"198.18.0.{n}" for n in (10, 11, 13, 14)
    ]
