"""A service file's rules of traffic, egress and internal endpoints: what they become, and every problem by its path."""

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.errors import InvalidInput
from orchestrator.model.spec import Protocol, TrafficRule

BASE = """\
service: hello
roles:
  web: {image: tiny, endpoints: {http: {port: 80}}, egress: true}
  db:
    image: tiny
    endpoints:
      pg: {target: 5432, visibility: internal}
      gossip: {target: 9000-9009, protocol: udp, visibility: internal}
"""


def problems(text: str) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        parse(text, "hello.yaml")
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_rules_become_values():
    found = parse(f"{BASE}traffic:\n- {{to: db.pg, from: [web, web]}}\n- {{to: db.gossip, from: all}}\n", "x")
    both = TrafficRule("db", "pg", ("web",)), TrafficRule("db", "gossip", ("web", "db"))
    assert found.traffic == both
    assert parse(f"{BASE}traffic: [{{to: db.pg, from: []}}]\n", "x").traffic == (TrafficRule("db", "pg", ()),)
    assert parse(BASE, "x").traffic == ()


def test_egress_is_yes_no_or_not_said():
    assert [role.egress for role in parse(BASE, "x").roles] == [True, None]


def test_an_internal_endpoint_may_be_a_range_and_udp():
    gossip = parse(BASE, "x").roles[1].endpoints[1]
    assert (gossip.targets, gossip.protocol) == ((9000, 9009), Protocol.UDP)
    assert parse(BASE, "x").roles[1].endpoints[0].targets == (5432, 5432)


@pytest.mark.parametrize(
    ("rule", "path", "message"),
    [
        ("{to: db, from: [web]}", "traffic[0].to", "ROLE.ENDPOINT"),
        ("{to: cache.x, from: [web]}", "traffic[0].to", "there is no role 'cache'"),
        ("{to: db.mysql, from: [web]}", "traffic[0].to", "no endpoint 'mysql'"),
        ("{to: web.http, from: [db]}", "traffic[0].to", "on the VIP"),
        ("{to: db.pg, from: [web, cache]}", "traffic[0].from[1]", "there is no role 'cache'"),
        ("{to: db.pg, from: web}", "traffic[0].from", "a list of roles, or all"),
        ("{to: db.pg}", "traffic[0].from", "is missing"),
        ("{to: db.pg, from: null}", "traffic[0].from", "a list of roles, or all"),
        ("{to: db.pg, from: [web], when: now}", "traffic[0].when", "is not a field"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_told_by_its_path(rule, path, message):
    found = problems(f"{BASE}traffic:\n- {rule}\n")
    assert [(where, message in what) for where, what in found] == [(path, True)], found


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        ("{port: 80}", "{port: 80, protocol: udp}", "roles.web.endpoints.http.protocol", "HAProxy"),
        ("{port: 80}", "{port: 80, target: 80-81}", "roles.web.endpoints.http", "visibility: internal"),
        ("9000-9009", "9009-9000", "roles.db.endpoints.gossip.target", "ends before it begins"),
        ("egress: true", "egress: maybe", "roles.web.egress", "true or false"),
    ],
)
def test_what_no_endpoint_and_no_role_can_be(old, new, path, message):
    found = problems(BASE.replace(old, new))
    assert [(where, message in what) for where, what in found] == [(path, True)], found
