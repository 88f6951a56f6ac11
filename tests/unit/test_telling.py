"""How a guest is given its runtime file: by its own shell, whole or not at all, and hooks that keep nobody waiting."""

import base64
import json
import subprocess
import time
from dataclasses import dataclass, field

import pytest

from orchestrator.drivers import telling
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.looks import Memory, Outcome
from orchestrator.engine.runtime import document, read_revision
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.vicinity import Vicinity
from tests.fakes.build import record
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.real  # the scripts are run by a real shell


def text(colour: str = "blue") -> str:
    return document(record(), Vicinity(settings=(("COLOUR", colour),)))


@dataclass
class Shell:
    """A guest that is a folder: what is run in it is run here, on the files below ``root``."""

    root: object
    done: list[Outcome] = field(default_factory=list)

    def read(self, path, *, last_bytes=0, first_bytes=65536):
        assert not last_bytes
        try:
            return (self.root / path[1:]).read_bytes()[:first_bytes].decode()
        except FileNotFoundError as error:
            raise AgentRefused("no such file") from error

    def start(self, argv, *, stdin=b""):
        assert len(base64.b64encode(stdin)) <= 96 * 1024, "an agent is sent no more than this in one call"
        words = [word.replace("/etc/vmrole", f"{self.root}/etc/vmrole") for word in argv]
        words = [word.replace("/run/vmrole", f"{self.root}/run/vmrole") for word in words]
        words = [word.replace("/var/lib/vmrole", f"{self.root}/var/lib/vmrole") for word in words]
        done = subprocess.run(words, input=stdin, capture_output=True, timeout=10, check=False)
        self.done.append(Outcome(done.returncode, done.stdout, done.stderr))
        return len(self.done) - 1

    def poll(self, pid):
        return self.done[pid]

    def hook(self, name, script, mode=0o755):
        path = self.root / "etc/vmrole/on-change.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(mode)

    def tell(self, what: str) -> None:
        telling.tell(self, Memory(), what, SystemClock())


@pytest.fixture
def guest(tmp_path):
    return Shell(tmp_path)


def eventually(look):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if look():
            return True
        time.sleep(0.02)
    return False


def test_the_file_and_the_settings_are_written_and_nothing_else_is_left(guest, tmp_path):
    guest.tell(text())
    folder = tmp_path / "etc/vmrole"
    assert (folder / "runtime.json").read_text() == text()
    assert json.loads((folder / "settings.json").read_text()) == {"COLOUR": "blue"}
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {"runtime.json": 0o644, "settings.json": 0o600}
    memory = Memory()
    assert telling.told(guest, memory, 100.0) == read_revision(text())


def test_what_does_not_come_whole_changes_nothing(guest, tmp_path):
    guest.tell(text())
    start = guest.start
    guest.start = lambda argv, *, stdin: start(argv, stdin=stdin[:-1])
    with pytest.raises(AgentRefused, match="has not come whole"):
        guest.tell(text("red"))
    assert (tmp_path / "etc/vmrole/runtime.json").read_text() == text()
    assert len(list((tmp_path / "etc/vmrole").iterdir())) == 2


@pytest.mark.parametrize("size", [20_000, 24_000, 60_000, 400_000])
def test_what_is_too_long_for_one_call_comes_in_pieces(guest, tmp_path, size):
    guest.tell(text())
    long = text("é" * size)
    guest.tell(long)
    folder = tmp_path / "etc/vmrole"
    assert (folder / "runtime.json").read_text() == long
    assert json.loads((folder / "settings.json").read_text()) == {"COLOUR": "é" * size}
    assert {path.name for path in folder.iterdir()} == {"runtime.json", "settings.json"}


def test_a_piece_that_is_lost_changes_nothing_and_the_next_time_is_whole(guest, tmp_path):
    guest.tell(text())
    start, calls = guest.start, []

    def lossy(argv, *, stdin):
        calls.append(argv)
        return start(argv, stdin=b"" if len(calls) == 2 else stdin)

    guest.start = lossy
    with pytest.raises(AgentRefused, match="has not come whole"):
        guest.tell(text("x" * 200_000))
    assert (tmp_path / "etc/vmrole/runtime.json").read_text() == text()
    (tmp_path / "etc/vmrole/.come").write_text("left by one that was cut off")
    guest.tell(text("y" * 200_000))
    assert (tmp_path / "etc/vmrole/runtime.json").read_text() == text("y" * 200_000)


def test_hooks_run_for_each_new_version_and_their_output_is_kept(guest, tmp_path):
    guest.hook("10-tell", 'cat "$1" >>"$1.seen"; echo said; exit 3')
    guest.hook("20-no", "exit 0", mode=0o644)
    logs = tmp_path / "var/lib/vmrole/on-change"
    guest.tell(text())
    assert eventually((logs / "10-tell.code").exists)
    guest.tell(text())  # the same: nobody is told again
    guest.tell(text("red"))
    seen = tmp_path / "etc/vmrole/runtime.json.seen"
    assert eventually(lambda: seen.read_text() == text() + text("red"))
    assert eventually(lambda: (logs / "10-tell.code").read_text() == "3\n")
    assert (logs / "10-tell.out").read_text() == "said\n"
    assert not list(logs.glob("20*"))


def test_a_hook_that_ends_badly_is_known_until_the_next_version(guest, tmp_path):
    guest.hook("10-app", f"[ ! -e {tmp_path}/bad ]")
    guest.hook("20-fine", "exit 0")
    clock, memory = FakeClock(), Memory()

    def hooks(what):
        telling.tell(guest, memory, what, clock)
        assert eventually(lambda: (tmp_path / "run/vmrole/on-change.failed").read_text() is not None)
        time.sleep(0.3)
        clock.wait(telling.AGAIN_S)
        telling.told(guest, memory, clock.now())
        return memory.hooks

    (tmp_path / "run/vmrole").mkdir(parents=True)
    (tmp_path / "run/vmrole/on-change.failed").touch()
    assert hooks(text()) == ""
    (tmp_path / "bad").touch()
    assert "10-app ended with exit code 1" in hooks(text("red"))
    fresh = Memory()  # of another process
    telling.told(guest, fresh, clock.now())
    assert fresh.hooks == memory.hooks
    (tmp_path / "bad").unlink()
    assert hooks(text("green")) == ""


def test_a_hook_that_hangs_keeps_nobody_waiting_and_the_newest_version_is_told(guest, tmp_path):
    guest.hook("10-slow", f'until [ -e {tmp_path}/go ]; do sleep 0.05; done; grep COLOUR "$1" >>{tmp_path}/seen')
    for colour in ("one", "two", "three"):
        guest.tell(text(colour))  # none of which waits for the hook: nothing lets it go on yet
    (tmp_path / "go").touch()
    rows = tmp_path / "seen"
    assert eventually(lambda: rows.exists() and "three" in rows.read_text())
    time.sleep(0.3)
    seen = rows.read_text().splitlines()
    assert len(seen) <= 2
    assert "three" in seen[-1]


def test_a_guest_that_cannot_be_told_is_not_asked_again_at_once(guest, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/vmrole").write_text("a file")
    clock, memory = FakeClock(), Memory()
    with pytest.raises(AgentRefused, match="cannot be written"):
        telling.tell(guest, memory, text(), clock)
    assert memory.tell_after == clock.now() + telling.REFUSED_S


def test_a_guest_that_never_ends_is_not_waited_for_for_ever(guest):
    guest.poll = lambda _pid: None
    clock = FakeClock()
    begun = clock.now()
    with pytest.raises(AgentSilent, match="still writing"):
        telling.tell(guest, Memory(), text(), clock)
    assert telling.TELL_S <= clock.now() - begun < telling.TELL_S + 1


def test_what_a_guest_was_told_is_looked_up_now_and_then_only(guest):
    memory = Memory()
    assert telling.told(guest, memory, 100.0) == ""
    guest.tell(text())
    assert telling.told(guest, memory, 100.5) == ""
    assert telling.told(guest, memory, 101.0) == read_revision(text())


def test_what_is_sent_is_no_part_of_a_command():
    assert base64.b64encode(text().encode()) not in telling.TELL.encode()
    assert "COLOUR" not in telling.TELL + telling.HOOKS
