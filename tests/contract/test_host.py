"""What every host promises: effects may be repeated, and what was made is seen as it was made.

libvirt's own test driver stands for a real host. It has no agent and no power button, it sends no file either way,
enlarges none, copies none of a running domain and undefines without flags only: what needs those is held to the real
thing by the tests in ``e2e``, and of the fake in ``test_fake_host``.
"""

import threading
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from orchestrator.config.site import DIP_POOL, HostSite
from orchestrator.drivers.host import LibvirtHost
from orchestrator.errors import HostAway, Refused, VmroleError
from orchestrator.model import disks
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import DeploymentCopy, VolumeId, base_marker, base_volume
from orchestrator.model.setup import Setup
from orchestrator.model.spec import Disk, DiskKind, Size
from orchestrator.model.world import HostName, Lease, Power
from orchestrator.render.domain import MARK_NS
from orchestrator.render.volume import pool_path
from tests.fakes.build import DIGEST, HELLO, OWNER, web

SUBNET = IPv4Network("198.18.0.0/24")
ONE, TWO = (Lease(web(n).instance.mac, f"198.18.0.{10 + n}", f"web-{n}") for n in range(2))
NAMES = frozenset({HostName(ONE.ip, ONE.name), HostName(TWO.ip, TWO.name)})
MACHINE = web(0)
MIB = 1024**2
DATA = Disk("data", DiskKind.VOLUME, 64, "/data")
SPEC = MachineSpec(DIGEST, Size(), Setup(), (DATA, Disk("cache", DiskKind.LOCAL, 32, "/cache")))
VOLUME = VolumeId(MACHINE.instance, DATA.name)
PLACE = 2
FILES = {file for _disk, file in disks.files(MACHINE, SPEC, PLACE)}
COPY = DeploymentCopy(HELLO, 7)
NAME = "before"


class HostContract:
    """``host`` has nothing of ours; ``lay_base`` puts a base there, ``lay_disks`` what a machine starts from.

    ``forget``: somebody undefines a domain that runs. ``pause``: somebody pauses it.
    """

    @pytest.fixture
    def network(self, host):
        host.create_network(HELLO, SUBNET, frozenset({ONE}), NAMES)
        return host

    @pytest.fixture
    def defined(self, network, lay_disks):
        network.create_pool()
        lay_disks(network)
        for file in FILES:
            network.create_disk(file, 64 * MIB)
        network.define_domain(MACHINE, SPEC, PLACE)
        return network

    @pytest.fixture
    def stored(self, host):
        """A volume that nobody uses."""
        host.create_pool()
        host.create_disk(VOLUME.file, 64 * MIB)
        return host

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

    @pytest.mark.parametrize("ready", [(), (ONE,), (TWO,), (ONE, TWO)])
    def test_a_name_that_several_have_comes_and_goes_with_each(self, network, ready):
        def names(some):
            return NAMES | {HostName(lease.ip, "web", 1 + (ONE, TWO).index(lease)) for lease in some}

        for wanted in (names((ONE, TWO)), names(ready), names(ready), names((TWO,)), names((ONE,))):
            network.change_leases(HELLO.network, frozenset({ONE}), wanted)
            assert network.observe().networks[HELLO.network].names == wanted

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
        assert (seen.name, seen.power, seen.owner, seen.machine) == (MACHINE.domain, Power.OFF, OWNER, MACHINE)
        assert (seen.is_persistent, seen.place, seen.spec) == (True, PLACE, disks.fingerprint(SPEC))
        assert seen.files == {MACHINE.overlay, MACHINE.seed, base_volume(DIGEST), *FILES}
        assert MACHINE.console in defined.observe().volumes

    def test_a_domain_is_defined_twice(self, defined):
        defined.define_domain(MACHINE, SPEC, PLACE)
        assert list(defined.observe().domains) == [MACHINE.domain]

    def test_a_domain_is_defined_without_its_answer_file(self, defined):
        defined.define_domain(MACHINE, SPEC, PLACE, has_seed=False)
        assert defined.observe().domains[MACHINE.domain].files == {MACHINE.overlay, base_volume(DIGEST), *FILES}
        defined.eject_seed(MACHINE)  # nothing to do

    def test_a_domain_is_made_otherwise_while_it_is_off(self, defined):
        other = replace(SPEC, size=Size(2), disks=SPEC.disks[:1])
        defined.define_domain(MACHINE, other, PLACE + 1)
        seen = defined.observe().domains[MACHINE.domain]
        assert (seen.place, seen.spec) == (PLACE + 1, disks.fingerprint(other))
        assert seen.files == {MACHINE.overlay, MACHINE.seed, base_volume(DIGEST), VOLUME.file}

    def test_a_domain_that_somebody_undefined_while_it_runs_is_kept_by_defining_it(self, defined, forget):
        defined.start_domain(MACHINE)
        forget(defined)
        assert not defined.observe().domains[MACHINE.domain].is_persistent
        defined.define_domain(MACHINE, SPEC, PLACE)
        seen = defined.observe().domains[MACHINE.domain]
        assert (seen.is_persistent, seen.power, seen.machine) == (True, Power.RUNNING, MACHINE)

    def test_a_domain_that_nobody_keeps_is_gone_when_it_is_off(self, defined, forget):
        defined.start_domain(MACHINE)
        forget(defined)
        defined.destroy_domain(MACHINE.domain)
        assert defined.observe().domains == {}

    def test_the_time_that_processors_were_used(self, defined):
        assert defined.processor_times([MACHINE.domain, "nobody"]) == {}
        defined.start_domain(MACHINE)
        first = defined.processor_times([MACHINE.domain, "nobody"])
        assert set(first) == {MACHINE.domain}
        assert defined.processor_times([MACHINE.domain])[MACHINE.domain] >= first[MACHINE.domain] >= 0
        assert defined.processor_times([]) == {}

    def test_a_domain_is_started_and_switched_off_twice(self, defined):
        for _again in range(2):
            defined.start_domain(MACHINE)
            seen = defined.observe().domains[MACHINE.domain]
            assert (seen.power, seen.why) == (Power.RUNNING, "")
        for _again in range(2):
            defined.destroy_domain(MACHINE.domain)
            seen = defined.observe().domains[MACHINE.domain]
            assert (seen.power, seen.why) == (Power.OFF, "destroyed")

    def test_a_domain_that_somebody_paused_goes_on(self, defined, pause):
        defined.start_domain(MACHINE)
        pause(defined)
        seen = defined.observe().domains[MACHINE.domain]
        assert (seen.power, seen.why) == (Power.PAUSED, "by somebody")
        defined.resume_domain(MACHINE.domain)
        seen = defined.observe().domains[MACHINE.domain]
        assert (seen.power, seen.why) == (Power.RUNNING, "")

    def test_a_disk_that_is_there_stays_as_it_is(self, stored):
        for size_bytes in (64 * MIB, MIB, 128 * MIB):
            stored.create_disk(VOLUME.file, size_bytes)
            assert stored.observe().sizes == {VOLUME.file: 64 * MIB}
        assert stored.disk_usage()[VOLUME.file][0] == 64 * MIB

    def test_a_disk_never_becomes_smaller(self, stored):
        for size_bytes in (MIB, 64 * MIB):
            stored.grow_disk(VOLUME.file, size_bytes, "")
            assert stored.observe().sizes == {VOLUME.file: 64 * MIB}

    def test_sizes_are_of_disks(self, defined):
        clean = MACHINE.clean_disk("scratch")
        defined.create_disk(clean, MIB)
        assert set(defined.observe().sizes) == set(defined.disk_usage()) == {*FILES, clean}

    def test_a_base_that_nobody_wrote_into_is_not_altered(self, defined):
        assert defined.observe().altered == frozenset()

    def test_a_snapshot_is_made_twice(self, stored):
        for _again in range(2):
            stored.snapshot_volume(VOLUME, NAME, "")
            seen = stored.observe()
            assert {VOLUME.snapshot(NAME), VOLUME.snapshot_marker(NAME)} <= seen.volumes
            assert seen.sizes == {VOLUME.file: 64 * MIB, VOLUME.snapshot(NAME): 64 * MIB}

    def test_half_a_snapshot_is_made_anew(self, stored):
        stored.create_disk(VOLUME.snapshot(NAME), MIB)
        stored.snapshot_volume(VOLUME, NAME, "")
        assert stored.observe().sizes[VOLUME.snapshot(NAME)] == 64 * MIB
        assert VOLUME.snapshot_marker(NAME) in stored.observe().volumes

    def test_a_volume_that_is_not_whole_has_no_snapshot(self, stored):
        stored.create_disk(VOLUME.coming, 0)
        with pytest.raises(Refused, match="not whole"):
            stored.snapshot_volume(VOLUME, NAME, "")
        assert VOLUME.snapshot(NAME) not in stored.observe().volumes

    @pytest.mark.parametrize("lost", [(), (VOLUME.file,)], ids=["whole", "after a crash"])
    def test_a_volume_is_put_back_twice(self, stored, lost):
        stored.snapshot_volume(VOLUME, NAME, "")
        for file in lost:
            stored.delete_volume(file)
            stored.create_disk(VOLUME.coming, 0)
        for _again in range(2):
            stored.restore_volume(VOLUME, NAME)
            seen = stored.observe()
            assert seen.sizes == {VOLUME.file: 64 * MIB, VOLUME.snapshot(NAME): 64 * MIB}
            assert VOLUME.coming not in seen.volumes

    @pytest.mark.parametrize("half", [VOLUME.snapshot(NAME), VOLUME.snapshot_marker(NAME)])
    def test_a_volume_is_not_put_back_to_what_is_not_whole(self, stored, half):
        stored.snapshot_volume(VOLUME, NAME, "")
        stored.delete_volume(half)
        with pytest.raises(Refused, match="no whole snapshot"):
            stored.restore_volume(VOLUME, NAME)
        assert VOLUME.file in stored.observe().volumes
        assert VOLUME.coming not in stored.observe().volumes

    def test_a_copy_of_a_record_is_stored_twice(self, stored):
        for _again in range(2):
            stored.put_copy(COPY, b"")
            assert {COPY.file, COPY.marker} <= stored.observe().volumes
            with stored.export_volume(COPY.file) as pieces:
                assert b"".join(pieces) == b""

    def test_what_is_not_there_can_be_taken_away(self, host):
        host.destroy_domain(MACHINE.domain)
        host.undefine_domain(MACHINE.domain)
        host.delete_network(HELLO.network)
        host.eject_seed(MACHINE)
        host.delete_volume(MACHINE.overlay)
        host.delete_pool()
        assert host.observe().domains == {}

    def test_what_is_not_there_cannot_be_used(self, host):
        for act in (
            lambda: host.start_domain(MACHINE),
            lambda: host.resume_domain(MACHINE.domain),
            lambda: host.create_overlay(MACHINE, DIGEST, 0),
            lambda: host.create_disk(VOLUME.file, MIB),
            lambda: host.grow_disk(VOLUME.file, MIB, ""),
            lambda: host.snapshot_volume(VOLUME, NAME, ""),
            lambda: host.restore_volume(VOLUME, NAME),
            lambda: host.put_copy(COPY, b""),
            lambda: read(host),
            lambda: host.change_leases(HELLO.network, frozenset(), frozenset()),
            lambda: host.agent(MACHINE.domain, "guest-ping", {}, 1.0),
        ):
            with pytest.raises(VmroleError):
                act()

    def test_a_console_that_is_not_there_has_no_lines(self, host):
        assert host.console(MACHINE) == ()


def read(host) -> bytes:
    with host.export_volume(VOLUME.file) as pieces:
        return b"".join(pieces)


NODE = f"""<node>
  <network><name>somebody</name><bridge name="virbr0"/><ip address="192.168.5.1" netmask="255.255.255.0"/></network>
  <domain type="test"><name>hello.production.web-9.g1</name><memory>65536</memory><os><type>hvm</type></os></domain>
  <domain type="test"><name>desktop</name><memory>65536</memory><os><type>hvm</type></os></domain>
  <domain type="test"><name>renamed</name><memory>65536</memory><os><type>hvm</type></os><metadata>
    <v:machine xmlns:v="{MARK_NS}" owner="other" service="a" slot="production" role="b" ordinal="3" generation="4"/>
  </metadata></domain>
  <domain type="test"><name>thief</name><memory>65536</memory><os><type>hvm</type></os><devices>
    <disk type="file" device="disk"><source file="{pool_path(OWNER)}/{VOLUME.file}"/><target dev="vda"/></disk>
  </devices></domain>
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

    @pytest.fixture
    def forget(self):
        return lambda host: host._connection.get().lookupByName(MACHINE.domain).undefineFlags(0)

    @pytest.fixture
    def pause(self):
        return lambda host: host._connection.get().lookupByName(MACHINE.domain).suspend()

    def test_what_others_have_is_seen_as_not_ours(self, tmp_path):
        path = tmp_path / "others.xml"
        path.write_text(NODE)
        seen = LibvirtHost(HostSite("local", f"test://{path}", DIP_POOL, "nat", "kvm"), OWNER).observe()
        assert {name: (d.name, d.owner, str(d.machine), d.files) for name, d in seen.domains.items()} == {
            "hello.production.web-9.g1": ("hello.production.web-9.g1", "", "None", frozenset()),
            "renamed": ("renamed", "other", "a.production.b-3.g4", frozenset()),
            "thief": ("thief", "", "None", {VOLUME.file}),
        }
        assert (seen.networks["somebody"].owner, seen.networks["somebody"].subnet) == (
            "",
            IPv4Network("192.168.5.0/24"),
        )

    def test_another_homes_network_is_refused_and_left_alone(self, network, uri):
        other = LibvirtHost(HostSite("local", uri, DIP_POOL, "nat", "kvm"), "somebody")
        other._connection = network._connection
        other._networks._connection = network._connection
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
