"""The lab's addresses, names and rules; pure."""

from ipaddress import IPv4Network
from itertools import combinations
from pathlib import Path

import pytest

from orchestrator.config.site import DIP_POOL, VIP_POOL, site_from_json, site_to_json
from orchestrator.lab import plan, rules

HOSTS = range(plan.MAX_HOSTS)
LAB = plan.Lab(Path("/srv/home"), 3, 2)


def test_no_two_networks_of_a_lab_overlap():
    nets = [plan.dip_pool(n) for n in HOSTS] + [plan.UNDERLAY, plan.OUTSIDE_NET, plan.MACHINE_NET]
    assert not [pair for pair in combinations(nets, 2) if pair[0].overlaps(pair[1])]
    assert all(net.subnet_of(DIP_POOL) for net in nets)
    assert all(net.subnet_of(plan.RESERVED) for net in (plan.UNDERLAY, plan.OUTSIDE_NET, plan.MACHINE_NET))


def test_no_two_slots_share_an_address():
    pools = [plan.vip_pool(slot) for slot in range(plan.MAX_SLOTS)]
    assert IPv4Network("198.51.100.240/28") in pools
    assert all(pool.subnet_of(VIP_POOL) for pool in pools)
    pairs = [plan.machine_pair(slot) for slot in range(plan.MAX_SLOTS)]
    assert len({address for pair in pairs for address in pair}) == 2 * plan.MAX_SLOTS
    assert all(address in plan.MACHINE_NET for pair in pairs for address in pair)


def test_every_host_has_its_own_underlay_address():
    addresses = {plan.underlay_address(node) for node in ("edge", *map(plan.host_name, HOSTS))}
    assert len(addresses) == 1 + plan.MAX_HOSTS
    assert plan.underlay_address("outside") is None


@pytest.mark.parametrize("name", ["h15", "h-1", "h01", "edge2", "", "h0 ", "h0\nlink del eth0", "x"])
def test_no_other_word_becomes_part_of_a_command(name):
    assert plan.host_number(name) is None
    with pytest.raises(ValueError, match="no lab node"):
        plan.host_port(name, 1)


def test_free_slot_prefers_what_the_lab_had():
    assert plan.free_slot([], 7) == 7
    assert plan.free_slot([], None) == 0


def test_free_slot_goes_round_what_the_machine_routes():
    taken = [plan.vip_pool(0), IPv4Network("198.19.253.4/30"), IPv4Network("10.0.0.0/8")]
    assert plan.free_slot(taken, 0) == 2
    assert plan.free_slot([VIP_POOL], None) is None


def test_the_machines_link_has_a_legal_name_of_its_own_for_each_home():
    names = {plan.link_name(Path(home)) for home in ("/a", "/b")}
    assert len(names) == 2
    assert all(plan.LINK.fullmatch(name) and len(name) <= 15 for name in names)


def test_site_names_each_host_and_reads_back():
    pids = {"edge": 10, "outside": 11, "h0": 12, "h1": 13}
    site = plan.site(LAB, pids, "tcg", rules.node_rules)
    assert site_from_json(site_to_json(site)) == site
    assert [(host.name, host.forward) for host in site.hosts] == [("h0", "open"), ("h1", "open")]
    assert "/proc/13/root/" in site.hosts[1].uri
    assert site.balancer[:3] == ("nsenter", "--target", "10")
    assert site.vip_pool == plan.vip_pool(3)
    assert [host.rules for host in site.hosts] == [rules.host_rules(0), rules.host_rules(1)]
    assert site.rules == rules.edge_rules(site.vip_pool)
    assert [host.upstream for host in site.hosts] == [False, False]


def test_the_outside_forwards_nothing():
    assert "net/ipv4/ip_forward=1\n" in plan.sysctls("h3")
    assert "net/ipv4/ip_forward=1\n" in plan.sysctls("edge")
    assert "net/ipv4/ip_forward=0\n" in plan.sysctls("outside")


def test_the_edge_knows_the_way_to_hosts_that_are_yet_to_come():
    assert plan.edge_links().count("route add") == plan.MAX_HOSTS
    assert f"route add {plan.dip_pool(0)}" not in plan.host_links(0)
    assert plan.host_links(0).count("route add") == plan.MAX_HOSTS
    assert "route add default via 198.19.255.1\n" in plan.host_links(0)


def test_the_mark_is_the_last_thing_set():
    assert plan.edge_links().splitlines()[-1] == "link set vmr-under alias vmrole-ready"


def test_rules_drop_unless_told_otherwise():
    for text in (rules.host_rules(4), rules.edge_rules(plan.vip_pool(3))):
        assert text.count("policy drop") == 2
    assert "198.51.100.48/28" in rules.edge_rules(plan.vip_pool(3))
    assert rules.host_rules(4).count("& 0.0.31.0 ==") == 2 * plan.DEPLOYMENTS
