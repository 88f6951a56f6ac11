"""Which instances a role has once somebody asks for more or fewer of them."""

from dataclasses import replace

import pytest

from orchestrator.engine.deploy import deployed, withdrawn
from orchestrator.engine.members import members
from orchestrator.engine.scaling import chosen, scaled
from orchestrator.errors import UserError
from orchestrator.model.record import Intent
from orchestrator.model.world import HostSeen
from orchestrator.render.records import dump_deployment, load_deployment
from tests.fakes.build import HELLO, NOW, OWNER, SSH, deployment, role, service

FOUR = deployment(service(role(instances=4)))


def up(known, instances, **changes):
    """The deployment after `up` of a file with so many instances."""
    wish = {"digests": known.digests, "vip": known.vip, "subnets": known.subnets}
    return deployed(Intent(OWNER, (known,)), HELLO, service(role(instances=instances, **changes)), **wish)


def test_another_number_of_instances_is_another_revision():
    known = replace(FOUR, version=3)
    found = scaled(known, "web", 6)
    assert (found.count("web"), found.revision, found.version) == (6, 2, 3)
    assert found.service == known.service  # what the file says stays
    assert scaled(known, "web", 4) is known


def test_the_highest_go_unless_others_are_told():
    assert scaled(FOUR, "web", 2).ordinals("web") == (0, 1)
    assert scaled(FOUR, "web", 3, ["web-1"]).ordinals("web") == (0, 2, 3)
    assert scaled(FOUR, "web", 1, ["web-0", "web-1"]).ordinals("web") == (2,)


def test_names_that_went_come_back_first():
    fewer = scaled(FOUR, "web", 2, ["web-1", "web-0"])
    assert (fewer.ordinals("web"), fewer.left_out) == ((2, 3), {"web": (0, 1)})
    assert scaled(fewer, "web", 3).ordinals("web") == (0, 2, 3)
    assert scaled(fewer, "web", 4) == replace(FOUR, revision=3, asked=1)
    assert scaled(fewer, "web", 5).ordinals("web") == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("count", "remove", "said"),
    [
        (3, ["web-4"], "no instance web-4 of role web; it has web-0, web-1, web-2, web-3"),
        (3, ["db-0"], "no instance db-0 of role web"),
        (3, ["web-01"], "no instance web-01 of role web"),
        (3, ["web-0", "web-1"], "2 instances of web are left without web-0, web-1, not 3"),
        (4, ["web-0"], "3 instances of web are left without web-0, not 4"),
    ],
)
def test_what_cannot_be_removed(count, remove, said):
    with pytest.raises(UserError, match=said):
        scaled(FOUR, "web", count, remove)


def test_the_same_instance_told_twice_goes_once():
    assert scaled(FOUR, "web", 3, ["web-1", "web-1"]).ordinals("web") == (0, 2, 3)


def test_one_that_went_already_is_not_there():
    with pytest.raises(UserError, match="no instance web-1 of role web; it has web-0, web-2, web-3"):
        scaled(scaled(FOUR, "web", 3, ["web-1"]), "web", 2, ["web-1"])


def test_a_role_that_is_not_there_cannot_be_scaled():
    with pytest.raises(UserError, match="hello has no role db; known: web"):
        scaled(deployment(), "db", 2)


def test_every_instance_has_its_port():
    known = deployment(service(role(instances=2, endpoints=(replace(SSH, ports=(9100, 9101)),))))
    with pytest.raises(UserError, match="2 ports, too few for 3 instances"):
        scaled(known, "web", 3)


def test_up_asks_for_what_the_file_says_and_leaves_whom_it_can():
    fewer = scaled(FOUR, "web", 3, ["web-0"])
    assert up(fewer, 4).ordinals("web") == (0, 1, 2, 3)
    assert up(fewer, 3).ordinals("web") == (1, 2, 3)
    assert up(fewer, 2).ordinals("web") == (1, 2)
    assert up(scaled(FOUR, "web", 9), 4).count("web") == 4


def test_up_of_the_file_that_made_it_changes_nothing():
    again = up(up(scaled(FOUR, "web", 3, ["web-0"]), 3), 3)
    assert up(again, 3) == again


def test_up_gives_up_an_instance_for_which_the_file_has_no_port():
    fewer = scaled(FOUR, "web", 2, ["web-0", "web-1"])
    assert up(fewer, 2, endpoints=(replace(SSH, ports=(9100, 9102)),)).ordinals("web") == (0, 2)


def test_up_after_down_begins_anew():
    gone = withdrawn(scaled(FOUR, "web", 2, ["web-0"]), with_volumes=False)
    assert up(gone, 2).ordinals("web") == (0, 1)


def test_the_instances_are_those_of_the_ordinals():
    fewer = scaled(FOUR, "web", 2, ["web-0", "web-2"])
    found = members(fewer, (), [HostSeen("local")], NOW)
    assert [one.id.name for one in found] == ["web-1", "web-3"]


def test_it_is_stored():
    fewer = scaled(FOUR, "web", 2, ["web-0"])
    found = load_deployment(dump_deployment(fewer))
    assert (found.ordinals("web"), found) == ((1, 2), fewer)


def test_ordinals_are_the_lowest_that_can_be():
    assert chosen([5, 2], 3) == (0, 2, 5)
    assert chosen([5, 2], 3, without={0, 1}) == (2, 3, 5)
    assert chosen([5, 2], 1) == (2,)
    assert chosen([], 0) == ()
