"""The disc of drivers that a Windows is set up with: on its host, in its second drive, and gone when it is ready."""

import json
from dataclasses import replace

from lxml import etree

from orchestrator.engine.imagery import blockers, driver_uses, lacking, removable, stored_uses, users
from orchestrator.model.disks import fingerprint
from orchestrator.model.image import Image, Traits, platform_of
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import base_marker, base_volume
from orchestrator.model.record import Intent
from orchestrator.model.spec import Disk, DiskKind, Platform
from orchestrator.render.domain import Surroundings, domain_xml, emptied_drives
from orchestrator.render.records import dump_deployment, load_deployment
from orchestrator.render.winscript import plan
from tests.fakes.build import DIGEST, OWNER, deployment, record, role, service, web
from tests.fakes.invariants import violations
from tests.fakes.small import digest_of
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import reimage
from tests.unit.test_unattend import FULL, TOLD, machine, reveal

DISC = digest_of("debian-13")  # any image of the fake repository
WINDOWS = Platform("windows", "uefi", drivers=DISC)
SEED = f"/pool/{web(0).seed}"


def asked(**changes: object) -> MachineSpec:
    return replace(machine(FULL), platform=replace(WINDOWS, **changes))


def drives(spec: MachineSpec, *, has_seed: bool = True) -> list[tuple[str, str, str]]:
    """(device, format, file) of each."""
    xml = domain_xml(web(0), spec, 1, Surroundings(OWNER, "/pool", "tcg"), has_seed=has_seed)
    found = etree.fromstring(xml).iterfind("devices/disk[@device='cdrom']")
    return [(d.find("target").get("dev"), d.find("driver").get("type"), d.xpath("string(source/@file)")) for d in found]


def test_only_a_windows_is_set_up_with_drivers():
    traits = Traits(os="windows", firmware="uefi", drivers=DISC)
    assert platform_of(traits) == WINDOWS
    assert platform_of(replace(traits, os="linux")).drivers == ""


def test_it_is_in_a_second_drive_that_stays_when_it_is_empty():
    disc = f"/pool/{base_volume(DISC)}"
    assert drives(asked()) == [("sda", "raw", SEED), ("sdb", "qcow2", disc)]
    assert drives(asked(), has_seed=False) == [("sda", "raw", ""), ("sdb", "qcow2", "")]
    assert drives(asked(drivers="")) == [("sda", "raw", SEED)]
    beside = replace(asked(virtio=False), disks=(Disk("a", DiskKind.LOCAL, 128, "D:\\"),))
    assert [device for device, _form, _file in drives(beside)] == ["sdc", "sdd"]


def test_the_answer_files_drive_is_emptied_last():
    xml = domain_xml(web(0), asked(), 1, Surroundings(OWNER, "/pool", "tcg"))
    emptied = [etree.fromstring(drive) for drive in emptied_drives(xml, SEED)]
    assert [drive.find("target").get("dev") for drive in emptied] == ["sdb", "sda"]
    assert [drive.find("source") for drive in emptied] == [None, None]


def test_the_plan_asks_for_what_is_on_it_only_where_there_is_one():
    told = [json.loads(plan(record(machine=spec), TOLD, reveal))["drivers"] for spec in (asked(), asked(drivers=""))]
    assert told == [True, False]


def test_a_mark_from_before_there_were_discs_of_drivers_is_known():
    assert fingerprint(asked()) == fingerprint(asked(drivers=""))


def test_a_record_has_it_and_one_from_before_is_read():
    known = deployment(platforms={"web": WINDOWS})
    text = dump_deployment(known)
    assert load_deployment(text) == known
    old = text.replace(f',"drivers":"{DISC}"'.encode(), b"")
    assert old != text
    assert load_deployment(old).platforms == {"web": replace(WINDOWS, drivers="")}


def test_who_needs_it():
    win = Image("win", "1", DIGEST, 1, 1, 1.0, traits=Traits(os="windows", drivers=DISC))
    disc = Image("virtio-win", "2026-01-01", DISC, 1, 1, 1.0)
    newer = replace(disc, version="2026-02-01", digest=digest_of("newer"), added=2.0)
    assert users(DISC, driver_uses((win, disc))) == ("image win:1 (its drivers)",)
    assert blockers(disc, (win, disc), ()) == ("image win:1 (its drivers)",)
    assert removable((win, disc, newer), ()) == ()
    assert removable((replace(win, traits=Traits()), disc, newer), ()) == (disc,)
    made = record(machine=asked())
    uses = stored_uses(Intent(OWNER, (deployment(platforms={"web": WINDOWS}),), (made,)))
    assert users(DISC, uses) == ("hello/web-0", "hello (role web)")


def test_a_way_back_names_what_the_repository_has_no_more():
    wanted = deployment(platforms={"web": WINDOWS})
    image, disc = (Image(n, "1", digest, 1, 1, 1.0) for n, digest in (("debian-12", DIGEST), ("virtio-win", DISC)))
    assert lacking(wanted, (image, disc)) == ()
    assert lacking(wanted, (image,)) == (f"the disc of drivers {DISC} (role web)",)
    assert lacking(wanted, ()) == ("debian-12 (role web)", f"the disc of drivers {DISC} (role web)")
    assert lacking(deployment(), (image,)) == ()


def test_it_is_on_the_host_before_the_machine_and_out_of_it_when_that_is_ready():
    world = FakeWorld()
    key = world.up(service(role()))
    known = world.store.intent().deployment(key)
    world.store.save_deployment(replace(known, platforms={"web": WINDOWS}))
    world.settle()
    done = [f"{name} {what}" for name, what in world.faults.done]
    assert done.index(f"place_image {DISC}") < done.index(f"define_domain {web(0).domain}")
    (host,) = world.hosts.values()
    assert base_volume(DISC) not in host.domains[web(0).domain].files
    assert {base_volume(DISC), base_marker(DISC)} <= set(host.volumes)
    assert violations(world) == []
    world.ask(reimage)
    world.settle()
    assert {web(0, 2).seed, base_volume(DISC)} & host.domains[web(0, 2).domain].files == set()
    assert web(0, 2).seed not in host.volumes
    world.down(key)
    world.settle()
    assert base_volume(DISC) not in host.volumes
