"""Repair of one instance in its turn: what was found, what is to be done about it, and that it helped. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import members, repair, rest
from orchestrator.engine.case import Case, is_under_way
from orchestrator.engine.health import Finding, Health, finding
from orchestrator.engine.status import since
from orchestrator.model.action import RestartServices
from orchestrator.model.record import Act, Care, Event, InstanceRecord, Remedy, Wanted
from orchestrator.model.spec import DiskKind
from orchestrator.model.world import Power

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.engine.repair import Need
    from orchestrator.model.names import InstanceId
    from orchestrator.model.spec import Role
    from orchestrator.model.world import World


def treated(cases: Sequence[Case], world: World, now: float) -> list[Case]:
    """A deployment's cases, each examined, and treated as far as its role's budget allows."""
    examined = [_examined(case, world, now) for case in cases]
    may: set[InstanceId] = set()
    for role in cases[0].deployment.service.roles if cases else ():
        of_role = [_patient(case, world) for case in examined if case.record.id.role == role.name]
        may |= repair.permitted(of_role, repair.budget(cases[0].deployment.count(role.name), role.repair))
    records = [case.record for case in examined]
    return [_tended(replace(case, may_treat=case.record.id in may), records, now) for case in examined]


def _examined(case: Case, world: World, now: float) -> Case:
    """The case with what was found, and what is needed, if repair may do anything about it at all."""
    record, role = case.record, case.role
    if role is None or record.wanted is not Wanted.UP or case.seen.here.problem:
        return case
    found = finding(
        record,
        world.pulses.get(case.machine),
        role.ready,
        console=world.consoles.get(case.machine, ()),
        has_network=bool(case.servers),
        now=now,
    )
    is_up = case.machine in world.pulses
    found = (_panics(record.care, role) if is_up else None) or found
    is_on = role.repair.is_on and case.deployment.paused is None and not is_under_way(record)
    changed = max(since(record.timeline), case.deployment.resumed)
    possible = _possible(case, found)
    wanted = repair.need(record.care, role.repair, found, possible, changed) if is_on else None
    return replace(case, found=found, need=wanted)


def _panics(care: Care | None, role: Role) -> Finding | None:
    """What a kernel that dies again and again shows, though it boots well: another start will not help."""
    if care is None or care.well is not None or not care.panics:
        return None
    is_new = care.remedy in {None, Remedy.RESTART, Remedy.REBOOT}
    if care.panics <= (role.repair.reboot.tries if is_new else 0):
        return None
    return Finding(Health.UNHEALTHY, f"did not help: {care.evidence} again", Remedy.REIMAGE, is_sure=True)


def _possible(case: Case, found: Finding) -> frozenset[Remedy]:
    """The rungs that could be taken. Relocation is not, where it would lose local storage: nobody asked for that."""
    has_local = any(disk.kind is DiskKind.LOCAL and not disk.is_clean for disk in case.record.machine.disks)
    possible = {Remedy.REBOOT, Remedy.REIMAGE}
    possible |= {Remedy.RESTART} if found.services else set()
    possible |= {Remedy.RELOCATE} if _other_hosts(case) and not has_local else set()
    return frozenset(possible)


def _other_hosts(case: Case) -> list[str]:
    answering = {host.name for host in case.seen.hosts if not host.problem}
    return [name for name in case.deployment.subnets if name in answering and name != case.record.host]


def _patient(case: Case, world: World) -> repair.Patient:
    record, wanted = case.record, case.need
    return repair.Patient(
        record.id,
        case.can_serve(world),
        repair.is_treated(record),
        wanted is not None,
        wanted is not None and wanted.remedy is None and not wanted.verdict,
        case.is_wanted and record.wanted is Wanted.UP,
    )


def _tended(case: Case, records: Sequence[InstanceRecord], now: float) -> Case:
    care = case.record.care
    if care is not None and _is_over(case):
        return replace(case, record=replace(case.record, care=None))
    if case.need is None:
        return _recovered(case, care, now) if care is not None else _noted(case, now)
    return _treated(case, case.need, records, now) if case.may_treat else case


def _is_over(case: Case) -> bool:
    """Whether there is nothing more to take care of: nobody wants it up, or wants it repaired."""
    if case.role is None or case.record.wanted is not Wanted.UP:
        return True
    return not case.role.repair.is_on and not _is_note(case.record.care)


def _is_note(care: Care | None) -> bool:
    """Whether it says that something is wrong, and nothing has been done about it."""
    return care is not None and care.out is None and care.remedy is None and not (care.verdict or care.panics)


def _noted(case: Case, now: float) -> Case:
    """The case with a note of what is wrong with it, where nothing is to be done about that."""
    is_known = case.record.failure is not None or case.found.is_doubtful
    if is_known or not is_left(case):
        return case
    why = "the service is paused" if case.deployment.paused is not None else "repair is off"
    told = Event(now, str(case.record.id), f"{case.found.health.value}; {why}", case.found.reason)
    return _with(case, Care(now, case.found.reason), told)


def _recovered(case: Case, care: Care, now: float) -> Case:
    """The case of an instance that is well: first it goes back, and only later is all forgotten."""
    if not case.found.is_well or case.role is None:
        return case
    if care.well is not None:
        is_long_ago = now - care.well >= case.role.repair.grace_s
        return replace(case, record=replace(case.record, care=None)) if is_long_ago else case
    if _is_note(care):
        how = f"{now - care.since:.0f} s after: {care.evidence}"
        return _with(case, None, Event(now, str(case.record.id), "well again", how))
    if care.remedy is None and not care.verdict and not care.panics:
        told = _event(case, now, "repair: well again, back in rotation", f"was: {care.evidence}")
        return _with(case, None, told)
    how = f"after {_count(case.role, care)}" if care.remedy is not None else "without repair"
    told = _event(case, now, "repair: well again", f"{how}, {now - care.since:.0f} s after: {care.evidence}")
    return _with(case, replace(care, well=now, out=None, verdict="", is_deaf=False), told)


def _treated(case: Case, wanted: Need, records: Sequence[InstanceRecord], now: float) -> Case:
    """The case one rung further, if its time has come; until then out of rotation, if it was in it."""
    care, found = _opened(case, now), case.found
    if wanted.verdict:
        told = _event(case, now, "repair: stops", wanted.verdict)
        return _with(case, replace(care, verdict=wanted.verdict, evidence=found.reason), told)
    if wanted.remedy is not None and now >= wanted.due:
        return _taken(case, care, wanted.remedy, records, now)
    known = case.record.care
    if not case.servers or (known is not None and known.out is not None and known.well is None):
        return case
    return _with(case, care, _event(case, now, "repair: out of rotation", found.reason))


def _opened(case: Case, now: float) -> Care:
    """The care that is taken from now on; a relapse goes on with the old one."""
    out = now if case.servers else None
    known = case.record.care
    if known is None:
        return Care(now, case.found.reason, out)
    known = known if known.well is None else replace(known, well=None, since=now, out=None)
    return replace(known, evidence=case.found.reason, out=known.out if known.out is not None else out)


def _taken(case: Case, care: Care, remedy: Remedy, records: Sequence[InstanceRecord], now: float) -> Case:
    tries = care.tries + 1 if care.remedy is remedy else 1
    care = replace(care, remedy=remedy, tries=tries, at=now, is_deaf=case.found.is_deaf, panics=0)
    record = replace(case.record, fault=case.record.fault if case.record.fault is not None else care.since)
    case = replace(case, record=record)
    why = case.found.reason
    if remedy is Remedy.RESTART:
        step = RestartServices(record.host, case.machine, case.found.services, record.machine.platform.os)
        told = _event(case, now, f"repair: restarts {', '.join(case.found.services)}", why)
        return replace(_with(case, care, told), before=(*case.before, step))
    # Its way to rest takes it out of rotation, and readiness brings it back.
    care, told = replace(care, out=None), _event(case, now, f"repair: {remedy.value}", why)
    return _with(replace(case, record=_asked(case, remedy, f"repair: {why}", records, now)), care, told)


def _asked(case: Case, remedy: Remedy, cause: str, records: Sequence[InstanceRecord], now: float) -> InstanceRecord:
    """The record that asks for what a command could ask for, too."""
    if remedy is Remedy.REBOOT:
        return replace(case.record, reboot=now)
    if remedy is Remedy.REIMAGE:
        return members.successor(case.record, Act.REIMAGE, case.desired, cause)
    others = [known for known in records if known.id != case.record.id]
    host = members.place(case.record.id.role, others, _other_hosts(case))
    taken = {known.dip for known in others} | {known.next.dip for known in others if known.next is not None}
    held = members.held_on(host, case.seen.hosts, case.record.id)
    dip = members.free_dip(case.deployment.subnets[host], taken, held)
    return members.moved(case.record, case.desired, host, dip, cause)


def _with(case: Case, care: Care | None, event: Event) -> Case:
    return replace(case, record=replace(case.record, care=care), event=event)


def _event(case: Case, now: float, what: str, cause: str) -> Event:
    return Event(now, str(case.record.id), what, cause, "repair")


def _count(role: Role, care: Care) -> str:
    if care.remedy is None:
        return ""
    return f"{care.remedy.value} {care.tries} of {repair.rung(role.repair, care.remedy).tries}"


def told(case: Case, now: float) -> str:
    """What was found, what was done about it, and what comes next, as one sentence; "" if all is well."""
    care, found, role = case.record.care, case.found, case.role
    if role is None:
        return ""
    if care is not None and care.verdict and care.well is None:
        return f"repair has stopped: {care.verdict}"
    if found.is_doubtful and care is not None and care.out is not None and care.well is None and care.remedy is None:
        # Whoever runs the loop has looked for longer than we have.
        return f"out of rotation for {now - care.out:.0f} s: {care.evidence}"
    done = f"; {_count(role, care)} is done" if care is not None and care.remedy is not None and not care.well else ""
    return f"{found.reason}{done}{_outlook(case, role, now)}" if found.reason else ""


def _outlook(case: Case, role: Role, now: float) -> str:
    wanted = case.need
    if not _is_ours(case.found):
        return ""
    obstacles = [
        (case.deployment.paused is not None, "; the service is paused"),
        (not role.repair.is_on, "; repair is off"),
    ]
    again = "; it is looked at again" if case.found.is_doubtful else ""
    if said := again + next((text for is_so, text in obstacles if is_so), ""):
        return said
    if wanted is None or wanted.verdict:
        return ""
    if not case.may_treat:
        most = repair.budget(case.deployment.count(role.name), role.repair)
        what = wanted.remedy.value if wanted.remedy is not None else "leaving rotation"
        return f"; {what} waits for its turn: at most {most} of {role.name} may be away or under repair"
    if wanted.remedy is None:
        return "; nothing is done to it for that alone"
    return f"; {wanted.remedy.value} in {max(0.0, wanted.due - now):.0f} s"


def _is_ours(found: Finding) -> bool:
    """Whether it is for repair at all, and not a first failure, which is for somebody to mend."""
    return found.first is not None or not found.is_sure


def is_left(case: Case) -> bool:
    """Whether nothing more will be done about an instance that is not well."""
    care = case.record.care
    if care is not None and care.verdict and care.well is None:
        return True
    is_bad = case.found.health is not Health.HEALTHY
    is_off = case.deployment.paused is not None or (case.role is not None and not case.role.repair.is_on)
    return is_bad and is_off and not is_under_way(case.record)


def is_left_alone(case: Case) -> bool:
    """Whether a machine that stands still is left so, as its service is paused and nobody asked for anything."""
    if case.deployment.paused is None or is_under_way(case.record) or case.record.wanted is not Wanted.UP:
        return False
    return case.record.timeline.started is not None and (rest.is_at_rest(case.power) or case.power is Power.PAUSED)
