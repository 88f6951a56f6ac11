"""Definitions for libvirt: no text becomes an element, and no disk's chain is left open for a probe."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from lxml import etree

from orchestrator.model.names import DeploymentId, InstanceId, MachineId
from orchestrator.model.spec import Size
from orchestrator.model.world import HostName, Lease
from orchestrator.render.domain import MARK_NS, Surroundings, domain_xml
from orchestrator.render.network import NetworkWish, host_element, lease_element, network_xml, text
from orchestrator.render.volume import base_volume_xml, overlay_xml, pool_xml, raw_volume_xml
from tests.fakes.build import DIGEST, HELLO, OWNER, web

AROUND = Surroundings(OWNER, "/pool", "kvm")
HOSTILE = ['"><disk type="block"/>', "]]>", "&lt;x&gt;", "<!--", "';DROP", "a&b", "ä\u202e", "x" * 10_000]


def wish(name: str = "web-0", deployment: DeploymentId = HELLO) -> NetworkWish:
    lease = Lease("52:54:00:00:00:01", "198.18.0.10", name)
    names = frozenset({HostName("198.18.0.10", name)})
    return NetworkWish(deployment, OWNER, "nat", IPv4Network("198.18.0.0/24"), frozenset({lease}), names)


def named(word: str) -> MachineId:
    return MachineId(InstanceId(DeploymentId(word), word, 0), 1)


RENDERERS = {
    "domain": lambda w: domain_xml(named(w), Size(), w, replace(AROUND, owner=w, pool_path=f"/{w}")),
    "network": lambda w: network_xml(wish(w, DeploymentId(w))),
    "pool": pool_xml,
    "overlay": lambda w: overlay_xml(named(w), w, 1, w),
    "base": lambda w: base_volume_xml(w, 1),
    "file": lambda w: raw_volume_xml(w, 1, "0600"),
    "lease": lambda w: text(lease_element(Lease(w, w, w))),
    "host name": lambda w: text(host_element(HostName(w, w))),
}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("name", RENDERERS)
def test_a_hostile_word_adds_no_element(name, hostile):
    plain, found = (etree.fromstring(RENDERERS[name](word)) for word in ("word", hostile))
    assert [element.tag for element in found.iter()] == [element.tag for element in plain.iter()]
    assert hostile in "".join((e.text or "") + "".join(map(str, e.attrib.values())) for e in found.iter())


@pytest.mark.parametrize("hostile", ["a\0b", "a\x1bb", "\ud800"])
@pytest.mark.parametrize("name", RENDERERS)
def test_what_xml_cannot_say_is_refused(name, hostile):
    with pytest.raises(ValueError, match=r"XML compatible|surrogates"):
        RENDERERS[name](hostile)


def domain(**changes: object) -> etree._Element:
    return etree.fromstring(domain_xml(web(0, 3), Size(2, 768), DIGEST, replace(AROUND, **changes)))


def test_every_disks_chain_is_spelled_out_to_its_end():
    disks = domain().findall("devices/disk")
    assert len(disks) == 2
    for disk in disks:
        assert disk.find("driver").get("type") in {"raw", "qcow2"}
        innermost = disk
        while (below := innermost.find("backingStore")) is not None:
            innermost = below
        assert innermost is not disk
        assert len(innermost) == 0
    overlay = next(disk for disk in disks if disk.get("device") == "disk")
    assert overlay.find("backingStore/format").get("type") == "qcow2"


def test_a_machine_carries_our_mark():
    (mark,) = domain().findall(f"metadata/{{{MARK_NS}}}machine")
    assert dict(mark.attrib) == {
        "owner": OWNER, "service": "hello", "slot": "production", "role": "web", "ordinal": "0", "generation": "3",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("accelerator", "kind", "cpu"), [("kvm", "kvm", "host-passthrough"), ("tcg", "qemu", "maximum")]
)
def test_a_machine_runs_with_what_was_proven(accelerator, kind, cpu):
    root = domain(accelerator=accelerator)
    assert (root.get("type"), root.find("cpu").get("mode")) == (kind, cpu)


def test_a_machine_is_as_large_as_asked():
    root = domain()
    assert (root.findtext("vcpu"), root.findtext("memory"), root.find("memory").get("unit")) == ("2", "768", "MiB")


def test_a_crash_of_the_guest_is_kept_and_a_power_off_is_an_end():
    root = domain()
    assert [root.findtext(f"on_{what}") for what in ("poweroff", "reboot", "crash")] == [
        "destroy",
        "restart",
        "preserve",
    ]


def test_an_overlays_base_has_its_format_spelled_out():
    root = etree.fromstring(overlay_xml(web(0), DIGEST, 5, OWNER))
    assert root.find("backingStore/format").get("type") == "qcow2"
    assert root.findtext("capacity") == "5"


def test_a_network_does_not_depend_on_the_order_of_its_members():
    one, two = (Lease(f"52:54:00:00:00:0{n}", f"198.18.0.1{n}", f"web-{n}") for n in (1, 2))
    texts = {network_xml(replace(wish(), leases=frozenset(pair))) for pair in ((one, two), (two, one))}
    assert len(texts) == 1


def test_the_gateway_is_no_guests_address():
    root = etree.fromstring(network_xml(wish()))
    assert root.find("ip").get("address") == "198.18.0.1"
    assert root.find("ip/dhcp/range").get("start") == "198.18.0.2"
