"""One instance as people see it: its state, its stage, and one sentence of reason. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import care, rest, runtime, upgrading
from orchestrator.engine.case import Case, guest_of, in_the_way, is_under_way, trouble
from orchestrator.engine.health import Health
from orchestrator.engine.lifecycle import judge
from orchestrator.engine.status import InstanceStatus, State, since
from orchestrator.model.record import Farewell, InstanceRecord, Stage, Wanted
from orchestrator.model.spec import Stop

if TYPE_CHECKING:
    from orchestrator.model.world import World


FROZEN = "its file systems are frozen, as for a backup: it is not judged until they are thawed"

JUST_IN_S = 1.0  # what has come in since then was new to HAProxy, and no change of its endpoints


def status(case: Case, world: World, now: float) -> InstanceStatus:
    """The instance as people see it."""
    record, problem = case.record, trouble(case, world)
    begun, stage = since(record.timeline), stage_of_gone(record)
    if case.seen.here.problem:
        state = State.UNKNOWN if case.is_wanted else State.STOPPING
        return InstanceStatus(record, state, stage, begun, problem)
    if record.farewell is not None and not rest.is_at_rest(case.power):
        return _leaving(case, record.farewell, world, problem, now)
    if not case.is_wanted:
        reason = problem or ("waiting for " + ", ".join(case.seen.away) if case.seen.away else "being deleted")
        return InstanceStatus(record, State.STOPPING, stage, begun, reason)
    if record.wanted is Wanted.STOPPED and rest.is_at_rest(case.power):
        return InstanceStatus(record, State.STOPPED, Stage.START, begun, problem)
    if case.held_by:
        return InstanceStatus(record, State.PENDING, stage, begun, problem or case.held_by, is_held=True)
    judged = judge(
        record,
        guest=guest_of(case, world),
        console=world.consoles.get(case.machine, ()),
        in_rotation=case.is_serving(world),
        trouble=problem or world.trouble.get("balancer", "") or _off(case),
        now=now,
    )
    if judged.state is State.UNKNOWN and _is_missed(case, world):
        told = "the guest agent did not answer just now; it is looked at again"
        judged = replace(judged, state=State.READY, reason=told)
    judged = judged if judged.reason else replace(judged, reason=_waits(case, problem) or in_the_way(case))
    if guest_of(case, world).frozen:
        judged = replace(judged, reason="; ".join(filter(None, (FROZEN, judged.reason))))
    judged = replace(judged, is_unchecked=_is_unchecked(case, world, now))
    judged = _of_guest(_of_health(_of_care(judged, case, world), case, now), case, world)
    return _of_news(judged, case, world)


def _of_guest(judged: InstanceStatus, case: Case, world: World) -> InstanceStatus:
    """The status with what the guest says just now, where something seems wrong: before that counts as a look."""
    guest = guest_of(case, world)
    said = "; ".join((*guest.failed, *guest.waiting)) if guest.boot_id else ""
    if not case.found.is_doubtful or not said or said in judged.reason:
        return judged
    return replace(judged, reason=f"{said}; {judged.reason}")


def _off(case: Case) -> str:
    """That a machine which has served is off, which is no matter of HAProxy's; "" if it is on, or never served."""
    is_off = case.record.timeline.rotation is not None and rest.is_at_rest(case.power)
    return "its machine is off" if is_off else ""


def _is_unchecked(case: Case, world: World, now: float) -> bool:
    """Whether it was in rotation before HAProxy began anew, which may have changed where it is looked for."""
    begun = case.record.timeline.rotation
    return begun is not None and now - begun >= JUST_IN_S and case.is_unchecked(world)


def _of_care(judged: InstanceStatus, case: Case, world: World) -> InstanceStatus:
    """The status with what whoever runs the loop believes, and we have not looked often enough to know ourselves."""
    is_silent = judged.state is State.UNHEALTHY and is_in_care(case.record) and not guest_of(case, world).is_heard
    return replace(judged, state=State.UNKNOWN) if is_silent else judged


def _of_news(judged: InstanceStatus, case: Case, world: World) -> InstanceStatus:
    """The status with whether its guest knows all that it should, and why not, if that did not work."""
    if not runtime.is_untold(case, world):
        is_quiet = judged.state is State.READY and not judged.reason
        return replace(judged, reason=case.record.hooks) if is_quiet else judged
    why = world.trouble.get(str(case.record.id), "")
    return replace(judged, is_untold=True, reason=judged.reason or why)


def _is_missed(case: Case, world: World) -> bool:
    """Whether it was heard in one of the last looks, so that a silent one alone proves nothing."""
    pulse = world.pulses.get(case.machine)
    return pulse is not None and not pulse.silent.is_on and not all(pulse.silent.looks)


def _of_health(judged: InstanceStatus, case: Case, now: float) -> InstanceStatus:
    """The status with what is known of its health, and what repair does about that."""
    if care.is_left_alone(case):
        reason = "is off or halted, and left so: the service is paused"
        return replace(judged, state=State.UNHEALTHY, reason=reason, is_left=True)
    told, is_left = care.told(case, now), care.is_left(case)
    is_watched = not is_left and (case.found.is_doubtful or is_in_care(case.record))
    if not told:
        return replace(judged, is_watched=is_watched)
    return replace(judged, state=_state(judged, case), reason=told, is_watched=is_watched, is_left=is_left)


def _state(judged: InstanceStatus, case: Case) -> State:
    if judged.state is State.FAILED:
        return State.UNHEALTHY if case.need is not None and not care.is_left(case) else State.FAILED
    if case.found.health is Health.HEALTHY:
        return judged.state
    return State.UNHEALTHY if case.found.health is Health.UNHEALTHY else State.UNKNOWN


def is_in_care(record: InstanceRecord) -> bool:
    """Whether repair is at an instance, and has not yet seen it well again."""
    return record.care is not None and record.care.well is None


def _leaving(case: Case, farewell: Farewell, world: World, problem: str, now: float) -> InstanceStatus:
    record = case.record
    stop = case.role.stop if case.role is not None else Stop()
    if farewell.asked is None:
        count = rest.connections(record, case.role, world.balancer)
        reason = f"{farewell.act.value}: {count} connections left, {now - farewell.since:.0f} of {stop.drain_s:.0f} s"
        return InstanceStatus(record, State.DRAINING, Stage.ROTATION, farewell.since, problem or reason)
    reason = f"{farewell.act.value}: the guest shuts down, {now - farewell.asked:.0f} of {stop.timeout_s:.0f} s"
    return InstanceStatus(record, State.STOPPING, Stage.ROTATION, farewell.asked, problem or reason)


def _waits(case: Case, problem: str) -> str:
    """Why an instance that serves has not begun to do what is wanted of it."""
    due = case.due
    if due is not None:
        return f"{due.value} waits for its turn: too many of {case.record.id.role} are away now"
    after = case.record.next
    if told := upgrading.waits(case):
        return told
    if not is_under_way(case.record):
        return ""
    what = f"{after.act.value} waits for its disks" if after is not None else "waits"
    return f"{what}: {problem}" if problem else what


def stage_of_gone(record: InstanceRecord) -> Stage:
    return Stage.START if record.timeline.started is None else Stage.ROTATION
