"""What the upgrade of a deployment is told of its instances, and what becomes of its record. Pure.

``rollout`` decides on few values; here they are taken from cases and statuses, and what it says is put into words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import ground, rest, rollout
from orchestrator.engine.case import Case, is_under_way
from orchestrator.engine.rollout import Unit
from orchestrator.engine.status import DeploymentStatus, InstanceStatus, State
from orchestrator.model.action import SaveDeployment
from orchestrator.model.making import images_of, is_same_but_larger
from orchestrator.model.record import DeploymentRecord, Event, Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.rollout import Rollout
    from orchestrator.model.spec import Role
    from orchestrator.model.world import HostSeen, World

MARGIN_S = 30.0  # beyond the role's own time to get ready: for HAProxy's first checks, and a slow turn of ours
WELL = {State.READY, State.BUSY, State.STOPPED}
SICK = {State.UNHEALTHY, State.UNKNOWN, State.FAILED}


def time_s(role: Role) -> float:
    """Within how many seconds of its boot an upgraded instance has to be healthy, and have been so for a while."""
    told = role.upgrade.timeout_s
    return told if told is not None else role.ready.timeout_s + role.upgrade.min_ready_s + MARGIN_S


def settles_at(case: Case, world: World) -> float | None:
    """When a healthy instance has been so for long enough, in Unix seconds; None if it is not healthy."""
    record, role, begun = case.record, case.role, case.record.timeline.rotation
    is_sick = record.care is not None and record.care.well is None
    if role is None or begun is None or is_sick or not case.can_serve(world):
        return None
    well = record.care.well if record.care is not None and record.care.well is not None else begun
    return max(begun, well) + role.upgrade.min_ready_s


def is_settled(case: Case, world: World, now: float) -> bool:
    """Whether an instance is of the new make, and has been healthy for long enough, or is off as the user wants it."""
    if case.is_old or rollout.is_of_upgrade(case.record):
        return False
    if case.record.wanted is Wanted.STOPPED:
        return rest.is_at_rest(case.power)
    at = settles_at(case, world)
    return at is not None and now >= at and not case.is_unchecked(world)


def is_young(case: Case, world: World, now: float) -> bool:
    """Whether the upgrade has made its machine, and that has not been healthy for long enough to be relied on."""
    under_way = rollout.current(case.deployment)
    if under_way is None or case.record.id.role not in under_way.roles or case.is_old:
        return False
    at = settles_at(case, world)
    is_new = at is not None and (now < at or case.is_unchecked(world))
    return is_new and case.record.timeline.requested >= under_way.began


def is_extra(case: Case) -> bool:
    """Whether it only stands in for others while they are replaced."""
    deployment, key, role = case.deployment, case.record.id, case.role
    has_some = role is not None and rollout.surge(deployment, role) > 0
    return has_some and key.ordinal not in deployment.ordinals(key.role)


def units(cases: Sequence[Case], statuses: Sequence[InstanceStatus], world: World, now: float) -> tuple[Unit, ...]:
    """A deployment's instances as its upgrade sees them."""
    told = {status.record.id: status for status in statuses}
    found = [(case, case.role) for case in cases if case.is_wanted]
    return tuple(_unit(case, role, told[case.record.id], cases, world, now) for case, role in found if role is not None)


def _unit(case: Case, role: Role, status: InstanceStatus, cases: Sequence[Case], world: World, now: float) -> Unit:
    record, settled = case.record, is_settled(case, world, now)
    number = rollout.domain(case.deployment, role, record.id.ordinal)
    serves = case.can_serve(world) or record.wanted is Wanted.STOPPED
    late = None if settled else _late(case, role, status, cases, now)
    return Unit(record.id, number, case.is_old, serves, settled, rollout.has_begun(record), late)


def _late(case: Case, role: Role, status: InstanceStatus, cases: Sequence[Case], now: float) -> tuple[str, str] | None:
    """Where an instance stands, and why, that did not get healthy in its time; None if it may still."""
    under_way, record = rollout.current(case.deployment), case.record
    if under_way is None or role.name not in under_way.roles or record.wanted is not Wanted.UP:
        return None
    told = (status.stage.value, status.reason or f"it is {status.state.value}")
    if status.is_held or record.farewell is not None or (not case.is_old and is_under_way(record)):
        return None
    if not case.is_old and (status.is_left or status.state is State.FAILED):
        return told
    if under_way.domain != rollout.domain(case.deployment, role, record.id.ordinal):
        return None
    if not case.is_old:
        is_over = now > record.deadline - role.ready.timeout_s + time_s(role)
        return told if is_over and (record.timeline.rotation is None or status.state in SICK) else None
    is_its = rollout.has_turn(case.deployment, role, record)
    return told if is_its and now > _moved(cases, under_way) + time_s(role) else None


def _moved(cases: Sequence[Case], under_way: Rollout) -> float:
    """When anything in the domain that the upgrade is at moved last."""
    marks = [under_way.since]
    for case in cases:
        role, record = case.role, case.record
        if role is not None and rollout.domain(case.deployment, role, record.id.ordinal) == under_way.domain:
            marks += [record.deadline - role.ready.timeout_s, record.timeline.rotation or 0.0]
            marks += [record.farewell.cut or record.farewell.asked or record.farewell.since] if record.farewell else []
    return max(marks)


def is_supplied(record: DeploymentRecord, cases: Sequence[Case], hosts: Sequence[HostSeen]) -> bool:
    """Whether every host of the deployment has the images of the roles that change.

    A host that cannot be asked counts if an instance lives there that is to be replaced.
    """
    roles = record.rollout.roles if record.rollout is not None else {}
    digests = {digest for name in roles for digest in images_of(record.digests, record.platforms, name)}
    lived_in = {case.record.host for case in cases if case.is_old}
    own = [host for host in hosts if host.name in record.subnets]
    has_all = all(ground.has_base(host, digest) for host in own if not host.problem for digest in digests)
    return has_all and not any(host.problem and host.name in lived_in for host in own)


def saved(
    record: DeploymentRecord,
    cases: Sequence[Case],
    statuses: Sequence[InstanceStatus],
    world: World,
    now: float,
    *,
    is_taken: bool = True,
) -> SaveDeployment | None:
    """The storing of what the upgrade does next, or of a revision that has proven good; None if there is no news.

    ``is_taken``: HAProxy runs with what it asks for.
    """
    if record.rollout is None and not any(case.is_old for case in cases if case.is_wanted):
        good = _good(record, cases, statuses, world) if is_taken else record
        return None if good is record else SaveDeployment(good)
    seen = units(cases, statuses, world, now)
    supplied = is_supplied(record, cases, tuple(world.hosts.values()))
    made = rollout.move(record, seen, is_supplied=supplied, now=now)
    if made is None:
        return None
    after = replace(record, rollout=made.rollout)
    return SaveDeployment(
        _good(after, cases, statuses, world) if made.is_done and is_taken else after,
        Event(now, str(record.id), made.told, made.why),
    )


def _good(
    record: DeploymentRecord, cases: Sequence[Case], statuses: Sequence[InstanceStatus], world: World
) -> DeploymentRecord:
    """The record with its revision as the last good one, if every instance is what it asks for, and well."""
    own = [case for case in cases if case.is_wanted and not is_extra(case)]
    is_whole = len(own) == sum(record.count(role.name) for role in record.service.roles)
    is_new = all(is_same_but_larger(case.record.machine, record.machine(case.role)) for case in own if case.role)
    keys = {case.record.id for case in own}
    states = {status.state for status in statuses if status.record.id in keys}
    # What was well under the revision before says nothing of where HAProxy is to look for it now.
    is_known = not any(s.is_unchecked for s in statuses) and all(case.is_placed(world) for case in own)
    is_well = State.READY in states and states <= WELL and is_known
    is_wanted = record.wanted is Wanted.UP and record.paused is None
    return rollout.as_good(record) if is_whole and is_new and is_well and is_wanted else record


def status(record: DeploymentRecord, own: Sequence[InstanceStatus], *, is_pending: bool) -> DeploymentStatus | None:
    """The deployment's status, if its upgrade has a say in it."""
    found = record.rollout
    if found is None or record.paused is not None:
        return None
    is_quiet = not is_pending and all(s.is_left or s.state in WELL | SICK for s in own)
    state = halted(record)
    reason = said(record)
    if not state or not is_quiet:
        return DeploymentStatus(record.id, "working", settled=False, reason=reason)
    return DeploymentStatus(record.id, state, settled=True, reason=reason)


def halted(record: DeploymentRecord) -> str:
    """The state of a deployment whose upgrade is halted: failed, paused or waiting; else ""."""
    found = rollout.current(record)
    if found is None:
        return ""
    if found.stopped is not None:
        return "failed"
    return "paused" if found.paused is not None else "waiting" if found.waits else ""


def said(record: DeploymentRecord) -> str:  # noqa: PLR0911 - one return a state
    """How far the upgrade is, in a sentence; "" if there is none."""
    found = record.rollout
    if found is None or record.wanted is not Wanted.UP:
        return ""
    what = f"{rollout.BACK if found.is_back else 'upgrade'} to revision {record.revision}"
    if rollout.current(record) is None:
        return f"{what} is about to begin"
    if found.stopped is not None:
        where = f"{found.stopped.instance} did not get healthy in its time, at {found.stopped.stage}"
        return f"{what} has stopped: {where}: {found.stopped.reason}"
    if found.paused is not None:
        return f"{what} is paused"
    if found.waits == rollout.PROMOTE:
        return f"{what}: {', '.join(found.canaries)} healthy, waits for promote or rollback"
    if found.waits:
        return f"{what}: waits for resume before the next domain"
    return f"{what}: at domain {found.domain}" if found.domain is not None else f"{what}: waits for its images"


def waits(case: Case) -> str:
    """Why the machine of an instance that serves is still the old one; "" if it is not."""
    found = rollout.current(case.deployment)
    if not case.is_old or not case.waits_for_turn:
        return ""
    if case.deployment.paused is not None:
        return "upgrade waits: the service is paused"
    if found is None:
        return "upgrade is about to begin"
    if found.stopped is not None:
        return f"upgrade has stopped at {found.stopped.instance}"
    if found.paused is not None:
        return "upgrade is paused"
    return f"upgrade waits for {found.waits}" if found.waits else "upgrade waits for its domain"
