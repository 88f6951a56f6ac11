"""Whether the kernel has the rules for guests' networks, asked of the kernel itself, and how they come back."""

import subprocess
import threading
import time

import pytest

from orchestrator.drivers import _netrules
from orchestrator.drivers._netrules import CHAINS, Needs, NetworkRules, missing_chains

from .netns import Namespace

NAT = Needs("a", "vmra", "198.18.0.0/24", "nat")
CLOSED = Needs("b", "vmrb", "198.18.1.0/24", "")
OPEN = Needs("c", "vmrc", "198.18.2.0/24", "open")
EVERY = (NAT, CLOSED, OPEN)
OWN = "table inet lab {}\ndelete table inet lab\ntable inet lab {\n  chain input {\n  }\n}\n"
LIBVIRT = 9_000_000


@pytest.fixture
def rules(space, monkeypatch):
    """Of a host with libvirt's chains, as if nothing that was seen before were good for long."""
    monkeypatch.setattr(_netrules, "LOOK_S", -1.0)
    made = NetworkRules(space.prefix, OWN)
    made.known(lambda: LIBVIRT)
    assert made.restore()
    assert not made.restore()
    return made


def ruled(space: Namespace, needs: Needs) -> None:
    """As libvirt 9.0 does it for a network that is started."""
    space.run("iptables", "-A", "LIBVIRT_FWO", "-s", needs.subnet, "-i", needs.bridge, "-j", "ACCEPT")
    if needs.forward == "nat":
        said = ("-s", needs.subnet, "!", "-d", needs.subnet, "-j", "MASQUERADE")
        space.run("iptables", "-t", "nat", "-A", "LIBVIRT_PRT", *said)


def saved(space: Namespace, family: str = "iptables") -> str:
    return subprocess.run([*space.prefix, f"{family}-save"], capture_output=True, text=True, check=True).stdout


def test_rules_that_were_flushed_are_missed_and_their_ground_is_laid_again(space, rules):
    assert rules.lacks(EVERY) == {"a", "b"}  # libvirt makes none for an open one
    for needs in (NAT, CLOSED):
        ruled(space, needs)
    assert rules.lacks(EVERY) == frozenset()
    before = [missing_chains(saved(space, family)) for family in ("iptables", "ip6tables")]
    assert before == ["", ""]
    space.run("nft", "flush", "ruleset")
    assert rules.lacks(EVERY) == {"a", "b", "c"}
    assert rules.restore()
    assert [missing_chains(saved(space, family)) for family in ("iptables", "ip6tables")] == before
    space.run("nft", "list", "table", "inet", "lab")
    assert rules.lacks(EVERY) == {"a", "b"}
    ruled(space, NAT)
    assert rules.lacks(EVERY) == {"b"}
    rules.renewed("b")  # what libvirt has made is there, seen or not
    assert rules.lacks(EVERY) == frozenset()


def test_half_of_them_is_not_enough(space, rules):
    ruled(space, NAT)
    space.run("iptables", "-t", "nat", "-F")
    assert rules.lacks([NAT]) == {"a"}
    assert rules.restore()  # the way into the chain was emptied with all else
    ruled(space, NAT)
    assert rules.lacks([NAT]) == frozenset()


def test_what_is_there_is_not_emptied(space, rules):
    ruled(space, NAT)
    space.run("iptables", "-D", "FORWARD", "-j", "LIBVIRT_FWI")
    space.run("iptables", "-X", "LIBVIRT_FWI")
    assert rules.restore()
    assert rules.lacks([NAT]) == frozenset()
    assert saved(space).count("-j LIBVIRT_") == len(CHAINS)


def test_a_network_that_was_just_started_is_looked_for_at_once(space):
    made = NetworkRules(space.prefix)
    made.known(lambda: LIBVIRT)
    made.restore()
    ruled(space, NAT)
    assert made.lacks([NAT]) == frozenset()
    time.sleep(0.01)
    ruled(space, CLOSED)
    assert made.lacks([NAT, CLOSED]) == frozenset()


def test_where_nobody_can_ask_nothing_is_missed():
    for prefix in (None, ("sh", "-c", "exit 3"), ("no-such-program",)):
        made = NetworkRules(prefix, OWN)
        made.known(lambda: LIBVIRT)
        assert made.lacks(EVERY) == frozenset()


def test_a_libvirt_that_may_do_it_another_way_is_not_asked_for_iptables(space):
    made = NetworkRules(space.prefix)
    made.known(lambda: _netrules.LATER)
    assert made.lacks(EVERY) == frozenset()
    assert not made.restore()


def test_while_a_network_is_changed_nothing_is_missed(rules):
    found = []
    look = threading.Thread(target=lambda: found.append(rules.lacks([NAT])))
    with rules.changing():
        assert rules.lacks([NAT]) == {"a"}  # who changes it may ask
        look.start()
        look.join()
    assert found == [frozenset()]
