"""Who reaches whom: the filters' rules, tried on frames as a bridge would; and the firewall in front of the VIPs."""

from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_network

import pytest

from orchestrator.engine.guard import firewall, guards, prepare, tidy
from orchestrator.model.action import DefineFilter, DeleteFilter, PlugFilter
from orchestrator.model.guard import FilterRule, Guard, Reach, guard_name, guarded, link_local
from orchestrator.model.names import DeploymentId, InstanceId
from orchestrator.model.record import Wanted
from orchestrator.model.spec import Endpoint, Protocol, Service, TrafficRule, Visibility
from orchestrator.model.world import HostSeen
from orchestrator.render import filter as filters
from orchestrator.render.firewall import firewall_text, mark_of
from tests.fakes.build import HELLO, HTTP, OWNER, deployment, record, role
from tests.fakes.world import FakeWorld

PG = Endpoint("pg", (0, 0), 5432, visibility=Visibility.INTERNAL)
GOSSIP = Endpoint("gossip", (0, 0), 9000, Protocol.UDP, Visibility.INTERNAL, last_target=9009)
SUBNETS = {"local": IPv4Network("198.18.0.0/24"), "other": IPv4Network("198.18.32.0/24")}
WEB, DB, FAR, OPS = (InstanceId(HELLO, name, at) for name, at in (("web", 0), ("db", 0), ("web", 1), ("ops", 0)))
GATEWAY, EDGE, VIP, WORLD, STRANGER = "198.18.0.1", "198.19.255.1", "198.51.100.7", "203.0.113.9", "198.18.1.10"
DIPS = {WEB: "198.18.0.10", DB: "198.18.0.11", FAR: "198.18.32.10", OPS: "198.18.0.12"}
ROUTER = {"dstipaddr": "ff02::1", "protocol": "icmpv6", "type": "134"}
ASKING = {
    "srcipaddr": "0.0.0.0", "dstipaddr": "255.255.255.255", "protocol": "udp", "srcportstart": 68, "dstportstart": 67,
}  # fmt: skip
REACH = Reach(egress=False, callers=(EDGE,), outside=("198.19.254.0/24",))


def service(*rules: TrafficRule, egress: bool | None = None) -> Service:
    roles = (
        role("web", endpoints=(HTTP,)),
        role("db", endpoints=(PG, GOSSIP), egress=egress),
        role("ops", endpoints=()),
    )
    return Service("hello", roles, traffic=rules)


def rules_of(key: InstanceId, what: Service, reach: Reach = REACH) -> tuple[FilterRule, ...]:
    wanted = deployment(what, subnets=SUBNETS)
    members = [record(k, dip=dip, host="other" if k is FAR else "local") for k, dip in DIPS.items()]
    made = {guard.name: guard for guard in guards(HostSeen("local", reach=reach), wanted, members, OWNER)}
    return made[guard_name(OWNER, key)].rules


def passes(rules: tuple[FilterRule, ...], direction: str, kind: str, **frame: object) -> bool:
    """What the first rule that matches a frame says of it."""
    for rule in sorted(rules):
        fits = rule.protocol in {"", "mac", kind} and all(_fits(frame, dict(rule.match), *pair) for pair in rule.match)
        if rule.direction == direction and (fits != rule.negated if rule.protocol in {"", "mac", kind} else False):
            return rule.action == "accept"
    return True


def _fits(frame: dict[str, object], match: dict[str, str], name: str, value: str) -> bool:
    if name.endswith(("mask", "end")):
        return True
    if name.endswith("ipaddr"):
        net = ip_network(f"{value}/{match[name[:-4] + 'mask']}" if name[:-4] + "mask" in match else value)
        return ip_address(str(frame[name])) in net
    if name in {"dstportstart", "srcportstart"}:
        last = int(match.get(name.replace("start", "end"), value))
        return int(value) <= int(str(frame.get(name, 0))) <= last
    return str(frame.get(name, "")) == value


def sends(key: InstanceId, to: str, port: int, what: Service, *, protocol: str = "tcp", reach: Reach = REACH) -> bool:
    frame = {"srcmacaddr": key.mac, "srcipaddr": DIPS[key], "dstipaddr": to, "protocol": protocol}
    return passes(rules_of(key, what, reach), "out", "ip", **frame, dstportstart=port, srcportstart=40000)


def takes(key: InstanceId, source: str, port: int, what: Service, *, protocol: str = "tcp") -> bool:
    frame = {"srcipaddr": source, "dstipaddr": DIPS[key], "protocol": protocol, "dstportstart": port}
    return passes(rules_of(key, what), "in", "ip", **frame)


@pytest.mark.parametrize(
    ("to", "port", "protocol", "is_open"),
    [
        (DIPS[WEB], 80, "tcp", True),
        (DIPS[FAR], 80, "tcp", True),
        (VIP, 80, "tcp", True),
        (EDGE, 40000, "tcp", True),
        (GATEWAY, 53, "udp", True),
        (GATEWAY, 67, "udp", True),
        (GATEWAY, 22, "tcp", False),
        (GATEWAY, 111, "udp", False),
        ("198.18.32.1", 53, "udp", False),
        (STRANGER, 80, "tcp", False),
        ("198.18.1.1", 53, "udp", False),
        (WORLD, 443, "tcp", False),
        ("198.19.254.2", 443, "tcp", False),
    ],
)
def test_what_a_guest_without_egress_may_send(to, port, protocol, is_open):
    assert sends(DB, to, port, service(), protocol=protocol) is is_open


@pytest.mark.parametrize(
    ("said", "site", "is_open"), [(None, True, True), (None, False, False), (True, False, True), (False, True, False)]
)
def test_egress_is_as_the_role_says_else_as_the_host_has_it(said, site, is_open):
    reach = replace(REACH, egress=site)
    for to in (WORLD, "198.19.254.2"):
        assert sends(DB, to, 443, service(egress=said), reach=reach) is is_open
    assert not sends(DB, STRANGER, 80, service(egress=said), reach=reach)
    assert not sends(DB, GATEWAY, 22, service(egress=said), reach=reach)


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("ip", {"srcmacaddr": WEB.mac, "srcipaddr": DIPS[DB], "dstipaddr": DIPS[WEB]}),
        ("ip", {"srcmacaddr": DB.mac, "srcipaddr": DIPS[OPS], "dstipaddr": DIPS[WEB]}),
        ("ip", {"srcmacaddr": DB.mac, "srcipaddr": DIPS[DB], "dstipaddr": VIP, "protocol": "udp", "srcportstart": 67}),
        ("arp", {"srcmacaddr": DB.mac, "arpsrcmacaddr": DB.mac, "arpsrcipaddr": GATEWAY}),
        ("arp", {"srcmacaddr": DB.mac, "arpsrcmacaddr": WEB.mac, "arpsrcipaddr": DIPS[DB]}),
        ("ipv6", {"srcmacaddr": DB.mac, "srcipaddr": link_local(WEB.mac), "dstipaddr": "fe80::1"}),
        ("ipv6", {"srcmacaddr": DB.mac, "srcipaddr": "2001:db8::1", "dstipaddr": "fe80::1"}),
        ("ipv6", {**ROUTER, "srcmacaddr": DB.mac, "srcipaddr": link_local(DB.mac)}),
        ("vlan", {"srcmacaddr": DB.mac}),
    ],
)  # fmt: skip
def test_a_guest_sends_only_as_itself(kind, frame):
    assert not passes(rules_of(DB, service(egress=True)), "out", kind, **frame)


@pytest.mark.parametrize(
    ("kind", "frame"),
    [
        ("arp", {"arpsrcmacaddr": DB.mac, "arpsrcipaddr": DIPS[DB]}),
        ("arp", {"arpsrcmacaddr": DB.mac, "arpsrcipaddr": "0.0.0.0"}),
        ("ip", ASKING),
        ("ipv6", {"srcipaddr": "::", "dstipaddr": "ff02::1:ff00:1", "protocol": "icmpv6", "type": "135"}),
        ("ipv6", {"srcipaddr": link_local(DB.mac), "dstipaddr": link_local(WEB.mac)}),
        ("ipv6", {"srcipaddr": link_local(DB.mac), "dstipaddr": "ff02::2", "protocol": "icmpv6", "type": "133"}),
    ],
)  # fmt: skip
def test_a_guest_asks_for_its_addresses_and_tells_them(kind, frame):
    assert passes(rules_of(DB, service()), "out", kind, srcmacaddr=DB.mac, **frame)


@pytest.mark.parametrize(
    ("source", "open_one", "ruled_one"),
    [
        (DIPS[WEB], True, True),
        (DIPS[FAR], True, True),
        (DIPS[OPS], True, False),
        (GATEWAY, True, True),
        (EDGE, True, True),
        (STRANGER, False, False),
        (WORLD, False, False),
    ],
)
def test_who_reaches_an_endpoint_with_a_rule_and_one_without(source, open_one, ruled_one):
    ruled = service(TrafficRule("db", "pg", ("web",)), TrafficRule("db", "gossip", ("web",)))
    assert takes(DB, source, 5432, service()) is open_one
    assert takes(DB, source, 5432, ruled) is ruled_one
    assert takes(DB, source, 22, ruled) is open_one
    assert takes(DB, source, 9005, ruled, protocol="udp") is ruled_one
    assert takes(DB, source, 9010, ruled, protocol="udp") is open_one
    assert takes(DB, source, 9005, ruled) is open_one


def test_rules_of_one_endpoint_add_up_and_one_for_nobody_is_one():
    both = service(TrafficRule("db", "pg", ("web",)), TrafficRule("db", "pg", ("ops",)))
    assert takes(DB, DIPS[OPS], 5432, both)
    assert not takes(DB, DIPS[WEB], 5432, service(TrafficRule("db", "pg", ())))
    assert takes(DB, EDGE, 5432, service(TrafficRule("db", "pg", ())))


def test_by_ipv6_roles_are_told_by_their_mac():
    rules = rules_of(DB, service(TrafficRule("db", "pg", ("web",))))
    own = link_local(DB.mac)

    def reaches(source: InstanceId, port: int = 5432, to: str = own) -> bool:
        address = link_local(source.mac)
        frame = {"srcipaddr": address, "dstipaddr": to, "protocol": "tcp", "dstportstart": port}
        return passes(rules, "in", "ipv6", srcmacaddr=source.mac, **frame)

    assert (reaches(WEB), reaches(OPS), reaches(OPS, 22)) == (True, False, True)
    assert not reaches(WEB, to=link_local(OPS.mac)), "what is for another is not handed on, whatever its MAC address"


def test_a_filter_is_read_as_it_was_written():
    for key in (WEB, DB):
        guard = Guard(guard_name(OWNER, key), rules_of(key, service(TrafficRule("db", "pg", ("web",)), egress=True)))
        assert filters.read(filters.filter_xml(guard, OWNER)).fingerprint == guard.fingerprint
    loosened = filters.filter_xml(guard, OWNER).replace("drop", "accept", 1)
    assert filters.read(loosened).fingerprint != guard.fingerprint
    opened = filters.filter_xml(guard, OWNER).replace("<rule", '<filterref filter="allow-arp"/><rule', 1)
    assert filters.read(opened).fingerprint != guard.fingerprint


def test_a_name_tells_whose_filter_it_is():
    assert guarded(guard_name(OWNER, WEB), OWNER) == WEB
    for name in (guard_name("deadbeef", WEB), "clean-traffic", "vmrole-0badcafe.hello", f"{guard_name(OWNER, WEB)} "):
        assert guarded(name, OWNER) is None


def test_link_local_is_in_its_short_form():
    assert link_local("52:54:1b:96:7b:50") == "fe80::5054:1bff:fe96:7b50"
    for mac in ("52:54:00:00:00:00", "52:54:00:12:00:34"):
        assert link_local(mac) == str(ip_address(link_local(mac)))


def test_only_what_differs_is_defined_and_what_is_left_over_goes():
    wanted, members = deployment(subnets=SUBNETS), [record(WEB), record(FAR, host="other")]
    bare = HostSeen("local")
    (step,) = prepare(bare, [wanted], members, OWNER)
    assert isinstance(step, DefineFilter)
    name, mark = step.guard.name, step.guard.fingerprint
    assert prepare(replace(bare, filters={name: mark}), [wanted], members, OWNER) == ()
    assert len(prepare(replace(bare, filters={name: "x"}), [wanted], members, OWNER)) == 1
    assert prepare(bare, [wanted], [record(WEB, wanted=Wanted.GONE)], OWNER) == ()
    seen = replace(bare, filters={name: mark, guard_name(OWNER, FAR): "y", guard_name("deadbeef", FAR): "z"})
    assert tidy(seen, members, OWNER) == (DeleteFilter("local", guard_name(OWNER, FAR)),)
    assert tidy(replace(seen, problem="away"), members, OWNER) == ()


def test_the_firewall_lets_in_what_is_declared():
    hello = deployment(service())
    wall = firewall([hello], [hello])
    assert wall is not None
    assert wall.fronts == ((hello.vip, 80),)
    text = firewall_text(wall, OWNER)
    assert f"ip daddr {hello.vip} tcp dport {{ 80 }} accept" in text
    assert f'iifname {{ "{hello.id.bridge}" }} drop' in text
    assert mark_of(text) == wall.fingerprint
    assert firewall([], []) is None
    assert "chain" not in firewall_text(None, OWNER)
    shared = firewall([hello], [hello], frozenset({hello.vip}))
    assert shared is not None
    assert f"ip daddr {{ {hello.vip} }} drop" in text
    assert f"{hello.vip} }} drop" not in firewall_text(shared, OWNER), "an address of the machine's own is not shut"
    bare = firewall([hello], [])
    assert bare is not None
    assert bare.fingerprint != wall.fingerprint


# --- the loop


def test_a_rule_changes_on_running_machines_and_nothing_else():
    world = FakeWorld()
    world.up(service())
    world.settle()
    before = dict(world.hosts["local"].domains)
    world.faults.done.clear()
    world.up(service(TrafficRule("db", "pg", ("web",))))
    world.settle()
    changed = [
        effect
        for effect in world.faults.done
        if effect[0] not in {"save_deployment", "save_instance", "put_copy", "mark_copy"}
    ]
    of_db = world.hosts["local"].filters[guard_name(OWNER, DB)]
    assert [mark for what, mark in changed if what == "define_filter"] == [of_db.fingerprint]
    assert {what for what, _name in changed} <= {"define_filter", "delete_volume"}
    assert world.hosts["local"].domains == before


def test_a_machine_without_its_filter_is_put_behind_it_while_it_runs():
    world = FakeWorld()
    world.up(service())
    world.settle()
    host = world.hosts["local"]
    open_one = f"{WEB}.g1"
    host.domains[open_one] = replace(host.domains[open_one], is_guarded=False)
    assert any(isinstance(step.action, PlugFilter) for step in world.look().steps)
    world.settle()
    assert host.domains[open_one].is_guarded
    assert host.domains[open_one].boots == 1
    told = [event.what for _number, event in world.store.events("") if event.what.startswith("fault")]
    assert told == ["fault: its filter was gone from under its machine; it is put back"]


def test_a_network_without_its_hosts_rules_gets_them_again_and_the_events_say_so():
    world = FakeWorld()
    world.up(service())
    world.settle()
    host = world.hosts["local"]
    before = {name: domain.boots for name, domain in host.domains.items()}
    (name,) = host.networks
    host.networks[name] = replace(host.networks[name], is_ruled=False)
    world.faults.done.clear()
    world.settle()
    assert host.networks[name].is_ruled
    assert [effect for effect in world.faults.done if effect[0].endswith(("network", "leases"))] == [
        ("change_leases", name)
    ]
    assert {name: domain.boots for name, domain in host.domains.items()} == before
    told = {event.what for _number, event in world.store.events("") if event.what.startswith("fault")}
    assert told == {"fault: its host's rules for its network were gone; they are made again"}


def test_nothing_is_left_of_filters_and_firewall_and_others_keep_theirs():
    world = FakeWorld("local", "other")
    theirs = Guard(guard_name("deadbeef", WEB), ())
    for host in world.hosts.values():
        host.filters[theirs.name] = theirs
    key = world.up(service())
    world.settle()
    assert world.balancer.firewall is not None
    assert {name for host in world.hosts.values() for name in host.filters} == {
        theirs.name, *(guard_name(OWNER, k) for k in (WEB, DB, OPS))
    }  # fmt: skip
    world.down(key)
    world.settle()
    assert world.balancer.firewall is None
    assert [list(host.filters) for host in world.hosts.values()] == [[theirs.name]] * 2


def test_a_filter_that_somebody_loosened_is_put_right():
    world = FakeWorld()
    world.up(service())
    world.settle()
    host = world.hosts["local"]
    right = host.filters[guard_name(OWNER, DB)]
    host.filters[right.name] = replace(right, rules=right.rules[1:])
    world.settle()
    assert host.filters[right.name] == right


def test_names_of_deployments_that_begin_alike_are_told_apart():
    assert guarded(guard_name(OWNER, InstanceId(DeploymentId("hello-2", "staging"), "web-1", 3)), OWNER) is not None
