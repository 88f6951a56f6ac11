"""Rounds of questions: how many good ones make ready, what each failing probe is told as, what a look costs."""

import base64
import itertools
import subprocess

import pytest

from orchestrator.drivers.guest import FORGET_S, LOOK_S, AgentGuests
from orchestrator.drivers.looks import BUSY, LIMITED, ODD, STUCK_S
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.spec import Probe, Ready, Via
from tests.fakes.build import web
from tests.fakes.clock import FakeClock

WELL, DOWN = "app 900 100 0 run", "app - - - down"
SHELLS = [["sh"], ["busybox", "sh"]]
SET_UP = '{"v1": {"datasource": "DataSourceNoCloud", "errors": []}}'


class Guest:
    """A host with one guest: its files, its service's row, and what its probes print when they end."""

    def __init__(self, clock, services=WELL):
        self.clock, self.services, self.slow_s = clock, services, 0.0
        self.files = {"boot_id": "b\n", "result.json": SET_UP}
        self.exits: dict[str, tuple[int, str]] = {}
        self.hangs = self.is_frozen = self.is_odd = False
        self.calls: list[str] = []
        self._running: dict[int, tuple[int, str]] = {}
        self._pids = itertools.count(1)

    def agent(self, _domain, command, arguments, timeout_s):
        self.calls.append(command)
        self.clock.wait(min(self.slow_s, timeout_s))
        if self.slow_s > timeout_s:
            raise AgentSilent("too slow")
        if self.is_frozen:
            if command == "guest-fsfreeze-status":
                return "frozen"
            raise AgentRefused(f"command {command} has been disabled")
        return getattr(self, command.replace("-", "_"))(arguments)

    def guest_file_open(self, arguments):
        name = arguments["path"].rsplit("/", 1)[-1]
        if name not in self.files:
            raise AgentRefused("no such file")
        return list(self.files).index(name)

    def guest_file_read(self, arguments):
        text = list(self.files.values())[arguments["handle"]]
        return {"buf-b64": base64.b64encode(text.encode()).decode()}

    def guest_file_close(self, _arguments):
        return {}

    def guest_exec(self, arguments):
        pid = next(self._pids)
        words = arguments["arg"]
        self._running[pid] = self._ended(words)
        return {"pid": pid}

    def _ended(self, words):
        if words[2] == "vmrole-busy":
            return (0 if self.is_odd else 1), ""
        return self.exits[words[-1]] if words[2] == "vmrole-probe" else (0, self._looked(int(words[4])))

    def _looked(self, most):
        """What the script prints that looks at the services: up to so many rounds, while all is well."""
        rounds = most if self.services == WELL else 1
        return "busy odd\n" * self.is_odd + "manager runit\n" + f"round\nsv {self.services}\n" * rounds

    def guest_exec_status(self, arguments):
        if arguments["pid"] not in self._running:
            raise AgentRefused("PID does not exist")
        code, text = self._running[arguments["pid"]]
        if self.hangs:
            return {"exited": False}
        return {"exited": True, "exitcode": code, "out-data": base64.b64encode(text.encode()).decode()}

    def restart_agent(self):
        self._running = {}


class Watch:
    """Looks at one guest, again and again."""

    def __init__(self, services=WELL, **ready):
        self.clock = FakeClock()
        self.guest = Guest(self.clock, services)
        self.guests = AgentGuests(self.clock)
        self.ready = Ready(**ready)
        self.boot = None

    def look(self, after_s=0.2):
        self.clock.wait(after_s)
        return self.guests.look(self.guest, web(0), dip="127.0.0.1", ready=self.ready, known_boot=self.boot)

    def until_settled(self, most=20):
        for count in range(1, most):
            seen = self.look()
            if seen.settled:
                return count, seen
        raise AssertionError(f"not settled after {most} looks: {seen}")

    def once_ready(self):
        self.until_settled()
        self.boot = "b"
        return self


@pytest.mark.parametrize("successes", [1, 2, 5])
def test_so_many_good_rounds_in_a_row_make_it_settled(successes):
    watch = Watch(successes=successes)
    begun = watch.clock.now()
    _count, seen = watch.until_settled()
    assert (seen.waiting, seen.failed, seen.setup_done) == ((), (), True)
    assert watch.guest.calls.count("guest-exec") == 1  # which goes on until there are enough
    assert watch.clock.now() - begun < 0.2 + 0.3


def test_a_role_with_probes_is_asked_anew_for_each_round():
    watch = Watch(successes=3, probes=(Probe("exec", words=("check", "all")),))
    watch.guest.exits = {"all": (0, "")}
    begun = watch.clock.now()
    assert watch.until_settled()[1].waiting == ()
    assert watch.guest.calls.count("guest-exec") == 6
    assert watch.clock.now() - begun < 0.2 + 0.3  # at once, not a look later


def test_a_service_that_is_started_again_and_again_is_not_up_between():
    watch = Watch(services="app 20 1000 0 run")
    watch.look()
    watch.guest.services = "app 150 1200 0 run"  # by itself it would do
    assert watch.look().waiting == ("app (started again, 1.5 s ago)",)
    watch.guest.services = "app 600 1200 0 run"
    assert watch.until_settled()[1].waiting == ()
    watch.guest.files["boot_id"] = "another\n"
    watch.guest.services = "app 150 1300 0 run"
    assert watch.until_settled()[1].waiting == ()


def test_a_bad_round_in_between_begins_the_count_anew():
    watch = Watch(successes=2)
    watch.guest.services = DOWN
    assert watch.look().waiting == ("app (down)",)
    watch.guest.services = WELL
    assert watch.until_settled()[1].waiting == ()
    assert watch.guest.calls.count("guest-exec") == 2


def test_an_exec_probe_that_fails_is_quoted():
    probes = (Probe("exec", words=("check", "all")), Probe("exec", words="slow thing", timeout_s=2.0))
    watch = Watch(probes=probes)
    watch.guest.exits = {"all": (3, "no\n\x1b[31mdatabase"), "slow thing": (137, "")}
    seen = watch.look()
    assert seen.waiting == (
        "probe exec check all: exit code 3: no / database",
        "probe exec slow thing: not done within 2 s",
    )
    watch.guest.exits = {"all": (0, ""), "slow thing": (0, "")}
    assert watch.until_settled()[1].waiting == ()


def test_a_ready_guest_is_asked_for_little_between_its_intervals():
    watch = Watch(interval_s=5.0).once_ready()
    watch.look(after_s=6)
    watch.guest.calls.clear()
    assert watch.look(after_s=1).boot_id == "b"
    # Its boot id, whether it is busy, and which runtime file it has.
    read = ["guest-file-open", "guest-file-read", "guest-file-close"]
    assert watch.guest.calls == [*read, "guest-file-open", "guest-file-open"]
    watch.guest.calls.clear()
    watch.look(after_s=5)
    assert [call for call in watch.guest.calls if "exec" in call] == ["guest-exec", "guest-exec-status"]


def test_what_goes_wrong_later_is_told():
    watch = Watch(interval_s=5.0).once_ready()
    watch.guest.services = DOWN
    seen = watch.look(after_s=6)
    assert (seen.settled, seen.waiting) == (True, ("app (down)",))


def test_one_round_at_a_time_and_one_that_hangs_is_told():
    watch = Watch(interval_s=5.0).once_ready()
    watch.guest.hangs = True
    watch.guest.calls.clear()
    for _look in range(4):
        assert watch.look(after_s=6).waiting == ()
    assert "has no answer yet" in watch.look(after_s=STUCK_S).waiting[0]
    assert watch.guest.calls.count("guest-exec") == 1
    watch.guest.hangs = False
    assert watch.look(after_s=6).waiting == ()


def test_an_agent_that_was_started_anew_is_asked_anew():
    watch = Watch()
    watch.guest.hangs = True
    watch.look()
    watch.guest.restart_agent()
    watch.guest.hangs = False
    assert watch.until_settled()[1].waiting == ()


def test_busy_is_seen_once_it_is_ready_and_gone_again():
    watch = Watch()
    watch.guest.files["busy"] = "counting\x1b[2J money\nand more"
    assert watch.until_settled()[1].busy == "counting money"
    watch.boot = "b"
    assert watch.look(after_s=1).busy == "counting money"
    watch.guest.files["busy"] = "\n"
    assert watch.look(after_s=1).busy == "no reason given"
    del watch.guest.files["busy"]
    assert watch.look(after_s=1).busy == ""


def test_what_has_the_name_and_cannot_be_read_says_busy_too():
    watch = Watch().once_ready()
    watch.guest.is_odd = True  # a link that leads nowhere
    watch.look(after_s=watch.ready.interval_s)
    assert watch.look().busy == "no reason given"
    watch.guests = AgentGuests(watch.clock)  # another process: it knows before its first round has an answer
    assert watch.look().busy == "no reason given"
    watch.guest.is_odd = False
    watch.look(after_s=watch.ready.interval_s)
    assert watch.look().busy == ""


@pytest.mark.real
@pytest.mark.parametrize("shell", SHELLS)
def test_what_says_busy_without_being_a_file(tmp_path, shell):
    sign = tmp_path / "busy"

    def is_odd():
        return subprocess.run([*shell, "-c", ODD.replace(BUSY, str(sign))], check=False).returncode == 0

    assert not is_odd()
    sign.symlink_to("/nowhere/at/all")
    assert is_odd()
    sign.unlink()
    sign.mkdir()
    assert is_odd()
    sign.rmdir()
    sign.write_text("")
    assert not is_odd()  # it can be read


def test_frozen_file_systems_are_no_silence():
    watch = Watch().once_ready()
    watch.guest.is_frozen = True
    seen = watch.look()
    assert (seen.boot_id, seen.frozen, seen.is_heard) == ("", True, True)


@pytest.mark.parametrize("slow_s", [0.9, 3.0, 4.9, 60.0])
def test_a_look_ends_however_slowly_each_call_is_answered(slow_s):
    watch = Watch().once_ready()
    watch.guest.slow_s = slow_s
    begun = watch.clock.now()
    watch.look(after_s=0)
    assert watch.clock.now() - begun <= LOOK_S


def test_a_machine_that_nobody_looks_at_is_forgotten():
    watch = Watch().once_ready()
    watch.clock.wait(FORGET_S + 1)
    watch.guests.look(watch.guest, web(1), dip="127.0.0.1", ready=watch.ready, known_boot=None)
    watch.guest.hangs = True
    assert not watch.look().settled  # what its services said is not known any more


def test_what_nothing_answers_for_is_never_there():
    watch = Watch(via=Via.NETWORK)
    assert [watch.look().reached for _look in range(5)] == [False] * 5
    assert watch.guest.calls == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("echo out; echo err >&2; exit 3", 3, b"out\nerr\n"),
        ("sleep 30 & echo started", 0, b"started\n"),  # what it leaves running holds its output open
        ("head -c 5000000 /dev/zero", 0, bytes(4096)),
        ('test "$1" = "a b"', 0, b""),
    ],
)
def test_what_a_probe_prints_and_leaves_running_is_no_burden(line, code, said):
    argv = ["/bin/sh", "-c", LIMITED, "vmrole-probe", "20", "/bin/sh", "-c", line, "sh", "a b"]
    done = subprocess.run(argv, capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (code, said)


@pytest.mark.real
def test_a_probe_is_ended_when_its_time_is_over():
    argv = ["/bin/sh", "-c", LIMITED, "vmrole-probe", "1", "sleep", "60"]
    assert subprocess.run(argv, capture_output=True, timeout=20, check=False).returncode == 137
