"""Which VIP a deployment gets, and what becomes of one that it has no more."""

import json
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.config.site import machine_site, site_from_json, site_to_json
from orchestrator.config.siteform import as_set
from orchestrator.engine.vips import Ground, apart, free_vip, neighbours, unfit, vip_for
from orchestrator.errors import InvalidInput, Refused
from orchestrator.model.names import DeploymentId
from orchestrator.model.record import Intent
from orchestrator.model.vips import Bind
from tests.fakes.build import HELLO, OWNER, deployment, role, service
from tests.fakes.world import FakeWorld

POOL = IPv4Network("198.51.100.0/29")
SITE = machine_site("qemu:///system", "tcg")
GROUND = Ground(Bind.LOOPBACK, "lo", POOL, {"127.0.0.1": "lo"}, frozenset(), (IPv4Network("198.18.0.0/15"),))
OWN = replace(GROUND, bind=Bind.OWN, device="eth0", addresses={"127.0.0.1": "lo", "192.0.2.7": "eth0"})
STAGING = DeploymentId("hello", "staging")
GIVEN = replace(service(), vip="192.0.2.9")
NOBODY = Intent(OWNER)


def intent(*records):
    return Intent(OWNER, records)


def test_the_lowest_free_one_of_the_pool():
    ground = replace(
        GROUND, addresses={"198.51.100.2": "lo", "198.51.100.3": "eth1"}, added=frozenset({"198.51.100.4"})
    )
    assert free_vip(intent(deployment(vip="198.51.100.1")), ground) == "198.51.100.5"


def test_none_is_left():
    with pytest.raises(Refused, match=r"no VIP is free in 198\.51\.100\.0/29"):
        free_vip(NOBODY, replace(GROUND, addresses={str(address): "lo" for address in POOL}))


def test_it_stays_for_life_unless_another_is_given():
    known = deployment(vip="198.51.100.6")
    assert vip_for(intent(known), HELLO, service(), GROUND) == "198.51.100.6"
    assert vip_for(intent(known), HELLO, GIVEN, GROUND) == "192.0.2.9"
    # That it is not given any more is no wish for another.
    assert vip_for(intent(replace(known, vip="192.0.2.9")), HELLO, service(), GROUND) == "192.0.2.9"


def test_the_one_that_is_given_is_productions():
    assert vip_for(intent(deployment(GIVEN, vip="192.0.2.9")), STAGING, GIVEN, GROUND) == "198.51.100.1"


def test_an_interfaces_own_address():
    assert vip_for(NOBODY, HELLO, service(), OWN) == "192.0.2.7"
    assert vip_for(intent(deployment(vip="192.0.2.7")), DeploymentId("zoo"), service(name="zoo"), OWN) == "192.0.2.7"
    with pytest.raises(Refused, match="eth0 has no IPv4 address to serve on"):
        vip_for(NOBODY, HELLO, service(), replace(OWN, addresses={}))


@pytest.mark.parametrize(
    ("vip", "ground", "why"),
    [
        ("192.0.2.9", GROUND, ""),
        ("198.51.100.1", GROUND, ""),
        ("198.18.3.1", GROUND, "198.18.3.1 is one of 198.18.0.0/15, where instances get their addresses"),
        ("192.0.2.8", GROUND, "192.0.2.8 is the VIP of zoo"),
        ("192.0.2.7", OWN, ""),
        ("192.0.2.9", OWN, "192.0.2.9 is no address of eth0; it has: 192.0.2.7"),
        (
            "192.0.2.7",
            replace(OWN, bind=Bind.INTERFACE),
            "192.0.2.7 is an address of eth0 already, which vmrole has not",
        ),
        ("192.0.2.7", replace(OWN, bind=Bind.LOOPBACK, added=frozenset({"192.0.2.7"})), ""),
    ],
)
def test_one_that_cannot_be(vip, ground, why):
    zoo = deployment(service(name="zoo"), vip="192.0.2.8")
    found = unfit(deployment(vip=vip), intent(zoo), ground)
    assert found.startswith(why)
    assert bool(found) == bool(why)
    # What it has already is not asked for again.
    assert unfit(deployment(vip=vip), intent(zoo, deployment(vip=vip)), ground) == ""


def test_services_on_one_address_share_it_port_by_port():
    zoo = deployment(service(role(), name="zoo"), vip="192.0.2.7")
    assert neighbours(deployment(vip="192.0.2.7"), intent(zoo, deployment(vip="192.0.2.7"))) == {80: "zoo"}
    assert neighbours(deployment(vip="192.0.2.8"), intent(zoo)) == {}


def change(world, vip):
    """What `up` writes when the file names another VIP."""
    record = world.store.intent().deployments[0]
    world.store.save_deployment(replace(record, vip=vip, revision=record.revision + 1))


def test_another_vip_is_served_before_the_old_one_goes():
    world = FakeWorld()
    world.up(service())
    world.settle()
    change(world, "192.0.2.9")
    world.balancer.left = 1
    with world.loop() as loop:
        for _turn in range(20):
            loop.tick()
        assert world.balancer.vips == {"198.51.100.1", "192.0.2.9"}
        assert [front.vip for front in world.balancer.frontends] == ["192.0.2.9"]
    world.balancer.left = 0
    world.settle()
    assert world.balancer.vips == {"192.0.2.9"}


def test_an_address_that_is_not_ours_is_never_taken_away():
    world = FakeWorld()
    world.balancer.own = {"198.51.100.1"}
    key = world.up(service())
    world.settle()
    assert world.balancer.vips == set()
    change(world, "192.0.2.9")
    world.settle()
    assert (world.balancer.vips, world.balancer.own) == ({"192.0.2.9"}, {"198.51.100.1"})
    world.down(key)
    world.settle()
    assert (world.balancer.vips, world.balancer.own) == (set(), {"198.51.100.1"})


def given(vip):
    return parse(json.dumps({"service": "hello", "vip": vip, "roles": {"web": {"image": "tiny"}}}), "f")


@pytest.mark.parametrize(
    "vip", ["", "hello", "192.0.2.300", "192.0.2.1/32", "::1", "0.0.0.0", "224.0.0.1", "127.0.0.1", 1]
)
def test_a_vip_that_is_no_address(vip):
    with pytest.raises(InvalidInput) as caught:
        given(vip)
    assert [problem.path for problem in caught.value.problems] == ["vip"]


def test_a_vip_in_the_file():
    assert given("192.0.2.9").vip == "192.0.2.9"


def settings(tmp_path, text):
    (tmp_path / "site.yaml").write_text(text)
    found = as_set(SITE, tmp_path)
    return found.vip_bind, found.vip_device, str(found.vip_pool)


def test_where_vips_are_bound(tmp_path):
    assert as_set(SITE, tmp_path) == SITE
    pool = "198.51.100.0/24"
    assert settings(tmp_path, "") == (Bind.LOOPBACK, "lo", pool)
    assert settings(tmp_path, "vips: {bind: loopback, pool: 192.0.2.0/28}") == (Bind.LOOPBACK, "lo", "192.0.2.0/28")
    assert settings(tmp_path, "vips: {bind: {own: eth0}}") == (Bind.OWN, "eth0", pool)
    found = settings(tmp_path, "vips: {bind: {interface: br-lan.7}, pool: 192.0.2.0/28}")
    assert found == (Bind.INTERFACE, "br-lan.7", "192.0.2.0/28")


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("vips: {bind: eth0}", "vips.bind", "must be loopback, {interface: NAME} or {own: NAME}"),
        ("vips: {bind: {}}", "vips.bind", "must be loopback"),
        ("vips: {bind: {own: a, interface: b}}", "vips.bind", "must be loopback"),
        ("vips: {bind: {own: -x}}", "vips.bind.own", "is not the name of an interface"),
        ("vips: {bind: {own: a/b}}", "vips.bind.own", "is not the name of an interface"),
        ("vips: {bind: {interface: eth0}}", "vips", "needs a pool"),
        ("vips: {bind: {own: eth0}, pool: 192.0.2.0/28}", "vips", "has no pool with bind: own"),
        ("vips: {pool: 192.0.2.1/28}", "vips.pool", "must be a network like 192.0.2.0/28"),
        ("vips: {pool: 127.0.0.0/8}", "vips.pool", "addresses that a machine can have"),
        ("vip: {}", "vip", "is not a field here"),
        ("[]", "", "must be a mapping"),
        ("a: b: c", "", "is not YAML"),
    ],
)
def test_settings_that_cannot_be(tmp_path, text, path, said):
    with pytest.raises(InvalidInput) as caught:
        settings(tmp_path, text)
    (problem,) = caught.value.problems
    assert (problem.path, said in problem.message) == (path, True), problem


def test_a_labs_site_of_before_is_still_read():
    assert site_from_json(site_to_json(SITE)) == SITE


def test_a_vip_that_is_given_is_the_live_slot_s_and_a_swap_changes_which_that_is():
    live, staged = deployment(GIVEN, vip="192.0.2.9"), deployment(GIVEN, id=STAGING, vip="198.51.100.6")
    after = intent(replace(live, vip=staged.vip, swaps=1), replace(staged, vip=live.vip, swaps=1))
    assert [vip_for(after, key, GIVEN, GROUND) for key in (HELLO, STAGING)] == ["198.51.100.6", "192.0.2.9"]
    assert vip_for(intent(after.deployments[1]), HELLO, GIVEN, GROUND) == "198.51.100.1"


def test_two_copies_with_one_vip_are_told_apart():
    live, staged = deployment(vip="198.51.100.6"), deployment(id=STAGING, vip="198.51.100.6")
    assert apart(staged, intent(live), GROUND).vip == "198.51.100.1"
    assert apart(staged, NOBODY, GROUND) == staged
    assert apart(staged, intent(live), OWN).vip == staged.vip


@pytest.mark.parametrize(("first", "second"), [(1, 0), (0, 1)])
def test_of_two_copies_of_which_one_is_from_before_a_swap_one_is_live(first, second):
    production = deployment(vip="198.51.100.6", swaps=first)
    staged = deployment(id=STAGING, vip="198.51.100.6", swaps=second)
    ground = replace(GROUND, added=frozenset({"198.51.100.6", "198.51.100.7", "198.51.100.8"}))
    found = apart(staged, intent(production), ground, ["198.51.100.6", "198.51.100.8"])
    assert found.is_live != production.is_live
    assert found.vip == "198.51.100.7"  # which nobody else has, and we have added: it was the other one of the two
