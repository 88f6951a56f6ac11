"""The command line: help that shows an example, and exit codes that scripts can rely on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator.cli import COMMANDS, root
from orchestrator.cli.instance import ask, check_command, parse_instance
from orchestrator.drivers.sqlite import SqliteStore
from orchestrator.errors import (
    AgentSilent,
    Busy,
    InvalidInput,
    Missing,
    NotFound,
    TransientError,
    UserError,
    VmroleError,
)
from orchestrator.model.names import DeploymentId, InstanceId
from orchestrator.model.record import Event
from orchestrator.wiring import make_home, owner_of
from tests.fakes.build import deployment
from tests.fakes.world import FakeWorld


def commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    context = click.Context(root)
    for name in COMMANDS:
        command = root.get_command(context, name)
        found.append((name,))
        if isinstance(command, click.Group):
            found += [(name, child) for child in command.list_commands(context)]
    return found


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_has_help_with_an_example(path):
    done = CliRunner().invoke(root, [*path, "--help"])
    assert done.exit_code == 0
    assert "Example:" in done.output
    assert "vmrole" in done.output.split("Example:")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["up"], ["up", "--nonsense", "f"], ["status"], ["up", "f", "--timeout", "soon"], ["exec"],
        ["exec", "hello/web-0"], ["image", "nonsense"], ["--home"], ["plan", "/nonexistent.yaml"],
        ["up", "/nonexistent.yaml"], ["exec", "hello", "--", "true"], ["events", "No_Name"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_input_ends_with_2(arguments, tmp_path):
    done = CliRunner().invoke(root, ["--home", str(tmp_path), *arguments])
    code = done.exception.exit_code if isinstance(done.exception, VmroleError) else done.exit_code
    assert code == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [(VmroleError, 1), (UserError, 2), (NotFound, 2), (TransientError, 75), (Busy, 75), (Missing, 1)],
)
def test_the_exit_code_of_an_error(error, code):
    assert error("x").exit_code == code
    assert InvalidInput("f", ()).exit_code == 2


def test_an_instance_as_it_is_written():
    assert parse_instance("hello/web-0", "production") == InstanceId(DeploymentId("hello"), "web", 0)


@pytest.mark.parametrize(
    "text", ["", "hello", "hello/", "/web-0", "hello/web", "Hello/web-0", "a/b/c-0", "hello/web-00"]
)
def test_not_an_instance(text):
    with pytest.raises(UserError, match="does not name an instance"):
        parse_instance(text, "production")


@pytest.mark.parametrize("follow", [[], ["-f"], ["--json"]])
def test_events_of_a_service_that_never_was(tmp_path, follow):
    store = SqliteStore(make_home(tmp_path) / "vmrole.db", owner_of(tmp_path))
    store.note(Event(1.0, "gone.production", "deleted", "", "test"))
    store.close()
    done = CliRunner().invoke(root, ["--home", str(tmp_path), "events", "never", *follow])
    assert isinstance(done.exception, NotFound)
    assert str(done.exception) == "there is no service never; known: none"
    assert done.exception.hint
    kept = CliRunner().invoke(root, ["--home", str(tmp_path), "events", "gone"])
    assert kept.exit_code == 0
    assert "deleted" in kept.output


def test_events_of_all_of_one_and_the_last_few(tmp_path):
    store = SqliteStore(make_home(tmp_path) / "vmrole.db", owner_of(tmp_path))
    subjects = ("a.production", "a.production.web-0", "a.production.web-10", "a.staging.web-0", "b.production")
    for number, subject in enumerate(subjects):
        store.note(Event(float(number), subject, "happened", "", "test"))
    store.close()

    def shown(*args):
        done = CliRunner().invoke(root, ["--home", str(tmp_path), "events", "--json", *args])
        assert done.exit_code == 0, done.exception
        return [json.loads(row)["subject"] for row in done.stdout.splitlines()]

    assert shown() == list(subjects)
    assert shown("-n", "2") == list(subjects[-2:])
    assert shown("a") == list(subjects[:4])
    assert shown("a", "-n", "1", "--slot", "production") == [subjects[2]]
    assert shown("--slot", "staging") == [subjects[3]]
    assert shown("a/web-0") == [subjects[1], subjects[3]]
    assert shown("a/web-0", "--slot", "staging") == [subjects[3]]
    assert shown("-n", "0") == []


def home_with_a_service(home: Path) -> SqliteStore:
    store = SqliteStore(make_home(home) / "vmrole.db", owner_of(home))
    store.save_deployment(deployment())
    return store


def test_a_pause_and_its_end_change_the_intent_and_are_told(tmp_path):
    store = home_with_a_service(tmp_path)
    call = ["--home", str(tmp_path)]
    done = CliRunner().invoke(root, [*call, "pause", "hello", "--reason", "new disks"])
    assert (done.exit_code, "vmrole resume hello" in done.output) == (0, True)
    (record,) = store.intent().deployments
    assert record.paused is not None
    assert (record.paused.reason, record.revision) == ("new disks", 1)
    done = CliRunner().invoke(root, [*call, "resume", "hello"])
    assert done.output == "hello is resumed\n"
    (record,) = store.intent().deployments
    assert (record.paused, record.resumed > 0) == (None, True)
    assert CliRunner().invoke(root, [*call, "resume", "hello"]).output == "hello was not paused\n"
    told = [(e.what, e.cause, e.actor) for _n, e in store.events("hello")]
    assert told == [
        ("paused: nothing is repaired or upgraded", "new disks", "user"),
        ("resumed", "asked for by command", "user"),
    ]  # fmt: skip
    store.close()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["pause", "other"], NotFound),
        (["resume", "other"], NotFound),
        (["pause", "hello", "--reason", "a\nb"], UserError),
        (["pause", "hello", "--reason", "x" * 201], UserError),
    ],
)
def test_a_pause_that_cannot_be(tmp_path, arguments, error):
    home_with_a_service(tmp_path).close()
    done = CliRunner().invoke(root, ["--home", str(tmp_path), *arguments])
    assert isinstance(done.exception, error)


@pytest.mark.parametrize("words", [(), ("",), ("", "a"), ("echo", "gr\udcfc\udcdfe")])
def test_a_command_that_no_agent_can_run(words):
    with pytest.raises(UserError):
        check_command(words)


def test_what_is_not_utf8_is_named():
    with pytest.raises(UserError, match=r"word 2 of the command is not UTF-8: 'a\\udcff'"):
        check_command(("echo", "a\udcff"))
    done = CliRunner().invoke(root, ["exec", "hello/web-0", "--", ""])
    assert isinstance(done.exception, UserError)
    assert done.exception.message == "the command is empty"


def test_an_agent_that_does_not_answer_is_told_with_what_to_do():
    world = FakeWorld()
    host = next(iter(world.hosts.values()))
    with pytest.raises(AgentSilent) as caught:
        ask(host, parse_instance("hello/web-0", "production"), "hello.production.web-0.g1", ("true",), world.clock)
    assert caught.value.exit_code == 75
    assert "`vmrole status hello`" in caught.value.hint
    assert "`vmrole reboot hello/web-0`" in caught.value.hint


@pytest.mark.real
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["up", "/nonexistent.yaml"], 2, "what to do: "),
        (["status"], 2, "Missing argument"),
        (["--version"], 0, ""),
    ],
)
def test_a_whole_process(tmp_path, arguments, code, said):
    argv = [sys.executable, "-m", "orchestrator", "--home", str(tmp_path), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": "."})
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.real
def test_help_loads_none_of_the_drivers():
    code = """
import sys
from orchestrator.cli import root
root.main(["--help"], standalone_mode=False)
print(sorted(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not [
        module for module in ("libvirt", "paramiko", "pydantic", "lxml", "rich") if f"'{module}'" in done.stdout
    ]
