"""Whether the kernel has guests' filters, asked of the kernel itself: rules that somebody flushed are missed."""

import pytest

from orchestrator.drivers import _enforced
from orchestrator.drivers._enforced import Enforced

from .netns import Namespace

BOTH = ("vnet0", "vnet1")


@pytest.fixture
def always(monkeypatch):
    """Nothing that was seen before is good for long."""
    monkeypatch.setattr(_enforced, "LOOK_S", -1.0)


def entered(space: Namespace, card: str) -> None:
    """As libvirt does it: a chain for what the guest sends, and the way into it."""
    space.run("ebtables", "-t", "nat", "-N", f"libvirt-I-{card}")
    space.run("ebtables", "-t", "nat", "-A", "PREROUTING", "-i", card, "-j", f"libvirt-I-{card}")


@pytest.mark.usefixtures("always")
def test_rules_that_were_flushed_are_missed(space: Namespace):
    there = Enforced(space.prefix)
    for card in BOTH:
        entered(space, card)
    assert there.lacks(BOTH) == frozenset()
    assert there.lacks({*BOTH, "vnet2"}) == {"vnet2"}
    space.run("nft", "flush", "ruleset")
    assert there.lacks(BOTH) == set(BOTH)
    assert there.lacks(()) == frozenset()


def test_a_machine_that_was_just_started_is_looked_for_at_once(space: Namespace):
    there = Enforced(space.prefix)
    entered(space, "vnet0")
    assert there.lacks({"vnet0"}) == frozenset()
    entered(space, "vnet1")
    assert there.lacks(BOTH) == frozenset()


@pytest.mark.usefixtures("always")
def test_what_cannot_be_seen_is_put_back_once_in_a_while_only(space: Namespace):
    there = Enforced(space.prefix)
    assert there.lacks({"vnet0"}) == {"vnet0"}
    there.renewed("vnet0")
    assert there.lacks(BOTH) == {"vnet1"}
    entered(space, "vnet0")
    assert there.lacks(BOTH) == {"vnet1"}
    space.run("nft", "flush", "ruleset")
    assert there.lacks(BOTH) == set(BOTH)  # it was seen meanwhile, so it can be missed again


def test_a_libvirt_that_may_do_it_another_way_is_not_asked_for_ebtables(space: Namespace):
    there = Enforced(space.prefix)
    there.known(lambda: _enforced.LATER)
    assert there.lacks(BOTH) == frozenset()


@pytest.mark.parametrize("prefix", [None, ("sh", "-c", "exit 3"), ("no-such-program",)])
def test_where_nobody_can_ask_nothing_is_missed(prefix):
    assert Enforced(prefix).lacks(BOTH) == frozenset()
