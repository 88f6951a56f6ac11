"""The firewall in front of the VIPs, on the kernel's own nftables, and the fake beside it."""

import socket
import threading
from dataclasses import replace

import pytest

from orchestrator.drivers.haproxy import HaproxyBalancer
from orchestrator.model.guard import Firewall
from tests.fakes.balancer import FakeBalancer

from .conftest import no_certificate, site
from .netns import Namespace, namespace

VIP, GATEWAY = "198.51.100.1", "198.18.0.1"
WALL = Firewall(((VIP, 80),), (VIP,), ("vmr12345678",), (GATEWAY,))
OWNER = "0badcafe"


@pytest.fixture(params=["real", "fake"])
def balancer(request, space, folder):
    if request.param == "fake":
        return FakeBalancer()
    return HaproxyBalancer(site(space), folder / "run", no_certificate, OWNER)


def test_a_firewall_is_seen_as_it_was_set_twice_and_goes_twice(balancer):
    assert balancer.observe().firewall == ""
    for wall in (WALL, WALL, Firewall(vips=(VIP,), bridges=("vmr0",), gateways=(GATEWAY,))):
        balancer.set_firewall(wall)
        assert balancer.observe().firewall == wall.fingerprint
    for _again in range(2):
        balancer.set_firewall(None)
        assert balancer.observe().firewall == ""


def test_others_tables_stay(space: Namespace, folder):
    space.run("nft", "add table inet theirs")
    real = HaproxyBalancer(site(space), folder / "run", no_certificate, OWNER)
    real.set_firewall(WALL)
    real.set_firewall(None)
    space.run("nft", "list table inet theirs")
    with pytest.raises(Exception, match="exit status"):
        space.run("nft", f"list table inet vmrole_{OWNER}")


def test_a_labs_own_rules_are_loaded_with_them(space: Namespace, folder):
    own = "table inet lab {}\ndelete table inet lab\ntable inet lab {\n}\n"
    real = HaproxyBalancer(replace(site(space), rules=own), folder / "run", no_certificate, OWNER)
    real.set_firewall(WALL)
    space.run("nft", "flush", "ruleset")
    real.set_firewall(WALL)
    assert real.observe().firewall == WALL.fingerprint
    space.run("nft", "list", "table", "inet", "lab")


def test_a_neighbour_reaches_the_declared_port_and_nothing_else(space: Namespace, folder):
    with namespace() as outside:
        space.run("ip", "link", "add", "in0", "type", "veth", "peer", "name", "out0", "netns", str(outside.pid))
        for where, device, own in ((space, "in0", "192.0.2.1"), (outside, "out0", "192.0.2.2")):
            where.run("ip", "address", "add", f"{own}/24", "dev", device)
            where.run("ip", "link", "set", device, "up")
        for address in (VIP, GATEWAY):
            space.run("ip", "address", "add", f"{address}/32", "dev", "lo")
            outside.run("ip", "route", "add", address, "via", "192.0.2.1")
        doors = [space.inside(lambda port=port: _listen(port)) for port in (80, 22)]
        try:
            places = ((VIP, 80), (VIP, 22), (GATEWAY, 22), ("192.0.2.1", 22))
            assert [_reaches(outside, *place) for place in places] == [True] * 4
            HaproxyBalancer(site(space), folder / "run", no_certificate, OWNER).set_firewall(WALL)
            assert [_reaches(outside, *place) for place in places] == [True, False, False, True]
            assert [_reaches(space, *place) for place in places] == [True] * 4, "the machine reaches itself"
        finally:
            for door in doors:
                door.close()


def _listen(port: int):
    door = socket.create_server(("0.0.0.0", port))

    def serve() -> None:
        while True:
            try:
                door.accept()[0].close()
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    return door


def _reaches(space: Namespace, address: str, port: int) -> bool:
    def call() -> bool:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            return False
        return True

    return space.inside(call)
