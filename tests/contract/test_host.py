"""What every host promises: effects may be repeated, and what was made is seen as it was made.

libvirt's own test driver stands for a real host. It has no agent, uploads nothing and undefines without flags only:
what needs those is held to the real thing by the tests in ``e2e``.
"""

import threading
from ipaddress import IPv4Network

import pytest

from orchestrator.config.site import DIP_POOL, HostSite
from orchestrator.drivers.host import LibvirtHost
from orchestrator.errors import HostAway, Refused, VmroleError
from orchestrator.model.names import base_marker, base_volume
from orchestrator.model.spec import Size
from orchestrator.model.world import HostName, Lease, Power
from tests.fakes.build import DIGEST, HELLO, OWNER, web
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults
from tests.fakes.guests import Script
from tests.fakes.host import FakeHost

SUBNET = IPv4Network("198.18.0.0/24")
ONE, TWO = (Lease(web(n).instance.mac, f"198.18.0.{10 + n}", f"web-{n}") for n in range(2))
NAMES = frozenset({HostName(ONE.ip, ONE.name), HostName(TWO.ip, TWO.name)})
MACHINE = web(0)


class HostContract:
    """``host`` has nothing of ours; ``lay_base`` puts a base there, ``lay_disks`` what a machine starts from."""

    @pytest.fixture
    def network(self, host):
        host.create_network(HELLO, SUBNET, frozenset({ONE}), NAMES)
        return host

    @pytest.fixture
    def defined(self, network, lay_disks):
        network.create_pool()
        lay_disks(network)
        network.define_domain(MACHINE, DIGEST, Size())
        return network

    def test_nothing_of_ours_is_there_at_first(self, host):
        seen = host.observe()
        assert (seen.name, seen.problem, dict(seen.domains), seen.has_pool) == ("local", "", {}, False)
        assert HELLO.network not in seen.networks

    def test_a_network_is_seen_as_it_was_made(self, network):
        seen = network.observe().networks[HELLO.network]
        assert (seen.active, seen.owner, seen.subnet) == (True, OWNER, SUBNET)
        assert (seen.leases, seen.names) == ({ONE}, NAMES)

    def test_a_network_is_made_twice(self, network):
        network.create_network(HELLO, SUBNET, frozenset({ONE}), NAMES)
        assert network.observe().networks[HELLO.network].active

    @pytest.mark.parametrize("leases", [(), (ONE,), (TWO,), (ONE, TWO)])
    def test_leases_change_to_what_is_wanted_twice(self, network, leases):
        wanted, names = frozenset(leases), frozenset(HostName(lease.ip, lease.name) for lease in leases)
        for _again in range(2):
            network.change_leases(HELLO.network, wanted, names)
            seen = network.observe().networks[HELLO.network]
            assert (seen.leases, seen.names) == (wanted, names)

    def test_a_network_goes_twice(self, network):
        for _again in range(2):
            network.delete_network(HELLO.network)
            assert HELLO.network not in network.observe().networks

    def test_a_pool_comes_and_goes_twice(self, host):
        for _again in range(2):
            host.create_pool()
            assert host.observe().has_pool
        for _again in range(2):
            host.delete_pool()
            assert not host.observe().has_pool

    def test_a_volume_goes_twice(self, defined):
        defined.create_pool()
        other = web(5)
        defined.create_overlay(other, DIGEST, 0)
        assert other.overlay in defined.observe().volumes
        for _again in range(2):
            defined.delete_volume(other.overlay)
            assert other.overlay not in defined.observe().volumes

    def test_no_overlay_is_made_on_a_base_that_is_not_whole(self, host, lay_base):
        host.create_pool()
        lay_base(host)
        host.delete_volume(base_marker(DIGEST))
        assert base_volume(DIGEST) in host.observe().volumes
        with pytest.raises(Refused):
            host.create_overlay(MACHINE, DIGEST, 0)
        assert MACHINE.overlay not in host.observe().volumes

    def test_a_domain_is_off_and_ours_when_it_is_defined(self, defined):
        seen = defined.observe().domains[MACHINE.domain]
        assert (seen.power, seen.owner) == (Power.OFF, OWNER)
        assert MACHINE.console in defined.observe().volumes

    def test_a_domain_is_defined_twice(self, defined):
        defined.define_domain(MACHINE, DIGEST, Size())
        assert list(defined.observe().domains) == [MACHINE.domain]

    def test_a_domain_is_started_and_switched_off_twice(self, defined):
        for _again in range(2):
            defined.start_domain(MACHINE)
            assert defined.observe().domains[MACHINE.domain].power is Power.RUNNING
        for _again in range(2):
            defined.destroy_domain(MACHINE.domain)
            assert defined.observe().domains[MACHINE.domain].power is Power.OFF

    def test_what_is_not_there_can_be_taken_away(self, host):
        host.destroy_domain(MACHINE.domain)
        host.undefine_domain(MACHINE.domain)
        host.delete_network(HELLO.network)
        host.delete_volume(MACHINE.overlay)
        host.delete_pool()
        assert host.observe().domains == {}

    def test_what_is_not_there_cannot_be_used(self, host):
        for act in (
            lambda: host.start_domain(MACHINE),
            lambda: host.resume_domain(MACHINE.domain),
            lambda: host.create_overlay(MACHINE, DIGEST, 0),
            lambda: host.change_leases(HELLO.network, frozenset(), frozenset()),
            lambda: host.agent(MACHINE.domain, "guest-ping", {}, 1.0),
        ):
            with pytest.raises(VmroleError):
                act()

    def test_a_console_that_is_not_there_has_no_lines(self, host):
        assert host.console(MACHINE) == ()


class TestFakeHost(HostContract):
    @pytest.fixture
    def host(self):
        return FakeHost("local", OWNER, FakeClock(), Faults(), lambda _name: Script())

    @pytest.fixture
    def lay_base(self, tmp_path):
        return lambda host: host.place_image(DIGEST, tmp_path, lambda _text: None)

    @pytest.fixture
    def lay_disks(self, lay_base):
        def lay(host: FakeHost) -> None:
            lay_base(host)
            host.create_overlay(MACHINE, DIGEST, 0)
            host.create_seed(MACHINE, b"disc")

        return lay

    def test_a_domain_goes_twice(self, defined):
        for _again in range(2):
            defined.undefine_domain(MACHINE.domain)
            assert defined.observe().domains == {}

    def test_a_host_that_is_away_says_so(self, host):
        host.is_away = True
        with pytest.raises(HostAway):
            host.observe()


NODE = """<node>
  <network><name>somebody</name><bridge name="virbr0"/><ip address="192.168.5.1" netmask="255.255.255.0"/></network>
  <domain type="test"><name>hello.production.web-9.g1</name><memory>65536</memory><os><type>hvm</type></os></domain>
  <domain type="test"><name>desktop</name><memory>65536</memory><os><type>hvm</type></os></domain>
</node>"""


@pytest.mark.real
class TestLibvirtHost(HostContract):
    @pytest.fixture
    def uri(self, tmp_path):
        path = tmp_path / "node.xml"  # every connection to a file has a world of its own
        path.write_text("<node/>")
        return f"test://{path}"

    @pytest.fixture
    def host(self, uri):
        return LibvirtHost(HostSite("local", uri, DIP_POOL, "nat", "kvm"), OWNER)

    @pytest.fixture
    def lay_base(self):
        def lay(host: LibvirtHost) -> None:
            for volume in (base_volume(DIGEST), base_marker(DIGEST)):
                host._pool.put(volume, b"", "0444")  # the test driver takes no uploads: an empty file needs none

        return lay

    @pytest.fixture
    def lay_disks(self, lay_base):
        def lay(host: LibvirtHost) -> None:
            lay_base(host)
            host.create_overlay(MACHINE, DIGEST, 0)

        return lay

    def test_what_others_have_is_seen_as_not_ours(self, tmp_path):
        path = tmp_path / "others.xml"
        path.write_text(NODE)
        seen = LibvirtHost(HostSite("local", f"test://{path}", DIP_POOL, "nat", "kvm"), OWNER).observe()
        assert {name: domain.owner for name, domain in seen.domains.items()} == {"hello.production.web-9.g1": ""}
        assert (seen.networks["somebody"].owner, seen.networks["somebody"].subnet) == (
            "",
            IPv4Network("192.168.5.0/24"),
        )

    def test_another_homes_network_is_refused_and_left_alone(self, network, uri):
        other = LibvirtHost(HostSite("local", uri, DIP_POOL, "nat", "kvm"), "somebody")
        other._connection = network._connection
        with pytest.raises(Refused):
            other.create_network(HELLO, SUBNET, frozenset(), frozenset())
        assert network.observe().networks[HELLO.network].leases == {ONE}

    def test_a_daemon_that_is_not_there_is_away(self, tmp_path):
        uri = f"qemu+unix:///system?socket={tmp_path}/none"
        with pytest.raises(HostAway, match="does not answer"):
            LibvirtHost(HostSite("far", uri, DIP_POOL, "nat", "kvm"), OWNER).observe()

    def test_watching_wakes_when_a_domain_changes(self, defined):
        woken = threading.Event()
        defined.watch(woken.set)
        defined.start_domain(MACHINE)
        assert woken.wait(5)
