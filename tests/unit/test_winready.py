"""What a Windows guest answers, how it is judged, and how it is asked. The guests here are stand-ins: no Windows."""

import base64
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.drivers.guest import AgentGuests
from orchestrator.drivers.winguest import ARGV, COME, HUNG_S, PROBE, READY_EVERY_S, TELL_ARGV, TELL_EVERY_S
from orchestrator.engine.lifecycle import advance
from orchestrator.engine.runtime import document, read_revision
from orchestrator.engine.winready import judge, parse
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.spec import Ready
from orchestrator.model.vicinity import Vicinity
from orchestrator.model.world import GuestSeen, Power
from tests.fakes.build import NOW, record, web
from tests.fakes.clock import FakeClock

BOOT, AGAIN = "6f1ad1fa-5c1c-4d47-8b1c-0a5b0c5e0f11", "7f1ad1fa-5c1c-4d47-8b1c-0a5b0c5e0f22"


def service(name: str, state: str = "Running", **changes: object) -> dict:
    return {"name": name, "state": state, "delayed": False, "triggered": False, "code": 0, **changes}


def answer(*services: dict, **changes: object) -> dict:
    good = {
        "boot": BOOT, "uptime": 20.0, "image": "IMAGE_STATE_COMPLETE", "busy": False, "setup": "done",
        "start_up": "done", "errors": [], "services": list(services),
    }  # fmt: skip
    return {**good, **changes}


def judged(told: dict, services: tuple[str, ...] | None = None) -> GuestSeen:
    return judge(parse(json.dumps(told)), services)


def test_every_automatic_service_that_no_event_starts_has_to_run():
    told = answer(service("W32Time", "Stopped", triggered=True), service("EventLog"))
    assert judged(told) == GuestSeen(BOOT, setup_done=True, settled=True, kept=True)


@pytest.mark.parametrize(
    ("state", "delayed", "uptime", "expected"),
    [
        ("Stopped", False, 20.0, "waiting"), ("Stopped", False, 121.0, "failed"),
        ("Start Pending", False, 999.0, "waiting"),
        ("Stopped", True, 121.0, "waiting"), ("Stopped", True, 301.0, "failed"), ("Paused", False, 121.0, "failed"),
    ],
)  # fmt: skip
def test_a_service_is_waited_for_as_long_as_windows_may_start_it(state, delayed, uptime, expected):
    seen = judged(answer(service("Spooler", state, delayed=delayed, code=1067), uptime=uptime))
    assert [name for name in ("waiting", "failed") if getattr(seen, name)] == [expected]
    assert "Spooler" in getattr(seen, expected)[0]
    assert "1067" in getattr(seen, expected)[0]
    assert seen.settled is (expected == "failed")


def test_only_the_services_that_were_named_count_and_one_that_is_not_there_has_failed():
    told = answer(service("A", "Stopped"), service("B", triggered=True), uptime=999.0)
    assert judged(told, ("B",)).failed == judged(told, ("b",)).failed == ()  # Windows knows no case here
    assert judged(told, ("C",)).failed == ("C (there is no such automatic service)",)


@pytest.mark.parametrize(
    "changes",
    [{"busy": True}, {"image": "IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE"}, {"setup": "running"}, {"start_up": "waiting"}],
)
def test_setup_has_not_ended(changes):
    seen = judged(answer(**changes))
    assert (seen.boot_id, seen.setup_done) == (BOOT, False)
    assert seen.setup_stage


def test_an_image_without_our_script_is_set_up_when_windows_says_so():
    assert judged(answer(setup="", start_up="")).settled


def test_a_script_that_failed_is_told_and_what_it_says_is_made_safe():
    seen = judged(answer(setup="failed", errors=["when ended with 3: \x1b[31mno"]))
    assert seen.setup_done
    assert "ended with 3" in seen.setup_errors[0]
    assert "\x1b" not in seen.setup_errors[0]


WRONG = {
    "no JSON": "PS C:\\>", "a list": "[]", "no boot": json.dumps(answer(boot="")),
    "a boot of another kind": json.dumps(answer(boot="x" * 36)), "text for a number": json.dumps(answer(uptime="1")),
    "a huge name": json.dumps(answer(service("x" * 300))), "too many": json.dumps(answer(*[service("x")] * 2001)),
    "too deep": "[" * 100_000, "one service, not a list": json.dumps(answer(services=service("x"))),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_another_answer_is_refused(text):
    with pytest.raises(AgentRefused, match="something else"):
        parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_what_was_not_promised_is_never_taken_for_an_answer(told):
    with pytest.raises(AgentRefused):
        parse(json.dumps(told))


class Windows:
    """A stand-in for a Windows guest's agent: a PowerShell ends when ``is_done``, and prints ``told``."""

    def __init__(self) -> None:
        self.told, self.is_done, self.is_there, self.code = json.dumps(answer()), True, True, 0
        self.started: list[dict] = []
        self.files: dict[str, bytes] = {}

    def agent(self, _domain: str, command: str, arguments: dict, _timeout_s: float) -> object:
        if not self.is_there:
            raise AgentSilent("it boots")
        if command == "guest-file-open":
            self.files[arguments["path"]] = b""
            return arguments["path"]
        if command == "guest-file-write":
            self.files[arguments["handle"]] += base64.b64decode(arguments["buf-b64"])
            return {}
        if command == "guest-file-close":
            return {}
        if command == "guest-exec":
            self.started.append(arguments)
            return {"pid": len(self.started)}
        assert command == "guest-exec-status"
        if not self.is_done:
            return {"exited": False}
        return {"exited": True, "exitcode": self.code, "out-data": base64.b64encode(self.told.encode()).decode()}


@pytest.fixture
def guest():
    return Windows()


@pytest.fixture
def look(guest):
    clock = FakeClock(NOW)
    guests = AgentGuests(clock)

    def look(known_boot: str = "", after_s: float = 0.0) -> GuestSeen:
        clock.wait(after_s)
        return guests.look(guest, web(0), dip="", ready=Ready(), known_boot=known_boot, system="windows")

    return look


def test_code_in_it_can_say_that_it_is_busy():
    assert judge(parse(json.dumps(answer(held="counts\x1b[2J money"))), None).busy == "counts money"
    assert judge(parse(json.dumps(answer())), None).busy == ""


def test_one_powershell_is_asked_and_collected_in_a_later_look(guest, look):
    assert look() == GuestSeen()
    assert look() == GuestSeen(BOOT, setup_done=True, settled=True, kept=True)
    assert [(each["path"], *each["arg"]) for each in guest.started] == [ARGV]
    assert base64.b64decode(ARGV[-1]).decode("utf-16-le") == PROBE


def test_one_that_is_ready_is_asked_only_now_and_then(guest, look):
    look(), look()
    for _ in range(5):
        assert look(BOOT) == GuestSeen(BOOT, setup_done=True, settled=True, kept=True)
    assert len(guest.started) == 1
    look(BOOT, READY_EVERY_S)
    assert len(guest.started) == 2


def test_one_that_hangs_is_left_alone(guest, look):
    guest.is_done = False
    look(), look()
    assert len(guest.started) == 1
    look("", HUNG_S)
    assert len(guest.started) == 2


def test_one_that_ends_badly_or_says_something_else_is_told(guest, look):
    look()
    guest.code = 1
    assert "ended with 1" in look().waiting[0]
    look()
    guest.code, guest.told = 0, "nonsense"
    assert "something else" in look().waiting[0]
    look()
    guest.told = json.dumps(answer())
    assert look().settled


def test_setups_own_restart_is_no_fault(guest, look):
    """A boot for the pass specialize, then silence, then another boot that gets ready: one start, no failure."""
    record_ = record(timeline={})
    guest.told = json.dumps(answer(image="IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE", busy=True, setup="waiting"))
    steps = [look(), look()]
    guest.is_there = False
    steps.append(look())
    guest.is_there, guest.told = True, json.dumps(answer(boot=AGAIN))
    steps += [look(), look()]
    for number, seen in enumerate(steps):
        record_ = advance(record_, power=Power.RUNNING, guest=seen, timeout_s=300, now=NOW + 60 * number)
        assert record_.failure is None
        assert record_.timeline.started == NOW
        assert record_.starts <= 1
    assert (record_.boot, record_.boot_id) == (2, AGAIN)
    assert record_.timeline.services is not None
    assert record_.deadline > replace(record_, deadline=NOW + 300).deadline


def test_it_is_told_by_a_file_and_a_powershell_that_puts_it_in_place(guest):
    clock = FakeClock(NOW)
    guests = AgentGuests(clock)
    text = document(record(), Vicinity(settings=(("A", "ä" * 40_000),)))
    how = {"dip": "", "ready": Ready(), "system": "windows"}
    guests.tell(guest, web(0), text, **how)
    assert guest.files == {COME: text.encode()}
    assert guest.started[0]["arg"] == list(TELL_ARGV[1:])
    # It is taken at its word until it is asked the next time; then its file counts.
    for told, expected in (("{ " + text.splitlines()[1], read_revision(text)), ("", "")):
        guest.told = json.dumps(answer(told=told))
        seen = [guests.look(guest, web(0), known_boot=BOOT, **how) for _look in range(2)][-1]
        assert (seen.told, seen.tell_after) == (expected, NOW + TELL_EVERY_S)
        clock.wait(READY_EVERY_S)
