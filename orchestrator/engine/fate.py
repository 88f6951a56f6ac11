"""What becomes of each disk of an instance, said before anything is done. Pure: the contract's table as a function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.record import Act, InstanceRecord
from orchestrator.model.spec import Disk, DiskKind

if TYPE_CHECKING:
    from orchestrator.model.making import MachineSpec
    from orchestrator.model.spec import Role

KEPT = "kept"
FROM_IMAGE = "new from the image"
EMPTY = "new and empty"
FROM_BEFORE = "kept from before"
GONE = "gone"
ANEW = {Act.REIMAGE, Act.UPGRADE, Act.RELOCATE}


@dataclass(frozen=True, slots=True)
class DiskFate:
    """One disk (``kind``: overlay, local storage or volume) and what becomes of it, in words."""

    kind: str
    name: str
    fate: str


def fates(
    act: Act | None,
    record: InstanceRecord,
    machine: MachineSpec,
    role: Role | None,
    *,
    found: frozenset[str] = frozenset(),
) -> tuple[DiskFate, ...]:
    """The fate of every disk of an instance under ``act`` (None: it just goes on), after which it is ``machine``.

    ``found``: names of its volumes that are there, also of those that it does not have now.
    """
    old = {(disk.kind, disk.name): disk for disk in record.machine.disks}
    new = {(disk.kind, disk.name): disk for disk in machine.disks} if act is not Act.DELETE else {}
    every = {**old, **new}
    overlay = DiskFate("overlay", "", _overlay(act, record, role))
    return (
        overlay,
        *(
            DiskFate(_kind(every[key]), every[key].name, _fate(act, old.get(key), new.get(key), found))
            for key in sorted(every, key=lambda key: (key[0].value, key[1]))
        ),
    )


def created(machine: MachineSpec, *, found: frozenset[str] = frozenset()) -> tuple[DiskFate, ...]:
    """The disks of an instance that is only made now; ``found``: names of its volumes that are there already."""
    overlay = DiskFate("overlay", "", FROM_IMAGE)
    return (
        overlay,
        *(DiskFate(_kind(disk), disk.name, _beginning(disk, found)) for disk in machine.disks),
    )


def _overlay(act: Act | None, record: InstanceRecord, role: Role | None) -> str:
    if act is Act.DELETE:
        return GONE
    if act is Act.UNDO and record.kept is not None:
        return f"the one of generation {record.kept.generation}, as it was left"
    if act in {Act.REIMAGE, Act.UPGRADE} and role is not None and role.stop.keep_s > 0:
        keep_s = role.stop.keep_s
        said = f"{keep_s / 60:g} min" if keep_s >= 60 else f"{keep_s:g} s"
        return f"{FROM_IMAGE}; the old one is kept {said} for undo-reimage"
    return FROM_IMAGE if act in ANEW else KEPT


def _beginning(disk: Disk, found: frozenset[str]) -> str:
    """What a disk is like that its instance has not had until now."""
    return FROM_BEFORE if disk.kind is DiskKind.VOLUME and disk.name in found else EMPTY


def _fate(act: Act | None, old: Disk | None, new: Disk | None, found: frozenset[str]) -> str:
    if old is None or new is None:
        last = "kept, not attached" if old is not None and old.kind is DiskKind.VOLUME else GONE
        return _beginning(new, found) if new is not None else last
    if new.kind is DiskKind.LOCAL and act is Act.RELOCATE:
        return f"lost: {EMPTY}"
    if new.is_clean and act is Act.UNDO:
        return "as the old generation left it"
    if new.is_clean and act in ANEW:
        return f"{EMPTY} (clean_on_reimage)"
    if new.size_mib > old.size_mib:
        return f"kept, grown from {old.size_mib} to {new.size_mib} MiB"
    return KEPT


def _kind(disk: Disk) -> str:
    return "volume" if disk.kind is DiskKind.VOLUME else "local storage"
