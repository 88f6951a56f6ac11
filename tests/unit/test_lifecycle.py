"""How far a machine is, when it has failed, and what people are told."""

from dataclasses import replace

import pytest

from orchestrator.engine.lifecycle import MAX_STARTS, SILENT, advance, fail, judge
from orchestrator.engine.status import State
from orchestrator.model.record import Care, Failure, Stage
from orchestrator.model.world import GuestSeen, Power
from tests.fakes.build import NOW, READY, record

T = NOW + 10
BOOTED = GuestSeen("boot-a")
SET_UP = GuestSeen("boot-a", setup_done=True, waiting=("nginx.service (activating)",))
WELL = GuestSeen("boot-a", setup_done=True, settled=True)
BROKEN = GuestSeen("boot-a", setup_done=True, settled=True, failed=("nginx.service (exit-code)",))
BAD_SETUP = GuestSeen("boot-a", setup_done=True, setup_errors=("no such user",))
BAD_TASK = GuestSeen("b", True, startup="start-up task a failed")
ORDER = ("defined", "started", "agent", "setup", "services")


@pytest.mark.parametrize(
    ("power", "guest", "reached"),
    [
        (None, SILENT, 0), (None, WELL, 0), (Power.OFF, SILENT, 1), (Power.OFF, WELL, 1), (Power.PAUSED, WELL, 1),
        (Power.UNSETTLED, WELL, 1), (Power.RUNNING, SILENT, 2), (Power.RUNNING, BOOTED, 3), (Power.RUNNING, SET_UP, 4),
        (Power.RUNNING, BROKEN, 4), (Power.RUNNING, BAD_SETUP, 3), (Power.RUNNING, WELL, 5),
    ],
)  # fmt: skip
def test_a_look_moves_the_timeline_as_far_as_it_shows(power, guest, reached):
    line = advance(record(), power=power, guest=guest, timeout_s=60, now=T).timeline
    assert [getattr(line, name) for name in ORDER] == [T] * reached + [None] * (len(ORDER) - reached)


def test_times_that_were_reached_do_not_move():
    ready = record(timeline=READY, boot_id="boot-a")
    assert advance(ready, power=Power.RUNNING, guest=WELL, timeout_s=60, now=T) == ready
    assert advance(ready, power=Power.RUNNING, guest=SILENT, timeout_s=60, now=T) == ready


def test_another_kernel_means_that_readiness_is_to_be_shown_anew():
    ready = record(timeline=READY, boot_id="boot-a", failure=None)
    again = advance(ready, power=Power.RUNNING, guest=GuestSeen("boot-b"), timeout_s=60, now=T)
    assert (again.boot, again.boot_id, again.deadline) == (2, "boot-b", T + 60)
    assert (again.timeline.agent, again.timeline.services, again.timeline.rotation) == (T, None, None)


def test_what_was_kept_out_for_its_health_is_let_in_by_the_readiness_of_another_boot():
    out = record(timeline=READY, boot_id="boot-a", care=Care(T - 30, "hung", out=T - 20))
    same = advance(out, power=Power.RUNNING, guest=WELL, timeout_s=60, now=T)
    again = advance(out, power=Power.RUNNING, guest=GuestSeen("boot-b"), timeout_s=60, now=T)
    assert (same.care.out, again.care.out) == (T - 20, None)
    assert again.care.evidence == "hung"


def test_the_first_boot_is_not_another_one():
    first = advance(record(), power=Power.RUNNING, guest=BOOTED, timeout_s=60, now=T)
    assert (first.boot, first.deadline) == (1, record().deadline)


def test_becoming_ready_forgives_what_was():
    failed = record(boot_id="boot-a", starts=2, failure=Failure(Stage.SERVICES, "x", NOW))
    mended = advance(failed, power=Power.RUNNING, guest=WELL, timeout_s=60, now=T)
    assert (mended.failure, mended.starts) == (None, 0)


FAR = {"defined": NOW, "started": NOW, "agent": NOW}
LATE = record().deadline


@pytest.mark.parametrize(
    ("line", "power", "guest", "now", "stage", "why"),
    [
        (FAR, Power.RUNNING, BAD_SETUP, T, Stage.SETUP, "setup failed: no such user"),
        ({**FAR, "setup": NOW}, Power.RUNNING, BROKEN, T, Stage.SERVICES, "services failed: nginx.service (exit-code)"),
        ({**FAR, "setup": NOW}, Power.RUNNING, BAD_TASK, T, Stage.SERVICES, "start-up task a failed"),
        ({}, None, SILENT, LATE, Stage.DEFINE, "not ready within 300 s: was waiting for its disks"),
        ({"defined": NOW}, Power.OFF, SILENT, LATE, Stage.START, "was waiting for QEMU to run"),
        ({"defined": NOW, "started": NOW}, Power.RUNNING, SILENT, LATE, Stage.AGENT, "waiting for the guest agent"),
        (FAR, Power.RUNNING, GuestSeen("b", setup_stage="init"), LATE, Stage.SETUP, "(it is in init)"),
        ({**FAR, "setup": NOW}, Power.RUNNING, SET_UP, LATE, Stage.SERVICES, "services: nginx.service (activating)"),
    ],
)
def test_a_failure_says_at_which_stage_and_why(line, power, guest, now, stage, why):
    failure = fail(record(timeline=line), power=power, guest=guest, console=("panic",), trouble="", now=now).failure
    assert failure is not None
    assert (failure.stage, failure.at, failure.console) == (stage, now, ("panic",))
    assert why in failure.reason


def test_a_machine_that_keeps_going_off_has_failed():
    tired = record(timeline={"defined": NOW, "started": NOW}, starts=MAX_STARTS)
    failed = fail(tired, power=Power.OFF, guest=SILENT, console=(), trouble="", now=T)
    assert failed.failure is not None
    assert "went off" in failed.failure.reason


def test_a_startup_task_that_failed_keeps_it_out_until_a_boot_mends_it():
    """Also on the first boot: another one runs it again, unlike setup."""
    known = advance(record(boot_id="b"), power=Power.RUNNING, guest=BAD_TASK, timeout_s=60, now=T)
    failed = fail(known, power=Power.RUNNING, guest=BAD_TASK, console=(), trouble="", now=T)
    assert failed.failure is not None
    assert (failed.failure.is_final, failed.timeline.services) == (False, None)
    settled = replace(BAD_TASK, settled=True)
    assert advance(known, power=Power.RUNNING, guest=settled, timeout_s=60, now=T).timeline.services is None
    again = advance(failed, power=Power.RUNNING, guest=replace(WELL, boot_id="c"), timeout_s=60, now=T)
    assert again.timeline.services == T


@pytest.mark.parametrize(
    ("line", "power", "guest", "now"),
    [
        (FAR, Power.RUNNING, BOOTED, LATE - 0.1),
        ({**FAR, "setup": NOW}, Power.RUNNING, replace(BROKEN, settled=False), T),
        (READY, Power.RUNNING, SILENT, LATE + 10**6),
        (READY, Power.OFF, SILENT, LATE + 10**6),
    ],
)
def test_no_failure_yet(line, power, guest, now):
    known = record(timeline=line)
    assert fail(known, power=power, guest=guest, console=(), trouble="", now=now) == known


def test_the_first_failure_stays():
    known = record(failure=Failure(Stage.SETUP, "first", NOW))
    assert fail(known, power=Power.OFF, guest=BROKEN, console=(), trouble="", now=LATE) == known


def test_trouble_of_ours_is_named_when_time_is_over():
    failed = fail(record(), power=None, guest=SILENT, console=(), trouble="no room", now=LATE)
    assert failed.failure is not None
    assert failed.failure.reason == "not ready within 300 s: no room"


@pytest.mark.parametrize(
    ("line", "guest", "in_rotation", "state", "reason"),
    [
        ({}, SILENT, False, State.PROVISIONING, "waiting for its disks and its definition, 10 s"),
        ({"defined": NOW, "started": NOW}, SILENT, False, State.BOOTING, "waiting for the guest agent, 10 s"),
        (FAR, BOOTED, False, State.SETUP, "waiting for setup to finish, 10 s"),
        (
            {**FAR, "setup": NOW},
            SET_UP,
            False,
            State.STARTING,
            "waiting for services: nginx.service (activating), 10 s",
        ),
        ({**READY, "rotation": None}, WELL, False, State.STARTING, "waiting for HAProxy to see it up, 10 s"),
        (READY, WELL, True, State.READY, ""),
        (READY, SILENT, True, State.UNKNOWN, "the guest agent does not answer"),
    ],
)
def test_what_people_are_told(line, guest, in_rotation, state, reason):
    known = record(timeline=line)
    said = judge(known, guest=guest, console=(), in_rotation=in_rotation, trouble="", now=T)
    assert (said.state, said.reason, said.in_rotation) == (state, reason, in_rotation)


def test_a_silent_guests_last_word_is_told():
    known = record(timeline={"defined": NOW, "started": NOW})
    said = judge(known, guest=SILENT, console=("one", "Kernel panic"), in_rotation=False, trouble="", now=T)
    assert said.reason.endswith("; last console line: Kernel panic")


def test_trouble_comes_first():
    said = judge(record(), guest=SILENT, console=(), in_rotation=False, trouble="no room", now=T)
    assert said.reason == "no room (trying again)"


@pytest.mark.parametrize(
    ("guest", "reached"),
    [
        (GuestSeen(waiting=("probe tcp :80: connection refused",)), 2),
        (GuestSeen(reached=True, setup_done=True), 4),
        (GuestSeen(reached=True, setup_done=True, settled=True), 5),
    ],
)
def test_a_guest_that_nobody_can_be_asked_in_is_known_by_what_answers(guest, reached):
    moved = advance(record(), power=Power.RUNNING, guest=guest, timeout_s=60, now=T)
    assert [getattr(moved.timeline, name) for name in ORDER] == [T] * reached + [None] * (len(ORDER) - reached)
    assert (moved.boot_id, moved.boot) == ("", 1)


def test_what_is_waited_for_instead_of_an_agent_is_said():
    line = {"defined": NOW, "started": NOW}
    guest = GuestSeen(waiting=("probe tcp :80: connection refused",))
    failed = fail(record(timeline=line), power=Power.RUNNING, guest=guest, console=(), trouble="", now=LATE).failure
    assert failed is not None
    assert "was waiting for probe tcp :80: connection refused" in failed.reason


@pytest.mark.parametrize(
    ("waiting", "is_quoted"),
    [(("app (down)",), True), (("app.service (activating): loading",), False)],
)
def test_the_console_speaks_for_services_that_say_nothing(waiting, is_quoted):
    guest = replace(SET_UP, waiting=waiting)
    known = record(timeline={**FAR, "setup": NOW})
    said = judge(known, guest=guest, console=("app: no database",), in_rotation=False, trouble="", now=T)
    assert said.reason.endswith("; last console line: app: no database") == is_quoted


BUSY = replace(WELL, busy="counting money")


def test_busy_counts_from_when_it_is_ready_until_it_is_not_said_any_more():
    early = advance(record(), power=Power.RUNNING, guest=replace(SET_UP, busy="x"), timeout_s=60, now=T)
    assert early.busy is None
    busy = advance(early, power=Power.RUNNING, guest=BUSY, timeout_s=60, now=T + 1)
    assert (busy.busy, busy.timeline.services) == (T + 1, T + 1)
    later = advance(busy, power=Power.RUNNING, guest=BUSY, timeout_s=60, now=T + 9)
    assert later == busy
    assert advance(later, power=Power.RUNNING, guest=SILENT, timeout_s=60, now=T + 10) == busy
    assert advance(later, power=Power.RUNNING, guest=WELL, timeout_s=60, now=T + 10).busy is None


def test_busy_is_no_failure_and_has_a_reason():
    busy = record(timeline={**READY, "rotation": None}, busy=NOW)
    assert fail(busy, power=Power.RUNNING, guest=BUSY, console=(), trouble="", now=LATE + 99) == busy
    said = judge(busy, guest=BUSY, console=(), in_rotation=False, trouble="", now=T)
    assert (said.state, said.reason, said.since, said.in_rotation) == (State.BUSY, "counting money", NOW, False)


def test_frozen_is_not_silent():
    known = record(timeline=READY)
    said = judge(known, guest=GuestSeen(frozen=True), console=(), in_rotation=True, trouble="", now=T)
    assert said.state is State.READY
