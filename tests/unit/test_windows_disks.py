"""Disks of Windows: where they may be mounted, and what the script is told of them."""

import base64
import json
from dataclasses import replace

import pytest
from lxml import etree

from orchestrator.drivers.guest import AgentGuests
from orchestrator.engine import runtime
from orchestrator.engine.suitability import unfit_for_linux
from orchestrator.errors import AgentRefused
from orchestrator.model.disks import serial
from orchestrator.model.spec import Disk, DiskKind
from orchestrator.model.vicinity import Vicinity
from orchestrator.model.winpath import mount_problem, one_form, order
from orchestrator.render.domain import Surroundings, domain_xml
from orchestrator.render.winscript import plan
from tests.fakes.build import OWNER, record, role, web
from tests.fakes.clock import FakeClock
from tests.unit.test_guest import Agent
from tests.unit.test_unattend import FULL, TOLD, machine, problems, reveal


def test_disks_that_windows_cannot_mount_are_found_before_anything_is_done():
    def disk(name: str, mount: str, kind: DiskKind = DiskKind.VOLUME, **changes: object) -> Disk:
        return replace(Disk(name, kind, 1024, mount), **changes)

    good = (disk("a", "D:\\"), disk("b", r"D:\data"), disk("c", "/srv/c"), disk("d", "/e", mode="0700"))
    assert problems(FULL, disks=good) == {}
    wrong = (
        disk("a", "/windows/x"), disk("b", "/srv/b"), disk("c", r"C:\SRV\B", DiskKind.LOCAL),
        disk("d", "D:\\", owner="app:app", size_mib=64),
    )  # fmt: skip
    assert set(problems(FULL, disks=wrong)) == {
        f"roles.web.{path}"
        for path in ("volumes.a.mount", "local_storage.c.mount", "volumes.d.owner", "volumes.d.size")
    }


def test_a_disk_of_windows_is_refused_on_linux():
    web = role(disks=(Disk("a", DiskKind.VOLUME, 1024, "D:\\"), Disk("b", DiskKind.LOCAL, 1024, "/b")))
    assert [path for path, _why in unfit_for_linux(web)] == [("volumes", "a", "mount")]


@pytest.mark.parametrize(
    "path",
    ["C:\\", r"C:\Windows\x", "/programdata/a", "/users", "A:\\", r"D:\con", r"D:\a.", r"D:\a b", r"D:\..", "D:a"],
)
def test_where_no_disk_is_mounted_on_windows(path):
    assert mount_problem(path)


def test_mounts_have_one_form_and_the_outer_comes_first():
    assert [one_form(path) for path in ("d:", "d:\\", r"d:\a\\", r"E:\a")] == ["D:\\", "D:\\", r"D:\a", r"E:\a"]
    assert [mount_problem(path) for path in ("D:\\", r"C:\data", r"D:\a\b.c", "/users/x", "/mnt/cache")] == [""] * 5
    assert sorted([r"d:\A\b", "/srv/x", r"D:\a", "D:\\", "/srv"], key=order) == [
        "/srv",
        "/srv/x",
        "D:\\",
        r"D:\a",
        r"d:\A\b",
    ]


def test_the_plan_says_of_each_disk_where_it_goes_and_by_what_it_is_found():
    disks = (Disk("sub", DiskKind.VOLUME, 1024, r"D:\A\b"), Disk("data", DiskKind.VOLUME, 2048, r"D:\a", mode="0750"))
    asked = replace(machine(FULL), disks=disks)
    told = json.loads(plan(record(machine=asked), TOLD, reveal))["disks"]
    assert told == [
        {"name": "data", "serial": serial(disks[1]), "mount": r"D:\a", "label": "data", "private": True},
        {"name": "sub", "serial": serial(disks[0]), "mount": r"D:\A\b", "label": "sub", "private": False},
    ]
    in_domain = etree.fromstring(domain_xml(web(0), asked, 1, Surroundings(OWNER, "/pool", "tcg")))
    assert {each["serial"] for each in told} == set(in_domain.xpath("//disk/serial/text()"))


def test_the_runtime_file_has_the_paths_of_windows():
    disks = (Disk("data", DiskKind.VOLUME, 2048, "D:\\"), Disk("cache", DiskKind.LOCAL, 256, "/mnt/cache"))
    told = json.loads(runtime.document(record(machine=replace(machine(FULL), disks=disks)), Vicinity()))
    assert (told["volumes"], told["local_storage"]) == ({"data": "D:\\"}, {"cache": r"C:\mnt\cache"})


DATA = Disk("data", DiskKind.VOLUME, 2048, "D:\\")


def test_a_disk_of_a_running_windows_is_enlarged_by_the_script_that_it_keeps():
    host = Agent(guest_exec={"pid": 7}, guest_exec_status={"exited": True, "exitcode": 0})
    AgentGuests(FakeClock()).grow(host, web(0), DATA, system="windows")
    (_, asked), *_ = host.asked
    assert asked["path"].endswith("powershell.exe")
    script, *words = asked["arg"][asked["arg"].index("-File") + 1 :]
    assert (script, words) == (r"C:\ProgramData\vmrole\vmrole.ps1", ["grow", serial(DATA), str(2 * 1024**3)])


def test_why_it_cannot_be_enlarged_is_the_first_word_of_powershell():
    said = base64.b64encode(b"disk data (D:\\): no room\r\nAt C:\\ProgramData\\vmrole\\vmrole.ps1:7\r\n").decode()
    host = Agent(guest_exec={"pid": 7}, guest_exec_status={"exited": True, "exitcode": 1, "err-data": said})
    with pytest.raises(AgentRefused, match=r"disk data \(D:\\\): no room"):
        AgentGuests(FakeClock()).grow(host, web(0), DATA, system="windows")
