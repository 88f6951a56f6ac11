"""The repair ladder: from what was found, and what was tried, to the next rung. Pure, and nothing but values.

It only climbs: an episode begins when an instance is found bad, and ends when it has been well for the grace period.
Until then no rung below the last one is taken again, and none more often than it may be. At the end repair stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.record import Care, Remedy

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from orchestrator.engine.health import Finding
    from orchestrator.model.names import InstanceId
    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.spec import Repair, Rung

ORDER = tuple(Remedy)
PLURAL = {
    Remedy.RESTART: "restarts of its services",
    Remedy.REBOOT: "reboots",
    Remedy.REIMAGE: "reimages",
    Remedy.RELOCATE: "relocations",
}


@dataclass(frozen=True, slots=True)
class Need:
    """What is to be done about an instance. ``remedy`` None: it is kept out of rotation, or repair stops (``verdict``).

    ``due``: Unix seconds before which it is not taken.
    """

    remedy: Remedy | None = None
    due: float = 0.0
    verdict: str = ""


def rung(repair: Repair, remedy: Remedy) -> Rung:
    return {
        Remedy.RESTART: repair.restart,
        Remedy.REBOOT: repair.reboot,
        Remedy.REIMAGE: repair.reimage,
        Remedy.RELOCATE: repair.relocate,
    }[remedy]


def next_remedy(care: Care | None, repair: Repair, first: Remedy, possible: Set[Remedy]) -> Remedy | None:
    """The rung to take now: none below ``first``, none below the last one; None when there is none left."""
    last = care.remedy if care is not None else None
    begin = max(ORDER.index(first), ORDER.index(last) if last is not None else 0)
    for remedy in ORDER[begin:]:
        tries = care.tries if care is not None and remedy is last else 0
        if remedy in possible and tries < rung(repair, remedy).tries:
            return remedy
    return None


def need(care: Care | None, repair: Repair, found: Finding, possible: Set[Remedy], changed: float) -> Need | None:
    """What is to be done about an instance of which this was found; None if nothing is.

    ``changed``: when its state changed last, in Unix seconds.
    """
    if not found.reason or found.is_doubtful or (care is not None and care.verdict and care.well is None):
        return None
    if found.first is None:
        return None if found.is_sure else Need()
    remedy = next_remedy(care, repair, found.first, possible)
    if remedy is None:
        return Need(verdict=_verdict(care, repair, found))
    waited = care.at + rung(repair, care.remedy).wait_s if care is not None and care.remedy is not None else 0.0
    has_grace = remedy is not Remedy.RESTART and not found.is_sure
    return Need(remedy, max(waited, changed + repair.grace_s if has_grace else 0.0))


def _verdict(care: Care | None, repair: Repair, found: Finding) -> str:
    if care is None or care.remedy is None:
        return f"there is no rung of the ladder that could help: {found.reason}"
    most = rung(repair, care.remedy).tries
    how = found.reason if found.is_sure else f"did not help: {found.reason}"
    return f"{care.tries} of {most} {PLURAL[care.remedy]} {how}"


def budget(instances: int, repair: Repair) -> int:
    """How many of a role may be disturbed at once."""
    return max(1, instances * repair.max_percent // 100)


@dataclass(frozen=True, slots=True)
class Patient:
    """An instance as it is decided whether it may be treated. ``is_treated``: repair is at it, or has stopped at it.

    ``counts``: it should be in service (not one that is stopped, or to be deleted). ``is_mild``: it is to be kept out
    of rotation, and no more.
    """

    id: InstanceId
    is_serving: bool
    is_treated: bool
    wants: bool
    is_mild: bool = False
    counts: bool = True


def permitted(role: Sequence[Patient], most: int) -> frozenset[InstanceId]:
    """Which instances of a role may be treated now: those that are already, and others while there is room.

    One that serves nobody costs nothing more; one that serves also has to be one that can be spared, together with
    all that are away for whatever reason. What only would be kept out of rotation is never the last one that serves.
    """
    treated = {one.id for one in role if one.is_treated}
    away = {one.id for one in role if one.counts and not one.is_serving} | treated
    serving = {one.id for one in role if one.is_serving}
    for one in sorted(role, key=lambda one: (one.is_serving, one.is_mild, one.id)):
        if not one.wants or one.id in treated:
            continue
        is_spare = not one.is_serving or len(away) < most
        has_room = len(serving - {one.id}) > 0 if one.is_mild else len(treated) < most
        if is_spare and has_room:
            treated |= set() if one.is_mild else {one.id}
            away.add(one.id)
            serving.discard(one.id)
    mild = {one.id for one in role if one.is_mild and one.wants and one.id in away}
    return frozenset(treated | mild)


def is_treated(record: InstanceRecord) -> bool:
    """Whether repair is at an instance, or has stopped at it, so that it takes up a part of the budget."""
    care = record.care
    return care is not None and care.well is None and (care.remedy is not None or bool(care.verdict))
