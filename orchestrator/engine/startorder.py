"""Which instances are not started yet, as other roles have to be ready before them. Pure.

It is about the first start only: once the other role has been ready, what becomes of it later holds up nobody.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.status import stage_of
from orchestrator.model.record import Event, InstanceRecord, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.engine.case import Case


def is_held(record: InstanceRecord) -> bool:
    """Whether its machine, which has never run, waits for other roles."""
    return bool(record.awaits) and not record.has_run


def released(cases: Sequence[Case], now: float) -> list[Case]:
    """A deployment's cases, each told what it still waits for; its time to become ready begins when that is over."""
    return [_released(case, cases, now) if is_held(case.record) and case.is_wanted else case for case in cases]


def _released(case: Case, cases: Sequence[Case], now: float) -> Case:
    record, role = case.record, case.role
    wished = role.after if role is not None else ()
    missing = {name: why for name in record.awaits if name in wished and (why := _missing(name, case, cases))}
    if missing:
        told = "; ".join(f"waiting for role {name}: {why}" for name, why in missing.items())
        return replace(case, record=replace(record, awaits=tuple(missing)), held_by=told)
    timeout_s = role.ready.timeout_s if role is not None else 0.0
    said = f"starts: role {', '.join(record.awaits)} is ready"
    event = Event(now, str(record.id), said, f"role {record.id.role} is to come after it")
    return replace(case, record=replace(record, awaits=(), deadline=now + timeout_s), event=case.event or event)


def _missing(name: str, case: Case, cases: Sequence[Case]) -> str:
    """Who of a role has never been ready, in words; "" if all have."""
    records = {other.record.id.ordinal: other.record for other in cases if other.record.id.role == name}
    found = [_lack(records.get(ordinal), f"{name}-{ordinal}") for ordinal in case.deployment.ordinals(name)]
    return ", ".join(filter(None, found))


def _lack(record: InstanceRecord | None, name: str) -> str:
    if record is None:
        return f"{name} is not there yet"
    if record.proven or record.timeline.rotation is not None:
        return ""
    if record.failure is not None:
        return f"{name} failed at {record.failure.stage.value}"
    if record.wanted is not Wanted.UP:
        return f"{name} is stopped"
    return f"{name} is at {stage_of(record.timeline).value}"


def longest(each: Mapping[str, float], after: Mapping[str, Sequence[str]]) -> float:
    """How long it may take until all roles are ready, when each may take so long and waits for others."""

    def until(name: str) -> float:
        return each[name] + max((until(other) for other in after.get(name, ()) if other in each), default=0.0)

    return max((until(name) for name in each), default=0.0)
