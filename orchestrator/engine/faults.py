"""What has happened to a machine that is found other than it was left: each kind by its own signal, in words. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import ground, machine
from orchestrator.model.action import Action, CreateDisk, CreateSeed
from orchestrator.model.record import Care, Event, InstanceRecord
from orchestrator.model.world import PANIC, Power, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engine.case import Case

IO_ERROR = "I/O error"
# libvirt's reason for a domain that is off → what that is. A QEMU that is killed closes its monitor without a word,
# which libvirt calls "crashed".
WENT_OFF = {
    "crashed": "its QEMU process died",
    "failed": "its QEMU process could not go on",
    "shutdown": "the guest shut itself down",
    "destroyed": "somebody switched the machine off",
    PANIC: "the guest's kernel panicked",
}
BY_ITSELF = "the machine went off by itself"


def fault(
    case: Case, new: InstanceRecord, actions: Sequence[Action], world: World, now: float
) -> tuple[InstanceRecord, Event | None]:
    """The record that remembers the fault, and the event of it; as it was, and None, if there is none.

    ``new``: the record after ``actions``, which put the fault right as far as that can be done.
    """
    found, stuck = _found(case, new, actions, world), _stuck(case, new)
    went_off = case.record.timeline.started is not None and new.timeline.started is None
    is_first = went_off and new.fault is None and case.record.timeline.services is not None
    changed = replace(new, fault=now) if is_first else new
    has_panicked = went_off and case.seen.current is not None and case.seen.current.why == PANIC
    changed = replace(changed, care=_panicked(new.care, now)) if has_panicked else changed
    changed = changed if stuck == new.stuck else replace(changed, stuck=stuck)
    what = "; ".join([*found, *([stuck] if stuck and stuck != new.stuck else [])])
    return changed, Event(now, str(new.id), f"fault: {what}", _why(case, world)) if what else None


def _found(case: Case, new: InstanceRecord, actions: Sequence[Action], world: World) -> list[str]:
    seen, started = case.seen.current, case.record.timeline.started
    twins = [domain.name for _host, domain in case.seen.others if domain.power is not Power.OFF]
    emptied = [action.file for action in actions if isinstance(action, CreateDisk)] if new.has_run else []
    has_reseeded = seen is not None and any(isinstance(action, CreateSeed) for action in actions)
    is_resumed = seen is not None and seen.power is Power.PAUSED and bool(machine.resume(new, case.seen))
    has_base = ground.has_base(case.seen.here, new.machine.digest) or f"host {new.host}" in world.trouble
    gone = WENT_OFF.get(seen.why, BY_ITSELF) if seen is not None else "the machine is gone from its host"
    by = " by an I/O error" if seen is not None and seen.why == IO_ERROR else ""
    found = [
        (bool(twins), f"{', '.join(twins)} ran in place of the instance's machine; switched off"),
        (bool(emptied), f"a disk was gone, and is made anew and empty: {', '.join(emptied)}"),
        (started is not None and new.timeline.started is None, f"{gone}; it is started again"),
        (is_resumed, f"the machine was paused{by}; it is resumed"),
        (seen is not None and not seen.is_persistent, "its definition was gone from its host; it is defined again"),
        (has_reseeded, "its answer file was gone; it is made again"),
        (new.has_run and case.seen.here.has_pool and not has_base, "its base was altered or gone; it is put back"),
    ]
    return [text for is_so, text in found if is_so]


def _panicked(care: Care | None, now: float) -> Care:
    """What repair has to know of a kernel that died: it is started again at once, but not for ever."""
    known = care if care is not None and care.well is None else None
    count = care.panics + 1 if care is not None else 1
    begun = known or replace(care or Care(now, ""), since=now, well=None)
    return replace(begun, evidence=WENT_OFF[PANIC], out=None, panics=count)


def _stuck(case: Case, new: InstanceRecord) -> str:
    """Why a machine stands still and cannot be let run on; told once, however long that lasts."""
    seen = case.seen.current
    if seen is None or case.seen.here.problem:
        return new.stuck
    is_halted = seen.power is Power.PAUSED and not machine.resume(new, case.seen)
    return f"the machine is paused by an {seen.why}, and its pool has no room" if is_halted else ""


def _why(case: Case, world: World) -> str:
    seen = case.seen.current
    if seen is None or not seen.why:
        return ""
    said = [line for line in world.consoles.get(case.machine, ()) if line]
    last = f"; last console line: {said[-1]}" if said and seen.why == PANIC else ""
    return f"libvirt says: {seen.why}{last}"
