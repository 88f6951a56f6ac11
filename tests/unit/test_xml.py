"""Definitions for libvirt: no text becomes an element, and no disk's chain is left open for a probe."""

from dataclasses import replace
from ipaddress import IPv4Network

import pytest
from lxml import etree

from orchestrator.model import disks
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import DeploymentId, InstanceId, MachineId
from orchestrator.model.setup import Setup
from orchestrator.model.spec import Disk, DiskKind, Size
from orchestrator.model.world import HostName, Lease
from orchestrator.render.domain import MARK_NS, Surroundings, describe, device_of, domain_xml, emptied_drives
from orchestrator.render.network import DNSMASQ_NS, NetworkWish, host_element, lease_element, network_xml, text
from orchestrator.render.volume import (
    backup_xml,
    base_volume_xml,
    file_state,
    overlay_xml,
    pool_path,
    pool_xml,
    raw_volume_xml,
)
from tests.fakes.build import DIGEST, HELLO, OWNER, web

AROUND = Surroundings(OWNER, "/pool", "kvm")
DISKS = (
    Disk("data", DiskKind.VOLUME, 64, "/data"),
    Disk("cache", DiskKind.LOCAL, 32, "/cache"),
    Disk("scratch", DiskKind.LOCAL, 16, "/scratch", is_clean=True),
)
SPEC = MachineSpec(DIGEST, Size(2, 768), Setup(), DISKS)
HOSTILE = ['"><disk type="block"/>', "]]>", "&lt;x&gt;", "<!--", "';DROP", "a&b", "ä\u202e", "x" * 10_000]


def wish(name: str = "web-0", deployment: DeploymentId = HELLO) -> NetworkWish:
    lease = Lease("52:54:00:00:00:01", "198.18.0.10", name)
    names = frozenset({HostName("198.18.0.10", name)})
    return NetworkWish(deployment, OWNER, "nat", IPv4Network("198.18.0.0/24"), frozenset({lease}), names)


def named(word: str) -> MachineId:
    return MachineId(InstanceId(DeploymentId(word), word, 0), 1)


def worded(word: str) -> MachineSpec:
    return MachineSpec(word, Size(), Setup(), (replace(DISKS[0], name=word), replace(DISKS[1], name=word)))


RENDERERS = {
    "domain": lambda w: domain_xml(named(w), worded(w), 1, replace(AROUND, owner=w, pool_path=f"/{w}")),
    "network": lambda w: network_xml(wish(w, DeploymentId(w))),
    "pool": pool_xml,
    "overlay": lambda w: overlay_xml(named(w), w, 1, w),
    "base": lambda w: base_volume_xml(w, 1),
    "file": lambda w: raw_volume_xml(w, 1, "0600"),
    "backup": lambda w: backup_xml(w, f"/{w}"),
    "lease": lambda w: text(lease_element(Lease(w, w, w))),
    "host name": lambda w: text(host_element(w, [HostName(w, w)])),
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
    return etree.fromstring(domain_xml(web(0, 3), SPEC, 2, replace(AROUND, **changes)))


def test_every_disks_chain_is_spelled_out_to_its_end():
    found = domain().findall("devices/disk")
    assert len(found) == 2 + len(DISKS)
    for disk in found:
        assert disk.find("driver").get("type") in {"raw", "qcow2"}
        innermost = disk
        while (below := innermost.find("backingStore")) is not None:
            innermost = below
        assert innermost is not disk
        assert len(innermost) == 0
    overlay = next(disk for disk in found if disk.get("device") == "disk")
    assert overlay.find("backingStore/format").get("type") == "qcow2"


def test_disks_follow_the_overlay_in_their_order_and_have_serials():
    found = [disk for disk in domain().findall("devices/disk") if disk.get("device") == "disk"]
    assert [disk.find("target").get("dev") for disk in found] == ["vda", "vdb", "vdc", "vdd"]
    assert [disk.find("source").get("file") for disk in found[1:]] == [
        "/pool/hello.production.web-0.data.volume.raw",
        "/pool/hello.production.web-0.cache.p2.local.raw",
        "/pool/hello.production.web-0.g3.scratch.clean.raw",
    ]
    assert [disk.findtext("serial") for disk in found] == [None, *(disks.serial(disk) for disk in DISKS)]
    assert {disk.find("driver").get("discard") for disk in found} == {"unmap"}


def test_a_machine_carries_our_mark():
    (mark,) = domain().findall(f"metadata/{{{MARK_NS}}}machine")
    assert dict(mark.attrib) == {
        "owner": OWNER, "service": "hello", "slot": "production", "role": "web", "ordinal": "0", "generation": "3",
        "place": "2", "spec": disks.fingerprint(SPEC),
    }  # fmt: skip


def described(xml: str) -> tuple:
    said = describe(xml, OWNER, pool_path(OWNER))
    return said.is_marked, said.owner, said.machine, said.place, said.spec


def test_a_definition_is_read_back_as_it_was_made():
    xml = domain_xml(web(0, 3), SPEC, 2, replace(AROUND, pool_path=pool_path(OWNER)))
    assert described(xml) == (True, OWNER, web(0, 3), 2, disks.fingerprint(SPEC))
    files = {file for _disk, file in disks.files(web(0, 3), SPEC, 2)}
    base = f"base.{DIGEST.removeprefix('sha256:')}.qcow2"
    assert describe(xml, OWNER, pool_path(OWNER)).files == {web(0, 3).overlay, web(0, 3).seed, base, *files}
    assert describe(xml, OWNER, "/another").files == frozenset()


GOOD = {"service": "hello", "slot": "production", "role": "web", "ordinal": "0", "generation": "3"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": "0"}, {"generation": "9" * 5000}, {"generation": ""}, {"generation": "3.g4"}, {"ordinal": "-1"},
        {"ordinal": "1-2"}, {"role": "web-1", "ordinal": ""}, {"role": "a.b"}, {"service": "a.b"}, {"slot": "x"},
        {"service": "../../etc"}, {"service": "\u0663"}, {"ordinal": "\u0663"}, {"role": "web\n"},
    ],
)  # fmt: skip
def test_a_mark_that_breaks_the_rules_of_names_names_nobody(wrong):
    mark = etree.Element(f"{{{MARK_NS}}}machine", {**GOOD, **wrong, "owner": "x", "place": "1e9", "spec": "<&>"})
    xml = f"<domain><metadata>{etree.tostring(mark, encoding='unicode')}</metadata></domain>"
    assert described(xml) == (True, "x", None, 1, "")


def test_what_has_no_mark_has_no_owner():
    assert described("<domain/>") == (False, "", None, 1, "")


POOL_DISKS = f"""<domain><devices>
  <disk><source file="{pool_path(OWNER)}/a.raw"/></disk>
  <disk><source file="{pool_path(OWNER)}/../vmrole-{OWNER}//b.raw"/></disk>
  <disk>
    <source file="/elsewhere/top.qcow2"/><backingStore><source file="{pool_path(OWNER)}/c.raw"/></backingStore>
  </disk>
  <disk><source pool="vmrole-{OWNER}" volume="d.raw"/></disk>
  <disk><source file="{pool_path(OWNER)}-other/e.raw"/></disk>
  <disk><source dev="/dev/sda"/></disk>
  <disk device="cdrom"/>
  <serial><log file="{pool_path(OWNER)}/f.log"/><source file="{pool_path(OWNER)}/g.log"/></serial>
</devices></domain>"""


def test_files_of_our_pool_are_found_however_they_are_said():
    assert describe(POOL_DISKS, OWNER, pool_path(OWNER)).files == {"a.raw", "b.raw", "c.raw", "d.raw"}


def test_a_disk_is_found_by_its_file():
    xml = domain_xml(web(0, 3), SPEC, 2, AROUND)
    assert device_of(xml, "/pool/hello.production.web-0.data.volume.raw") == "vdb"
    assert device_of(xml, "/pool/nothing") == ""


def test_a_files_state_is_its_size_and_its_time():
    said = "<volume><physical>5</physical><target><timestamps><mtime>1.5</mtime></timestamps></target></volume>"
    assert (file_state(said), file_state("<volume/>")) == ("5 1.5", "")


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


def test_an_isolated_network_leads_nowhere():
    root = etree.fromstring(network_xml(replace(wish(), forward="")))
    assert root.find("forward") is None
    assert root.find("ip/dhcp") is not None
    assert said_to_dnsmasq(wish(), forward="") == ["no-resolv", "local=/#/"]


def said_to_dnsmasq(wanted, **changes):
    options = etree.fromstring(network_xml(replace(wanted, **changes))).find(f"{{{DNSMASQ_NS}}}options")
    return [option.get("value") for option in options] if options is not None else []


def test_only_who_has_dns_servers_to_ask_passes_names_on():
    assert said_to_dnsmasq(wish(), forward="nat") == []
    assert said_to_dnsmasq(wish(), forward="open") == []
    assert said_to_dnsmasq(wish(), forward="open", upstream=False) == ["no-resolv", "local=/#/"]


def test_an_emptied_drive_is_the_same_drive_without_a_disc():
    full = domain_xml(web(0), SPEC, 1, AROUND)
    seen = full.replace('<target dev="sda"', '<alias name="scsi0-0-0-0"/><target dev="sda"')  # as libvirt tells it
    (drive,) = map(etree.fromstring, emptied_drives(seen, f"/pool/{web(0).seed}"))
    assert [child.tag for child in drive] == ["driver", "target", "readonly"]
    assert (drive.get("device"), drive.find("target").get("dev")) == ("cdrom", "sda")
    without = etree.fromstring(domain_xml(web(0), SPEC, 1, AROUND, has_seed=False))
    (made,) = without.findall("devices/disk[@device='cdrom']")
    assert [(c.tag, dict(c.attrib)) for c in made] == [(c.tag, dict(c.attrib)) for c in drive]


@pytest.mark.parametrize("path", ["/pool/other.seed.iso", f"/pool/{web(0).overlay}"])
def test_a_drive_that_has_another_disc_is_left_alone(path):
    assert emptied_drives(domain_xml(web(0), SPEC, 1, AROUND), path) == []
