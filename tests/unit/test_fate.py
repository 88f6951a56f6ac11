"""The contract's table of what becomes of each disk, cell by cell, and all that ``plan`` says of disks besides."""

from dataclasses import replace

import pytest

from orchestrator.engine import fate
from orchestrator.engine.fate import EMPTY, FROM_BEFORE, FROM_IMAGE, GONE, KEPT, DiskFate, created, fates
from orchestrator.model.record import Act, Kept
from orchestrator.model.spec import Disk, DiskKind, Stop
from tests.fakes.build import record, role

CACHE = Disk("cache", DiskKind.LOCAL, 64, "/var/cache/app")
TEMP = Disk("temp", DiskKind.LOCAL, 64, "/var/tmp/app", is_clean=True)
DATA = Disk("data", DiskKind.VOLUME, 64, "/srv")
ALL = (CACHE, TEMP, DATA)
BARE = record()
KNOWN = replace(BARE, machine=replace(BARE.machine, disks=ALL))
ROLE = role(disks=ALL, stop=Stop(keep_s=0.0))

TABLE = {  # act: overlay, local storage, local storage that is clean in every generation, volume
    None: (KEPT, KEPT, KEPT, KEPT),
    Act.REBOOT: (KEPT, KEPT, KEPT, KEPT),
    Act.STOP: (KEPT, KEPT, KEPT, KEPT),
    Act.START: (KEPT, KEPT, KEPT, KEPT),
    Act.REIMAGE: (FROM_IMAGE, KEPT, f"{EMPTY} (clean_on_reimage)", KEPT),
    Act.UPGRADE: (FROM_IMAGE, KEPT, f"{EMPTY} (clean_on_reimage)", KEPT),
    Act.RELOCATE: (FROM_IMAGE, f"lost: {EMPTY}", f"lost: {EMPTY}", KEPT),
    Act.DELETE: (GONE, GONE, GONE, "kept, not attached"),
}


def told(act: Act | None, *, known=KNOWN, disks: tuple[Disk, ...] = ALL, what=ROLE):
    """Disk → its fate; the overlay's name is ""."""
    found = fates(act, known, replace(known.machine, disks=disks), what)
    return {disk.name: disk.fate for disk in found}


@pytest.mark.parametrize("act", TABLE)
def test_the_table_of_the_contract(act):
    said = told(act)
    assert (said[""], said["cache"], said["temp"], said["data"]) == TABLE[act]


def test_every_act_has_a_row():
    assert set(TABLE) | {Act.UNDO} == {None, *Act}


def test_a_volume_goes_only_when_it_is_asked_for():
    assert told(Act.UPGRADE, disks=(CACHE,))["data"] == "kept, not attached"


@pytest.mark.parametrize("act", [Act.REIMAGE, Act.UPGRADE])
def test_an_overlay_that_is_kept_for_a_way_back_is_told_with_its_time(act):
    said = told(act, what=replace(ROLE, stop=Stop(keep_s=600.0)))
    assert said[""] == f"{FROM_IMAGE}; the old one is kept 10 min for undo-reimage"


def test_a_relocation_keeps_no_way_back():
    assert told(Act.RELOCATE, what=replace(ROLE, stop=Stop(keep_s=600.0)))[""] == FROM_IMAGE


def test_undo_names_the_generation_that_comes_back():
    known = replace(KNOWN, generation=3, kept=Kept(2, KNOWN.machine, 1))
    assert told(Act.UNDO, known=known)[""] == "the one of generation 2, as it was left"
    assert {told(Act.UNDO, known=known)[name] for name in ("cache", "data")} == {KEPT}


def test_undo_says_that_clean_storage_comes_back_as_it_was_left():
    known = replace(KNOWN, generation=3, kept=Kept(2, KNOWN.machine, 1))
    assert told(Act.UNDO, known=known)["temp"] != KEPT


@pytest.mark.parametrize("disk", [CACHE, DATA])
@pytest.mark.parametrize("act", [None, Act.REBOOT, Act.REIMAGE])
def test_a_disk_that_grows_says_so(act, disk):
    said = told(act, disks=tuple(replace(d, size_mib=96) if d == disk else d for d in ALL))
    assert said[disk.name] == "kept, grown from 64 to 96 MiB"


@pytest.mark.parametrize("disk", ALL)
def test_a_disk_that_is_only_now_asked_for_is_new(disk):
    known = replace(KNOWN, machine=replace(KNOWN.machine, disks=()))
    assert told(Act.UPGRADE, known=known, disks=(disk,))[disk.name] == EMPTY


@pytest.mark.parametrize("disk", [CACHE, TEMP])
def test_local_storage_that_is_asked_for_no_more_is_gone(disk):
    assert told(Act.UPGRADE, disks=(DATA,))[disk.name] == GONE


def test_a_volume_and_local_storage_of_one_name_are_two_disks():
    both = (replace(CACHE, name="x"), replace(DATA, name="x"))
    known = replace(KNOWN, machine=replace(KNOWN.machine, disks=both))
    found = fates(Act.RELOCATE, known, known.machine, ROLE)
    assert found[1:] == (DiskFate("local storage", "x", f"lost: {EMPTY}"), DiskFate("volume", "x", KEPT))


def test_the_overlay_comes_first_then_local_storage_then_volumes():
    kinds = [(disk.kind, disk.name) for disk in fates(Act.REBOOT, KNOWN, KNOWN.machine, ROLE)]
    assert kinds == [("overlay", ""), ("local storage", "cache"), ("local storage", "temp"), ("volume", "data")]


def test_a_new_instance_finds_its_volumes():
    assert [disk.fate for disk in created(KNOWN.machine)] == [FROM_IMAGE, EMPTY, EMPTY, EMPTY]
    assert [disk.fate for disk in created(KNOWN.machine, found=frozenset({"data"}))][-1] == "kept from before"


def test_a_role_that_is_gone_takes_all_but_volumes_with_it():
    assert set(told(Act.DELETE, what=None).values()) == {fate.GONE, "kept, not attached"}


def test_a_volume_that_is_there_already_comes_back_with_what_is_on_it():
    known = replace(KNOWN, machine=replace(KNOWN.machine, disks=(CACHE,)))
    found = {f.name: f.fate for f in fates(Act.UPGRADE, known, KNOWN.machine, ROLE, found=frozenset({"data", "temp"}))}
    assert (found["data"], found["temp"]) == (FROM_BEFORE, EMPTY)
