"""Who there should be, where each lives, and whose turn it is to be made anew."""

from ipaddress import IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.members import Member, free_dip, members, next_to_renew, renew
from orchestrator.errors import Refused
from orchestrator.model.names import InstanceId
from orchestrator.model.record import Timeline, Wanted
from orchestrator.model.spec import MachineSpec, Setup, Size
from tests.fakes.build import DIGEST, HELLO, NOW, READY, deployment, record, role, service, web

OLD, NEW = MachineSpec(DIGEST, Size(), Setup()), MachineSpec(DIGEST, Size(2), Setup())
SUBNETS = {"east": IPv4Network("198.18.0.0/24"), "west": IPv4Network("198.19.0.0/24")}


def test_new_members_are_spread_over_the_hosts():
    made = members(deployment(service(role(instances=5)), subnets=SUBNETS), (), ["east", "west"], NOW)
    assert [r.host for r in made] == ["east", "west", "east", "west", "east"]
    assert [r.dip for r in made] == ["198.18.0.10", "198.19.0.10", "198.18.0.11", "198.19.0.11", "198.18.0.12"]
    assert [r.id.name for r in made] == [f"web-{n}" for n in range(5)]


def test_every_role_is_spread_not_only_the_whole():
    wanted = service(role("a", 1), role("b", 2))
    made = members(deployment(wanted, subnets=SUBNETS), (), ["east", "west"], NOW)
    assert {r.host for r in made if r.id.role == "b"} == {"east", "west"}


def test_members_stay_where_they_are():
    present = [record(web(n).instance, host="west", dip=f"198.19.0.{20 + n}") for n in range(2)]
    made = members(deployment(service(role(instances=3)), subnets=SUBNETS), present, ["east", "west"], NOW)
    assert list(made[:2]) == present
    assert (made[2].host, made[2].dip) == ("east", "198.18.0.10")


def test_those_too_many_are_marked_and_keep_their_address():
    present = [record(web(n).instance) for n in range(3)]
    made = members(deployment(service(role(instances=1))), present, ["local"], NOW)
    assert [(r.id.ordinal, r.wanted) for r in made] == [(0, Wanted.UP), (1, Wanted.GONE), (2, Wanted.GONE)]
    assert [r.dip for r in made] == [r.dip for r in present]


def test_an_address_is_free_only_when_its_member_is_gone():
    leaving = record(InstanceId(HELLO, "old", 0), dip="198.18.0.10")
    made = members(deployment(), [leaving], ["local"], NOW)
    assert [r.dip for r in made] == ["198.18.0.10", "198.18.0.11"]


def test_nobody_is_wanted_after_down():
    made = members(deployment(wanted=Wanted.GONE), [record()], ["local"], NOW)
    assert [r.wanted for r in made] == [Wanted.GONE]


def test_nobody_new_is_placed_while_no_host_answers():
    assert members(deployment(), (), [], NOW) == ()


def test_a_full_subnet_is_refused_with_the_limit():
    taken = {f"198.18.0.{n}" for n in range(256)}
    with pytest.raises(Refused, match="no address left") as caught:
        free_dip(IPv4Network("198.18.0.0/24"), taken)
    assert "245 instances" in caught.value.hint
    assert free_dip(IPv4Network("198.18.0.0/24"), taken - {"198.18.0.254"}) == "198.18.0.254"


MEMBERS = st.lists(st.tuples(st.booleans(), st.booleans(), st.sampled_from(Wanted)), max_size=12).map(
    lambda rows: [
        Member(record(web(n).instance, machine=OLD if is_old else NEW, wanted=wanted), NEW, is_ready)
        for n, (is_old, is_ready, wanted) in enumerate(rows)
    ]
)


@given(MEMBERS, st.integers(1, 5))
def test_no_more_than_max_unavailable_are_taken_from_service(role_, most):
    chosen = set(next_to_renew(role_, most))
    wanted = [m for m in role_ if m.record.wanted is Wanted.UP]
    taken = [m for m in wanted if m.is_ready and m.record.id in chosen]
    down_already = [m for m in wanted if not m.is_ready]
    assert len(taken) <= max(0, most - len(down_already))


@given(MEMBERS, st.integers(1, 5))
def test_only_outdated_ones_that_are_wanted_are_made_anew(role_, most):
    chosen = set(next_to_renew(role_, most))
    outdated = {m.record.id for m in role_ if m.record.machine != NEW and m.record.wanted is Wanted.UP}
    assert chosen <= outdated
    assert {m.record.id for m in role_ if m.record.id in outdated and not m.is_ready} <= chosen


@given(MEMBERS)
def test_an_upgrade_always_goes_on_when_all_serve(role_):
    serving = [Member(m.record, m.desired, True) for m in role_ if m.record.wanted is Wanted.UP]
    outdated = [m for m in serving if m.record.machine != NEW]
    assert bool(next_to_renew(serving, 1)) == bool(outdated)


def test_a_new_generation_starts_from_nothing_but_who_it_is():
    old = record(timeline=READY, boot=7, boot_id="x", starts=2, generation=4)
    new = renew(old, NEW, timeout_s=60, now=NOW + 5)
    assert (new.id, new.host, new.dip, new.version) == (old.id, old.host, old.dip, old.version)
    assert (new.generation, new.machine, new.timeline) == (5, NEW, Timeline(NOW + 5))
    assert (new.boot, new.boot_id, new.starts, new.deadline) == (1, "", 0, NOW + 65)
