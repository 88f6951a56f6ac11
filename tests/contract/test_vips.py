"""VIPs on real interfaces: whose they are, who hears of them, and what is never taken away."""

import json
import subprocess
from dataclasses import replace

import pytest

from orchestrator.drivers.vips import FILE, Vips
from orchestrator.errors import Refused
from orchestrator.model.vips import Bind

from .conftest import site
from .netns import eventually, namespace

pytestmark = pytest.mark.real

VIP, MINE, THEIRS = "192.0.2.10", "192.0.2.1", "192.0.2.2"


@pytest.fixture
def neighbour(space):
    """Another machine on the same network; it takes an answer that it has not asked for."""
    with namespace() as other:
        space.run("ip", "link", "add", "lan", "type", "veth", "peer", "name", "far")
        space.run("ip", "link", "set", "far", "netns", str(other.pid))
        for where, link, address in ((space, "lan", MINE), (other, "far", THEIRS)):
            where.run("ip", "address", "add", f"{address}/24", "dev", link)
            where.run("ip", "link", "set", link, "up")
        other.run("sysctl", "-qw", "net.ipv4.conf.far.arp_accept=1")
        yield other


@pytest.fixture
def vips(space, folder):
    def on(bind: Bind, device: str) -> Vips:
        return Vips(replace(site(space), vip_bind=bind, vip_device=device), folder)

    return on


def addresses(space, device):
    argv = [*space.prefix, "ip", "-json", "-4", "address", "show", "dev", device]
    (link,) = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    return {info["local"] for info in link["addr_info"]}


def test_it_is_added_and_taken_away_twice(space, vips):
    loopback = vips(Bind.LOOPBACK, "lo")
    for _again in range(2):
        loopback.add(VIP)
        assert loopback.seen() == ({"127.0.0.1", VIP}, {VIP})
    for _again in range(2):
        loopback.remove(VIP)
        assert loopback.seen() == ({"127.0.0.1"}, set())
    assert addresses(space, "lo") == {"127.0.0.1"}


def test_what_was_there_before_us_stays(space, vips):
    loopback = vips(Bind.LOOPBACK, "lo")
    space.run("ip", "address", "add", f"{VIP}/32", "dev", "lo")
    loopback.add(VIP)
    assert loopback.seen()[1] == set()
    loopback.remove(VIP)
    loopback.remove("127.0.0.1")
    assert addresses(space, "lo") == {"127.0.0.1", VIP}


def test_another_process_knows_what_is_ours(vips):
    vips(Bind.LOOPBACK, "lo").add(VIP)
    later = vips(Bind.LOOPBACK, "lo")
    assert later.seen()[1] == {VIP}
    later.remove(VIP)
    assert VIP not in later.addresses()


def test_one_that_somebody_took_away_is_added_again(space, vips):
    loopback = vips(Bind.LOOPBACK, "lo")
    loopback.add(VIP)
    space.run("ip", "address", "del", f"{VIP}/32", "dev", "lo")
    loopback.add(VIP)
    assert addresses(space, "lo") == {"127.0.0.1", VIP}
    space.run("ip", "address", "del", f"{VIP}/32", "dev", "lo")
    loopback.remove(VIP)
    assert loopback.seen()[1] == set()


def test_what_a_version_without_notes_has_added(space, folder, vips):
    (folder / "haproxy.cfg").write_text(f"frontend x\n    mode http\n    bind {VIP}:80\n")
    space.run("ip", "address", "add", f"{VIP}/32", "dev", "lo")
    space.run("ip", "address", "add", "192.0.2.77/32", "dev", "lo")
    vips(Bind.LOOPBACK, "lo").remove("192.0.2.77")
    vips(Bind.LOOPBACK, "lo").remove(VIP)
    assert addresses(space, "lo") == {"127.0.0.1", "192.0.2.77"}


def test_notes_that_are_damaged_are_said_to_be(folder, vips):
    (folder / FILE).write_text("[")
    with pytest.raises(Refused, match="is damaged"):
        vips(Bind.LOOPBACK, "lo").seen()


def known(neighbour):
    argv = [*neighbour.prefix, "ip", "-json", "neigh", "show", VIP]
    return json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout or "[]")


def test_a_network_hears_of_a_new_address(space, neighbour, vips):
    lan = vips(Bind.INTERFACE, "lan")
    assert known(neighbour) == []
    lan.add(VIP)
    assert addresses(space, "lan") == {MINE, VIP}
    eventually(lambda: known(neighbour))  # it has asked for nothing
    lan.remove(VIP)
    assert addresses(space, "lan") == {MINE}


def test_an_address_of_another_machine_is_not_taken(space, neighbour, vips):
    lan = vips(Bind.INTERFACE, "lan")
    assert lan.holder(VIP) == ""
    neighbour.run("ip", "address", "add", f"{VIP}/24", "dev", "far")
    assert len(lan.holder(VIP).split(":")) == 6
    with pytest.raises(Refused, match=f"another machine .* has the address {VIP}"):
        lan.add(VIP)
    assert (addresses(space, "lan"), lan.seen()[1]) == ({MINE}, set())


@pytest.mark.usefixtures("neighbour")
def test_an_interfaces_own_address_is_left_as_it_is(space, vips):
    own = vips(Bind.OWN, "lan")
    own.add(MINE)
    assert own.seen() == ({MINE}, set())
    own.remove(MINE)
    assert addresses(space, "lan") == {MINE}
    with pytest.raises(Refused, match=f"{VIP} is no address of lan"):
        own.add(VIP)


@pytest.mark.usefixtures("neighbour")
def test_it_moves_when_the_site_names_another_interface(space, vips):
    vips(Bind.LOOPBACK, "lo").add(VIP)
    lan = vips(Bind.INTERFACE, "lan")
    assert lan.seen() == ({MINE}, {VIP})
    lan.add(VIP)
    assert (addresses(space, "lo"), addresses(space, "lan")) == ({"127.0.0.1"}, {MINE, VIP})
