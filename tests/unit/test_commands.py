"""What a guest runs for its setup, tried by running it: on this machine, with its folders below a temporary one."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.engine.startup import Progress, progress
from orchestrator.model.setup import Command, Setup, When
from orchestrator.model.spec import Disk, DiskKind
from orchestrator.render.commands import name, script
from tests.fakes.build import web

ANY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
SHELLS = [["sh"], ["busybox", "sh"]]


class Guest:
    """``shell``: what runs the script. Its /var/lib and /run are below ``root``."""

    def __init__(self, root: Path, shell: list[str]) -> None:
        self.root, self.shell, self.machine = root, shell, web(0)
        (root / "run/vmrole").mkdir(parents=True, exist_ok=True)
        (root / "var/lib/cloud/data").mkdir(parents=True, exist_ok=True)
        (root / "var/lib/cloud/data/instance-id").write_text(f"{self.machine}\n")

    def boot(self, *commands: Command) -> subprocess.CompletedProcess:
        text = script(self.machine, Setup(commands=commands), ())
        for folder in ("/var/lib/", "/run/vmrole"):
            text = text.replace(folder, f"{self.root}{folder}")
        return subprocess.run([*self.shell, "-c", text], capture_output=True, check=False, timeout=30, env=self.env)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.root), "OUT": str(self.root / "out")}

    @property
    def progress(self) -> Progress:
        return progress((self.root / "run/vmrole/setup").read_text(errors="replace"))

    @property
    def out(self) -> str:
        path = self.root / "out"
        return path.read_text() if path.exists() else ""

    def kept(self, what: str) -> str:
        return (self.root / f"var/lib/vmrole/setup/{self.machine}/{what}").read_text(errors="replace")


@pytest.fixture(params=SHELLS, ids=lambda shell: shell[0])
def guest(request, tmp_path):
    return Guest(tmp_path, request.param)


def first(words, **fields) -> Command:
    return Command(words, **fields)


def every(words, **fields) -> Command:
    return Command(words, When.EVERY_BOOT, **fields)


def task(words, **fields) -> Command:
    return Command(words, When.START_UP, **fields)


def test_nothing_to_run_is_no_script():
    assert script(web(0), Setup(), ()) == ""


@pytest.mark.real
def test_each_kind_in_its_order_and_only_what_is_of_every_boot_again(guest):
    commands = (task("echo start >>$OUT"), every("echo every >>$OUT"), first("echo first >>$OUT"))
    assert guest.boot(*commands).returncode == 0
    assert guest.out.split() == ["first", "every", "start"]
    assert guest.progress == Progress()
    assert guest.boot(*commands).returncode == 0
    assert guest.out.split() == ["first", "every", "start", "every", "start"]


@pytest.mark.real
def test_what_each_printed_and_its_exit_code_are_kept(guest):
    done = guest.boot(first("echo one; echo two >&2"), task(("sh", "-c", "echo three"), name="t"))
    assert guest.kept("001-first_boot.out") == "one\ntwo\n"
    assert (guest.kept("001-first_boot.code"), guest.kept("002-start_up.out")) == ("0\n", "three\n")
    assert done.stdout == b"one\ntwo\nthree\n"


@pytest.mark.real
def test_a_command_of_setup_that_fails_ends_it_and_fails_at_every_later_boot(guest):
    commands = (first("echo not there >&2; exit 4", name="db"), first("echo next >>$OUT"), task("echo start >>$OUT"))
    for _boot in range(2):
        done = guest.boot(*commands)
        assert (done.returncode, done.stderr) == (1, b"db: exit code 4: not there\n")
        assert guest.progress.failed == "run db failed with exit code 4: not there"
    assert guest.out == ""


@pytest.mark.real
@pytest.mark.parametrize(("kind", "told"), [(every, "run_every_boot x"), (task, "start-up task x")])
def test_one_of_every_boot_that_fails_is_no_failure_of_setup_and_may_be_mended(guest, kind, told):
    commands = (kind('[ -e "$OUT" ] || exit 3', name="x"), task('echo last >>"$OUT"'))
    assert guest.boot(*commands).returncode == 0
    assert guest.progress.failed == f"{told} failed with exit code 3 without a word"
    (guest.root / "out").write_text("")
    assert guest.boot(*commands).returncode == 0
    assert (guest.progress, guest.out) == (Progress(), "last\n")


@pytest.mark.real
def test_what_takes_too_long_is_ended(guest):
    guest.boot(task("echo begun; exec sleep 20", name="slow", timeout_s=1.0))
    assert guest.progress.failed.startswith("start-up task slow did not end in time: begun")


@pytest.mark.real
def test_a_command_that_was_cut_off_by_its_own_reboot_counts_as_done(guest):
    guest.boot(first("exit 0"), first("echo two >>$OUT"))
    (guest.root / f"var/lib/vmrole/setup/{guest.machine}/001-first_boot.code").unlink()
    (guest.root / f"var/lib/vmrole/setup/{guest.machine}/002-first_boot.begun").unlink()
    guest.boot(first("exit 9"), first("echo two >>$OUT"))
    assert guest.out.split() == ["two", "two"]


@pytest.mark.real
def test_another_machine_made_from_its_disk_runs_none_of_it(guest):
    (guest.root / "var/lib/cloud/data/instance-id").write_text("hello.production.web-1.g1\n")
    assert guest.boot(first("echo x >>$OUT")).returncode == 0
    assert guest.out == ""


@pytest.mark.real
def test_a_disk_that_is_not_as_wanted_is_setups_failure(guest):
    (guest.root / "run/vmrole/disks.failed").write_text("disk data (/srv): no\n")
    done = guest.boot(first("echo x >>$OUT"))
    assert (done.returncode, done.stderr, guest.out) == (1, b"disk data (/srv): no\n", "")


@pytest.mark.real
def test_a_script_names_its_own_interpreter(guest):
    guest.boot(first("#!/bin/bash\na=(x y)\necho ${a[1]}"))
    assert guest.kept("001-first_boot.out") == "y\n"


@pytest.mark.real
def test_output_without_end_keeps_its_end(guest):
    guest.boot(first("yes 0123456789 | head -c 1000000; echo; echo end; exit 1"))
    assert len(guest.kept("001-first_boot.out")) <= 262144
    assert guest.progress.failed.endswith("/ end")


@pytest.mark.real
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(ANY, min_size=1, max_size=3), called=ANY)
def test_every_word_reaches_its_command_unchanged(tmp_path_factory, words, called):
    guest = Guest(tmp_path_factory.mktemp("guest"), SHELLS[0])
    guest.boot(first(("sh", "-c", 'printf "%s\\0" "$@" >"$OUT"', "x", *words), name=name(first(called))))
    assert (guest.root / "out").read_bytes().split(b"\0")[:-1] == [word.encode() for word in words]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (first("echo a\n echo b"), "echo a echo b"),
        (first(("touch", "a b")), "touch 'a b'"),
        (first("x", name="mine"), "mine"),
        (first("a" * 100), "a" * 59 + "…"),
        (first("a\x1b[31m\x07b"), "a [31m b"),
    ],
)
def test_how_messages_speak_of_a_command(command, told):
    assert name(command) == told


def test_a_disks_owner_is_set_before_the_first_command():
    disk = Disk("data", DiskKind.VOLUME, 64, "/srv")
    text = script(web(0), Setup(commands=(first("x"),)), (disk,))
    assert text.index("words 000-first_boot first_boot 600 'the disks' sh -c") < text.index("text 001-first_boot")
    assert script(web(0), Setup(), (replace(disk, size_mib=65),)) == script(web(0), Setup(), (disk,))


@given(st.text())
def test_whatever_a_guest_says_is_read(text):
    found = progress(text)
    assert found.running.isprintable()
    assert found.failed.isprintable()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", Progress()),
        ("finished", Progress()),
        ("running start_up 0 the task", Progress(running="start-up task the task")),
        ("failed every_boot 7 a\nout x\nout y\nz", Progress(failed="run_every_boot a failed with exit code 7: x / y")),
        ("failed nonsense 7 a", Progress()),
        ("sleeping start_up 0 a", Progress()),
        (
            "failed start_up 1 a\n" + "out \x1b[1mx\n" * 9,
            Progress(failed="start-up task a failed with exit code 1: " + " / ".join("x" * 5)),
        ),
    ],
)
def test_how_far_a_guest_is(text, found):
    assert progress(text) == found
