"""n of m looks before anything is believed, and as many good ones as readiness asks for before it is trusted again."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.health import Health, finding
from orchestrator.engine.pulse import Sample, beat, is_well, pulses
from orchestrator.model.pulse import Pulse
from orchestrator.model.record import Act, Failure, Farewell, Intent, Remedy, Stage
from orchestrator.model.spec import Ready
from orchestrator.model.world import (
    BalancerSeen,
    DomainSeen,
    GuestSeen,
    HostSeen,
    Power,
    ServerSeen,
    ServerState,
    World,
)
from tests.fakes.build import NOW, OWNER, READY, deployment, record, web

ASKED = Ready(interval_s=5.0, failures=3, window=5, successes=2)
GOOD = Sample(0.0, answers=True, is_up=True)
SILENT = Sample(0.0, answers=False, is_up=True)
SICK = Sample(0.0, answers=True, words="httpd (down)", services=("httpd",), is_up=True)
DOWN = Sample(0.0, answers=True, is_up=False)
HUNG = Sample(0.0, answers=False, is_up=False)
PROVEN = record(timeline=READY, proven=True)


def watch(*samples: Sample, ready: Ready = ASKED) -> Pulse:
    pulse = None
    for number, sample in enumerate(samples):
        pulse = beat(pulse, replace(sample, at=NOW + number * ready.interval_s), ready)
    assert pulse is not None
    return pulse


def found(*samples: Sample, console: tuple[str, ...] = ()):
    now = NOW + len(samples) * ASKED.interval_s
    return finding(PROVEN, watch(*samples), ASKED, console=console, has_network=True, now=now)


def test_one_bad_look_is_looked_at_again():
    once = found(GOOD, SICK)
    assert (once.health, once.is_doubtful, once.first) == (Health.HEALTHY, True, None)
    assert found(SICK, SICK).health is Health.HEALTHY
    assert found(SICK, SICK, SICK).health is Health.UNHEALTHY


def test_three_of_five_need_not_be_in_a_row():
    assert found(SICK, GOOD, SICK, GOOD, SICK).health is Health.UNHEALTHY
    assert found(SICK, GOOD, GOOD, SICK, SICK).health is Health.HEALTHY  # two good ones in a row begin anew


def test_it_is_well_again_after_as_many_good_looks_as_readiness_asks_for():
    assert found(SICK, SICK, SICK, GOOD).health is Health.UNHEALTHY
    again = found(SICK, SICK, SICK, GOOD, GOOD)
    assert (again.health, again.is_well) == (Health.HEALTHY, True)
    assert not found(GOOD).is_well


def test_a_look_counts_once_in_its_interval():
    pulse = beat(None, replace(SICK, at=NOW), ASKED)
    for number in range(20):
        pulse = beat(pulse, replace(SICK, at=NOW + 0.1 * number), ASKED)
    assert not pulse.sick.is_on
    assert len(pulse.sick.looks) == 1


@pytest.mark.parametrize(
    ("sample", "health", "first", "said"),
    [
        (SICK, Health.UNHEALTHY, Remedy.RESTART, "httpd (down)"),
        (replace(SICK, services=()), Health.UNHEALTHY, Remedy.REBOOT, "httpd (down)"),
        (DOWN, Health.UNHEALTHY, Remedy.REBOOT, "HAProxy's check fails for 15 s, though the guest answers"),
        (SILENT, Health.UNKNOWN, None, "the guest agent does not answer for 15 s; the network does"),
        (HUNG, Health.UNKNOWN, Remedy.REBOOT, "hung: the guest agent is silent for 15 s, and HAProxy's check fails"),
        (replace(SILENT, is_up=None), Health.UNKNOWN, None, "the guest agent does not answer"),
    ],
)
def test_each_kind_of_trouble_is_told_from_the_others(sample, health, first, said):
    told = found(sample, sample, sample)
    assert (told.health, told.first) == (health, first)
    assert told.reason.startswith(said)
    assert told.is_deaf == (sample == HUNG)


def test_a_service_that_the_guest_names_is_restarted_though_only_the_network_is_believed_yet():
    named = replace(SICK, is_up=False)
    both = found(DOWN, DOWN, named)
    assert (both.health, both.first, both.services) == (Health.UNHEALTHY, Remedy.RESTART, ("httpd",))
    assert found(DOWN, DOWN, replace(named, services=())).first is Remedy.REBOOT


def test_a_panic_that_only_the_console_tells_is_quoted():
    console = ("Kernel panic - not syncing: sysrq", "---[ end Kernel panic ]---")
    assert "Kernel panic - not syncing: sysrq" in found(HUNG, HUNG, HUNG, console=console).reason


def test_a_sick_one_that_falls_silent_is_unknown():
    told = found(SICK, SICK, SICK, SILENT, SILENT, SILENT)
    assert (told.health, told.first) == (Health.UNKNOWN, None)


def test_a_failure_counts_only_if_one_of_its_make_has_been_ready():
    failure = Failure(Stage.SETUP, "bad", NOW, is_final=True)
    first = finding(record(failure=failure), None, ASKED, console=(), has_network=True, now=NOW)
    again = finding(record(failure=failure, proven=True), None, ASKED, console=(), has_network=True, now=NOW)
    assert (first.first, again.first) == (None, Remedy.REIMAGE)
    of_host = replace(failure, stage=Stage.NETWORK)
    assert (
        finding(record(failure=of_host, proven=True), None, ASKED, console=(), has_network=True, now=NOW).first is None
    )


@given(st.lists(st.sampled_from([GOOD, SICK, SILENT, DOWN, HUNG]), min_size=1, max_size=20))
def test_silence_without_the_network_s_word_is_never_acted_on(samples):
    told = found(*samples)
    pulse = watch(*samples)
    if told.health is Health.UNKNOWN and told.first is not None:
        assert pulse.silent.is_on
        assert pulse.down.is_on
    if is_well(pulse, ASKED):
        assert (told.health, told.first) == (Health.HEALTHY, None)


# --- when there is no judging at all


KEY = ("hello.production.web.http", "web-0.g1")
LIVE = record(timeline=READY, boot_id="b1", proven=True)


def seen(*, power=Power.RUNNING, guest=GuestSeen(), problem="", up=True, state=ServerState.READY) -> World:  # noqa: B008 - a value
    domain = DomainSeen(web(0).domain, power, OWNER)
    host = HostSeen("local", problem, {} if problem else {domain.name: domain})
    servers = {KEY: ServerSeen("198.18.0.10", 8080, state, up)}
    return World({"local": host}, {web(0): guest}, balancer=BalancerSeen(True, servers=servers))


def pulse_of(known=LIVE, **sight) -> Pulse | None:
    return pulses({}, Intent(OWNER, (deployment(),), (known,)), seen(**sight), NOW).get(web(0))


def test_a_machine_that_is_ready_and_runs_is_judged():
    pulse = pulse_of(up=False)
    assert pulse is not None
    assert (pulse.silent.is_wrong, pulse.down.is_wrong) == (True, True)


@pytest.mark.parametrize(
    ("changes", "sight"),
    [
        ({"farewell": Farewell(Act.REBOOT, NOW)}, {}),
        ({"timeline": record().timeline}, {}),
        ({"failure": Failure(Stage.SERVICES, "x", NOW)}, {}),
        ({}, {"power": Power.PAUSED}),
        ({}, {"power": Power.UNSETTLED}),
        ({}, {"power": Power.OFF}),
        ({}, {"problem": "does not answer"}),
        ({}, {"guest": GuestSeen("b2")}),
        ({}, {"guest": GuestSeen("b1", frozen=True)}),
    ],
)
def test_what_explains_silence_suspends_judgement(changes, sight):
    assert pulse_of(replace(LIVE, **changes), **sight) is None


def test_who_is_busy_is_not_sick_and_not_down():
    pulse = pulse_of(guest=GuestSeen("b1", busy="compacting", failed=("x (failed)",)), up=False)
    assert pulse is not None
    assert (pulse.sick.is_wrong, pulse.down.looks, pulse.silent.is_wrong) == (False, (), False)


def test_an_agent_that_refuses_is_there_and_says_nothing_else():
    pulse = pulse_of(guest=GuestSeen(waiting=("guest-file-open is not allowed",)), up=False)
    assert pulse is not None
    assert (pulse.silent.is_wrong, pulse.sick.is_wrong, pulse.down.looks) == (False, False, ())


def test_a_server_in_maintenance_says_nothing_and_one_that_drains_does():
    told = {state: pulse_of(guest=GuestSeen("b1"), up=False, state=state) for state in ServerState}
    assert {s.value: p.down.looks for s, p in told.items() if p} == {"ready": (True,), "drain": (True,), "maint": ()}


def test_names_of_services_are_taken_from_what_the_guest_says_and_nothing_else():
    guest = GuestSeen("b1", failed=("nginx.service (exit-code): gone", "-x (y)", "a;b (z)", "probe /healthz: 503"))
    pulse = pulse_of(guest=guest)
    assert pulse is not None
    assert pulse.services == ("nginx.service",)
