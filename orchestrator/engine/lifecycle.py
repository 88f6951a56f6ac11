"""From what was seen of one machine to how far it has got, and why it gets no further. Pure: values in, values out.

``advance`` moves the record's timeline along; ``judge`` says it in words. Neither knows how a stage is reached.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.status import STATE_OF_STAGE, InstanceStatus, State, since, stage_of
from orchestrator.model.record import Failure, InstanceRecord, Stage
from orchestrator.model.spec import DiskKind
from orchestrator.model.world import GuestSeen, Power

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.record import Care

MAX_STARTS = 3  # a machine that powers itself off before it is ready is started so often, then it has failed
SILENT = GuestSeen()

WAITS_FOR = {
    Stage.NETWORK: "the deployment's network",
    Stage.IMAGE: "the image to be on the host",
    Stage.DEFINE: "its disks and its definition",
    Stage.START: "QEMU to run",
    Stage.AGENT: "the guest agent",
    Stage.SETUP: "setup to finish",
    Stage.SERVICES: "its services",
    Stage.ROTATION: "HAProxy to see it up",
}


def advance(
    record: InstanceRecord, *, power: Power | None, guest: GuestSeen, timeout_s: float, now: float
) -> InstanceRecord:
    """The record with everything that this look has shown. ``power`` None: there is no domain."""
    line = record.timeline
    if power is None:
        return record
    if line.defined is None:
        record = replace(record, timeline=replace(line, defined=now))
    if power is not Power.RUNNING:
        return record
    if record.timeline.started is None:
        line = replace(record.timeline, started=now)
        record = replace(record, timeline=line, has_run=True, starts=record.starts + 1, volumes=_used_volumes(record))
    if not guest.boot_id and not guest.reached:
        return record
    if guest.boot_id and guest.boot_id != record.boot_id:
        record = _new_boot(record, guest.boot_id, deadline=now + timeout_s, now=now)
    elif record.timeline.agent is None:  # nobody in it can be asked which boot this is
        record = replace(record, timeline=replace(record.timeline, agent=now))
    record = _busy(_through_setup(record, guest, now), guest, now)
    return replace(record, hooks=guest.hooks) if guest.boot_id else record


def _busy(record: InstanceRecord, guest: GuestSeen, now: float) -> InstanceRecord:
    """The record with what the code in the guest says of itself, which counts from when it is ready."""
    if not guest.busy or record.timeline.services is None:
        return record if record.busy is None else replace(record, busy=None)
    return record if record.busy is not None else replace(record, busy=now)


def _used_volumes(record: InstanceRecord) -> tuple[str, ...]:
    mine = {disk.name for disk in record.machine.disks if disk.kind is DiskKind.VOLUME}
    return tuple(sorted({*record.volumes, *mine}))


def _new_boot(record: InstanceRecord, boot_id: str, *, deadline: float, now: float) -> InstanceRecord:
    """Another kernel runs than before: what was known of the guest's readiness was the old one's."""
    line = replace(record.timeline, agent=now, setup=None, services=None, rotation=None)
    is_first = record.boot_id == ""
    return replace(
        record,
        boot_id=boot_id,
        boot=record.boot if is_first else record.boot + 1,
        deadline=record.deadline if is_first else deadline,
        timeline=line,
        failure=record.failure if is_first or _is_unset(record) else None,
        care=_let_in(record.care),
    )


def _let_in(care: Care | None) -> Care | None:
    """Care of an instance that its kernel's end has taken out of rotation: its readiness brings it back."""
    return care if care is None or care.out is None else replace(care, out=None)


def _is_unset(record: InstanceRecord) -> bool:
    """Whether setup failed in this generation: a later boot does not run it again, and so knows nothing of it."""
    return record.failure is not None and record.failure.is_final


def _through_setup(record: InstanceRecord, guest: GuestSeen, now: float) -> InstanceRecord:
    line = record.timeline
    if line.services is not None or not guest.setup_done or guest.setup_errors or _is_unset(record):
        return record
    if line.setup is None:
        line = replace(line, setup=now)
    if guest.settled and not guest.waiting and not guest.failed and not guest.startup:
        line = replace(line, services=now)
        return replace(record, timeline=line, starts=0, failure=None, is_set_up=record.is_set_up or guest.kept)
    return replace(record, timeline=line)


def fail(
    record: InstanceRecord,
    *,
    power: Power | None,
    guest: GuestSeen,
    console: Sequence[str],
    trouble: str,
    now: float,
) -> InstanceRecord:
    """The record, with a failure if this machine cannot become ready any more, or has not within its time."""
    is_busy = record.busy is not None and record.timeline.services is not None
    if record.failure is not None or record.timeline.rotation is not None or is_busy:
        return record
    stage = stage_of(record.timeline)
    reason = _cause(record, power, guest)
    if not reason and now >= record.deadline:
        waited = now - record.timeline.requested
        reason = f"not ready within {waited:.0f} s: {trouble or 'was waiting for ' + _detail(stage, guest)}"
        reason += _quoted(stage, guest, console) if not trouble else ""
    if not reason:
        return record
    # On a later boot only what is done at every boot can have failed, and the next one does it again.
    is_final = bool(guest.setup_errors) and record.boot == 1
    return replace(record, failure=Failure(stage, reason, now, tuple(console), is_final))


def _cause(record: InstanceRecord, power: Power | None, guest: GuestSeen) -> str:
    if guest.setup_done and guest.setup_errors:
        return "setup failed: " + "; ".join(guest.setup_errors)
    if guest.setup_done and guest.startup:
        return guest.startup
    if guest.settled and guest.failed:
        return "services failed: " + "; ".join(guest.failed)
    if power is Power.OFF and record.starts >= MAX_STARTS:
        return f"the machine went off {record.starts} times before it was ready"
    return ""


def _detail(stage: Stage, guest: GuestSeen) -> str:
    if stage is Stage.AGENT and guest.waiting:
        return "; ".join(guest.waiting)
    if stage is Stage.SETUP and guest.setup_stage:
        return f"{WAITS_FOR[stage]} (it is in {guest.setup_stage})"
    if stage is Stage.SERVICES and guest.waiting:
        return "services: " + "; ".join(guest.waiting)
    return WAITS_FOR[stage]


def _quoted(stage: Stage, guest: GuestSeen, console: Sequence[str]) -> str:
    """The console's last word, where nothing else says why it takes so long."""
    has_words = stage is not Stage.AGENT and (stage is not Stage.SERVICES or any("): " in w for w in guest.waiting))
    return f"; last console line: {console[-1]}" if console and not has_words else ""


def judge(
    record: InstanceRecord,
    *,
    guest: GuestSeen,
    console: Sequence[str],
    in_rotation: bool,
    trouble: str,
    now: float,
) -> InstanceStatus:
    """The instance's state, stage and reason, for people. ``trouble``: why our last action on it failed, or ""."""
    stage, begun = stage_of(record.timeline), since(record.timeline)
    if record.failure is not None:
        failure = record.failure
        return InstanceStatus(
            record,
            State.FAILED,
            failure.stage,
            failure.at,
            failure.reason,
            console=failure.console or tuple(console),
        )
    if record.busy is not None and stage is Stage.ROTATION:
        return InstanceStatus(record, State.BUSY, stage, record.busy, guest.busy or "its own code has said so")
    if stage is Stage.ROTATION and in_rotation:
        return _in_rotation(record, guest, begun)
    if record.timeline.rotation is not None:
        return InstanceStatus(record, State.UNHEALTHY, stage, begun, trouble or "HAProxy's check of it fails")
    reason = f"waiting for {_detail(stage, guest)}, {now - begun:.0f} s{_quoted(stage, guest, console)}"
    if trouble:
        reason = f"{trouble} (trying again)"
    return InstanceStatus(record, STATE_OF_STAGE[stage], stage, begun, reason, console=tuple(console))


def _in_rotation(record: InstanceRecord, guest: GuestSeen, begun: float) -> InstanceStatus:
    if guest.is_heard:
        return InstanceStatus(record, State.READY, Stage.ROTATION, begun, in_rotation=True)
    return InstanceStatus(
        record, State.UNKNOWN, Stage.ROTATION, begun, "the guest agent does not answer", in_rotation=True
    )
