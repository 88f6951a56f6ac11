"""What a guest's service manager printed, judged: recorded outputs, and what a hostile guest may print."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.readiness import (
    MAX_NAMED,
    auto_started,
    first_starts,
    judge_services,
    recent_restarts,
    setup_result,
)
from orchestrator.engine.systemd import Report
from orchestrator.model.text import LINE_LENGTH


def unit(name: str, **changes: str) -> str:
    fields = {
        "Id": f"{name}.service", "Type": "simple", "ActiveState": "active", "SubState": "running",
        "UnitFileState": "enabled", "ConditionResult": "yes", "Result": "success", "RemainAfterExit": "no",
        "WantedBy": "multi-user.target", "RequiredBy": "", "TriggeredBy": "", "ConditionTimestampMonotonic": "1234",
    }  # fmt: skip
    return "\n".join(f"{key}={value}" for key, value in {**fields, **changes}.items()) + "\n\n"


def systemd(*units: str, state: str = "running", extra: str = "") -> str:
    targets = "target basic.target\ntarget multi-user.target\n"
    return f"manager systemd\nstate {state}\n{targets}{extra}{''.join(units)}"


DEAD = {"ActiveState": "inactive", "SubState": "dead"}
WELL = systemd(unit("ssh"), unit("nginx"))


def test_all_is_up():
    report = judge_services(WELL, None)
    assert (report.settled, report.waiting, report.failed) == (True, (), ())


@pytest.mark.parametrize(
    "idle",
    [
        {**DEAD, "UnitFileState": "disabled"}, {**DEAD, "UnitFileState": "masked"}, {**DEAD, "WantedBy": "x.target"},
        {**DEAD, "WantedBy": ""}, {**DEAD, "TriggeredBy": "x.socket"}, {**DEAD, "ConditionResult": "no"},
        {**DEAD, "Type": "oneshot"}, {"ActiveState": "reloading"},
    ],
)  # fmt: skip
def test_a_service_that_need_not_run(idle):
    assert judge_services(systemd(unit("idle", **idle)), None).waiting == ()


@pytest.mark.parametrize(
    ("down", "why"),
    [
        (DEAD, "x.service (inactive, dead)"),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, "x.service (activating, auto-restart)"),
        ({**DEAD, "ConditionTimestampMonotonic": "0"}, "x.service (never started)"),
        ({**DEAD, "Type": "oneshot", "ConditionTimestampMonotonic": "0"}, "x.service (never started)"),
        ({**DEAD, "Type": "oneshot", "Result": "exit-code"}, "x.service (inactive, dead)"),
        ({**DEAD, "WantedBy": "", "RequiredBy": "multi-user.target"}, "x.service (inactive, dead)"),
    ],
)
def test_a_service_that_should_run_and_does_not(down, why):
    report = judge_services(systemd(unit("ssh"), unit("x", **down)), None)
    assert (report.settled, report.waiting) == (True, (why,))


def test_a_failed_unit_is_told_with_its_last_words():
    text = systemd(
        unit("nginx", ActiveState="failed", SubState="failed", Result="exit-code"),
        state="degraded",
        extra="failed nginx.service exit-code\nlog nginx.service bind() to :80 failed\nlog nginx.service giving up\n",
    )
    report = judge_services(text, None)
    assert report.settled
    assert report.waiting == ()
    assert report.failed == ("nginx.service (exit-code): bind() to :80 failed / giving up",)


@pytest.mark.parametrize("state", ["starting", "initializing", "maintenance", "stopping", "", "offline"])
def test_an_unsettled_manager_is_waited_for(state):
    report = judge_services(systemd(unit("ssh"), state=state), None)
    assert not report.settled
    assert report.waiting


def test_a_queued_job_is_waited_for():
    report = judge_services(systemd(unit("ssh"), extra="job nginx.service\n"), None)
    assert (report.settled, report.waiting) == (False, ("nginx.service is queued",))


def test_only_named_services_count_when_some_are_named():
    text = systemd(unit("ssh", **DEAD), unit("nginx"), unit("app", **DEAD), extra="failed db.service timeout\n")
    assert judge_services(text, ("nginx",)).waiting == ()
    report = judge_services(text, ("nginx", "app.service", "db", "none"))
    assert report.waiting == ("app.service (inactive, dead)", "none.service (not loaded)")
    assert report.failed == ("db.service (timeout)",)


def runit(*rounds):
    """What the probe prints of runit's services: each round its rows, as words."""
    return "".join(["manager runit\n", *("round\n" + "".join(f"sv {row}\n" for row in rows) for rows in rounds)])


HTTPD = "httpd 300 500 0 run"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("sshd 100 700 0 run", ""),
        ("sshd 100 700 0 run, got TERM", ""),
        ("sshd 99 701 0 run", "started 1.0 s ago"),
        ("sshd -3 803 0 run", "started 0.0 s ago"),
        ("sshd 300 500 1 run", "its check ended with 1"),
        ("sshd 300 500 0 run, paused", "run, paused"),
        ("sshd 300 500 0 run, want down", "run, want down"),
        ("sshd - - - down, want up", "down, want up"),
        ("sshd - - - run", "not supervised"),
        ("sshd - - - not supervised", "not supervised"),
        ("sshd - - - ", "down"),
        ("sshd", "not there"),
        ("sshd 12345678901234567890 1 0 run", "not there"),
    ],
)
def test_runit(said, why):
    report = judge_services(runit([HTTPD, said]), ("httpd", "sshd"))
    assert report.waiting == ((f"sshd ({why})",) if why else ())


def test_runit_with_named_services():
    text = runit([HTTPD, "sshd - - - down"])
    assert judge_services(text, None).waiting == ("sshd (down)",)
    assert judge_services(text, ("httpd",)).waiting == ()
    assert judge_services(text, ("db",)).waiting == ("db (not there)",)


def test_the_good_rounds_at_the_end_count():
    good, bad = [HTTPD], ["httpd 300 500 1 run"]
    for rounds, count in [([good], 1), ([good, good], 2), ([bad, good], 1), ([bad, good, good], 2), ([good, bad], 0)]:
        report = judge_services(runit(*rounds), None)
        assert (report.rounds, not report.waiting) == (count, bool(count))


def test_one_of_runits_that_was_started_again_has_to_last():
    before = first_starts(runit(["app 30 1000 0 run", "db - - - down"]))
    assert before == {"app": 1000}
    soon, later = runit(["app 150 1200 0 run"]), runit(["app 500 1200 0 run"])
    assert judge_services(soon, None).waiting == ()  # it's the first that is heard of it
    assert judge_services(soon, None, starts=before).waiting == ("app (started again, 1.5 s ago)",)
    assert judge_services(later, None, starts=before).waiting == ()
    between = runit(["app 150 1000 0 run"], ["app 110 1300 0 run"])
    assert judge_services(between, None).waiting == ("app (started again, 1.1 s ago)",)


@pytest.mark.parametrize("text", ["", "manager none\n", "manager upstart\n", "\0\0", "state running\n"])
def test_no_manager_is_never_ready(text):
    report = judge_services(text, None)
    assert not report.settled
    assert report.waiting


@pytest.mark.parametrize("manager", ["systemd", "runit"])
@pytest.mark.parametrize(
    "row",
    ["sv ", "sv", "round", "sv a b c d e", "sv a 1 2 3", "job ", "target ", "failed ", "failed", "log ", "state ", "=",
     "Id=", "Id", "sv \x0b",
     "log  ", "job \x1b[2J"],
)  # fmt: skip
def test_rows_that_say_too_little_do_no_harm(manager, row):
    report = judge_services(f"manager {manager}\n{row}\n", None)
    assert report.failed == () or manager == "systemd"


WORDS = ["manager systemd", "manager runit", "state ", "running", "failed ", "log ", "job ", "sv ", "sv a - - - ",
         "sv x 900 1 0 run", "round", "Id=",
         "ActiveState=", "\n", " ", "\x1b[31m", "\u2028", "x"]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5)).map("".join), st.none() | st.just(("x",)))
def test_whatever_a_guest_prints_is_read_without_a_crash_and_safe_to_print(text, named):
    report = judge_services(text, named)
    for said in (*report.waiting, *report.failed):
        assert not [c for c in said if ord(c) < 32 or 127 <= ord(c) < 160]


def test_a_guest_that_claims_a_hundred_thousand_services_is_read_at_once_and_in_short():
    rows = "".join(f"failed evil{n}.service {'x' * 50}\nlog evil{n}.service \x1b[31m{n}\n" for n in range(100_000))
    begun = time.monotonic()
    report = judge_services("manager systemd\nstate degraded\n" + rows, None)
    assert time.monotonic() - begun < 5
    assert len(report.failed) == MAX_NAMED
    assert all(len(text) <= LINE_LENGTH for text in report.failed)


def result(*errors: object, source: str = "DataSourceNoCloud [seed=/dev/sr0][dsmode=net]") -> str:
    return json.dumps({"v1": {"datasource": source, "errors": list(errors)}})


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        (result(), ()),
        (result("one\ntwo", {"a": 1}), ("one / two", "{'a': 1}")),
        (result(""), ("an error without words",)),
        (result("\x1b[31mred"), ("red",)),
    ],
)
def test_setup_has_ended(text, errors):
    assert setup_result(text) == errors


def test_a_setup_without_our_disc_is_no_good_end():
    found = setup_result(result(source="DataSourceNone"))
    assert found
    assert "answer file" in found[0]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "5", '{"v1": null}', '{"v1": []}', '{"v1": {"errors": null}}', "[" * 100_000, "\0"]
)
def test_no_result_yet(text):
    assert setup_result(text) is None


def test_a_hundred_thousand_errors_are_named_in_short():
    found = setup_result(result(*["x"] * 100_000))
    assert found is not None
    assert len(found) == MAX_NAMED


def test_auto_start_services_that_are_up_are_listed():
    assert auto_started(runit([HTTPD, "broken - - - down, want up"])) == ("httpd",)
    blocks = ["Id=nginx.service\nUnitFileState=enabled\nActiveState=active", "Id=x.service\nUnitFileState=static"]
    off = "Id=off.service\nUnitFileState=enabled\nActiveState=inactive"
    assert auto_started("manager systemd\nstate running\n" + "\n\n".join([*blocks, off]) + "\n") == ("nginx.service",)
    assert auto_started("") == ()


@pytest.mark.parametrize(
    ("down", "why"),
    [
        ({"Id": "x.socket", "WantedBy": "sockets.target", **DEAD}, "x.socket (inactive, dead)"),
        ({"Id": "srv.mount", "UnitFileState": "generated", "WantedBy": "", "RequiredBy": "basic.target", **DEAD},
         "srv.mount (inactive, dead)"),
        ({"Id": "x@one.service", **DEAD}, "x@one.service (inactive, dead)"),
        ({"UnitFileState": "static", **DEAD}, "x.service (inactive, dead)"),
        ({**DEAD, "Type": "oneshot", "RemainAfterExit": "yes"}, "x.service (inactive, dead)"),
        ({**DEAD, "AssertResult": "no"}, "x.service (its assertion does not hold)"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "7"},
         "x.service (activating, auto-restart, restarted 7 times)"),
        ({"NRestarts": "3", "ActiveEnterTimestampMonotonic": "99000000"},
         "x.service (restarted 3 times, the last time 1 s ago)"),
    ],
)  # fmt: skip
def test_units_of_every_kind_that_should_be_up(down, why):
    text = systemd(unit("ssh"), unit("x", **down), extra="uptime 100.25 220.00\ntarget sockets.target\n")
    assert judge_services(text, None).waiting == (why,)


@pytest.mark.parametrize(
    "well",
    [
        {"NRestarts": "3", "ActiveEnterTimestampMonotonic": "50000000"},
        {"Id": "x.timer", "ActiveState": "active", "SubState": "waiting"},
        {**DEAD, "Id": "x.mount", "UnitFileState": "generated", "TriggeredBy": "x.automount"},
        {**DEAD, "LoadState": "masked"},
        {**DEAD, "LoadState": "not-found", "ConditionTimestampMonotonic": "0"},
        {**DEAD, "Id": "binfmt.automount", "UnitFileState": "static"},
        {"NRestarts": "x" * 99, "ActiveEnterTimestampMonotonic": "-"},
    ],
)
def test_units_that_are_well(well):
    text = systemd(unit("x", **well), extra="uptime 100.25 220.00\n")
    assert judge_services(text, None) == Report(settled=True)


def flapping(looks):
    """What is said of a service at looks of (seconds since the boot, restarts by systemd); it has run for 10 s."""
    said, known = [], {}
    for at, count in looks:
        entered = str(int((at - 10) * 1e6))
        text = systemd(
            unit("x", NRestarts=str(count), ActiveEnterTimestampMonotonic=entered), extra=f"uptime {at}.0 1.0\n"
        )
        known = recent_restarts(text, known)
        said.append(judge_services(text, None, was_ready=True, restarts=known).waiting)
    return said


def test_a_unit_that_systemd_restarts_again_and_again_is_not_up_in_between():
    said = flapping([(20 * n, n) for n in range(1, 8)])
    assert said[:3] == [(), (), ()]
    assert said[3] == ("x.service (restarted 4 times, 3 of them in the last 120 s)",)
    assert all(said[3:])


@pytest.mark.parametrize(
    "looks",
    [
        [(20 * n, 7) for n in range(1, 20)],  # it was restarted long ago, as far as anybody has seen
        [(20, 1), (40, 2), (60, 3), (190, 3), (300, 3)],  # and has come to rest
        [(60 * n, n) for n in range(1, 20)],  # one in a minute
        [(20, 2), (40, 0), (60, 1), (80, 0), (100, 1), (120, 2), (140, 0)],  # somebody restarts it, which counts anew
    ],
)
def test_a_unit_that_was_restarted_is_up(looks):
    assert flapping(looks) == [()] * len(looks)


def test_what_is_waited_for_is_quoted_too():
    odd = unit("x", ActiveState="activating", SubState="start")
    text = systemd(odd, state="starting", extra="job x.service start running\nlog x.service still loading\n")
    assert judge_services(text, None).waiting == (
        "x.service is queued",
        "x.service (activating, start): still loading",
    )


def test_a_named_unit_is_known_by_its_alias_and_by_what_it_cannot_be():
    real = unit("real", Names="real.service other.service")
    text = systemd(real, unit("off", LoadState="masked", **DEAD), extra="failed bad.mount exit-code\n")
    report = judge_services(text, ("other", "off", "bad.mount"))
    assert report.waiting == ("off.service (masked)",)
    assert report.failed == ("bad.mount (exit-code)",)


def test_a_name_is_completed_as_systemctl_does_and_a_target_may_be_named():
    text = systemd(unit("my.app"))
    assert judge_services(text, ("my.app", "multi-user.target")) == Report(settled=True)
    assert judge_services(text, ("other.target",)).waiting == ("other.target (not loaded)",)


def test_a_machine_that_was_ready_is_not_judged_by_what_is_queued():
    text = systemd(unit("ssh"), state="starting", extra="job apt-daily.service start running\n")
    assert not judge_services(text, None).settled
    assert judge_services(text, None, was_ready=True) == Report(settled=True)


# Printed by OpenRC 0.45.2 of Debian 12, but for the state of crashy.
OPENRC = """manager openrc
Runlevel: sysinit
Runlevel: boot
 bootsvc                                                           [  started  ]
Runlevel: default
 never                                                             [  stopped  ]
 supd                                                  [  started 00:00:01 (0) ]
 crashy                                                            [  crashed  ]
 goodone                                                           [  started  ]
crashed crashy
log crashy crashy: out of memory
"""


def test_openrc():
    report = judge_services(OPENRC, None)
    assert report == Report(True, ("never (stopped)",), ("crashy (crashed): crashy: out of memory",))
    assert judge_services(OPENRC, ("supd", "bootsvc")) == Report(settled=True)
    assert judge_services(OPENRC, ("none",)).waiting == ("none (not there)",)
    assert not judge_services(f"{OPENRC}state starting\n", None).settled
    assert not judge_services("manager openrc\n", None).settled
    assert auto_started(OPENRC) == ("bootsvc", "goodone", "supd")


def test_runit_services_are_quoted_from_their_log():
    text = runit(["app - - - down, want up"]) + "log app one\nlog app two\n"
    assert judge_services(text, None).waiting == ("app (down, want up): one / two",)
