"""Two deployments of one service: every command can be told which one it is about."""

import click
import pytest

from orchestrator.cli import COMMANDS, root
from orchestrator.engine import verbs
from orchestrator.engine.volumes import parse
from orchestrator.model.names import DeploymentId, InstanceId
from orchestrator.model.record import Intent
from tests.fakes.build import record

STAGING = DeploymentId("hello", "staging")
# Arguments that name a service, or something of one. A FILE is a service's where the command makes a deployment of it.
OF_A_SERVICE = {"service", "instance", "instances", "volume"}
MAKERS = {("up",), ("plan",)}


def commands(group: click.Group, path: tuple[str, ...] = ()):
    with click.Context(group) as ctx:
        for name in group.list_commands(ctx):
            command = group.get_command(ctx, name)
            assert command is not None
            if isinstance(command, click.Group):
                yield from commands(command, (*path, name))
            else:
                yield (*path, name), command


EVERY = dict(commands(root))


def names(command: click.Command) -> set[str]:
    return {str(param.name) for param in command.params if isinstance(param, click.Argument)}


# A swap is about both.
ABOUT_A_SERVICE = [
    path for path, command in EVERY.items() if path != ("swap",) and (names(command) & OF_A_SERVICE or path in MAKERS)
]


def test_the_commands_are_found():
    assert set(COMMANDS) == {path[0] for path in EVERY}
    assert {("up",), ("down",), ("exec",), ("reboot",), ("volume", "rm"), ("image", "capture")} <= set(ABOUT_A_SERVICE)


@pytest.mark.parametrize("path", ABOUT_A_SERVICE, ids=" ".join)
def test_every_command_about_a_service_is_told_which_slot(path):
    (option,) = [param for param in EVERY[path].params if param.name == "slot"]
    assert option.opts == ["--slot"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == ["production", "staging"]
    # What lists shows both; everything else means production unless told otherwise.
    assert (option.default == "production") == (path not in {("events",), ("volume", "ls")})


def test_words_are_what_a_command_takes():
    staged = InstanceId(STAGING, "web", 0)
    assert (STAGING.words, STAGING.title, staged.words) == (
        "hello --slot staging",
        "hello (staging)",
        "hello/web-0 --slot staging",
    )
    live = InstanceId(DeploymentId("hello"), "web", 0)
    assert (live.deployment.words, live.deployment.title, live.words) == ("hello", "hello", "hello/web-0")


def test_a_volume_is_its_slot_s():
    staged = parse("hello/web-0/data", "staging")
    assert staged is not None
    assert staged.file == "hello.staging.web-0.data.volume.raw"


def test_a_name_means_the_instance_of_one_slot():
    both = [InstanceId(DeploymentId("hello", slot), "web", 0) for slot in ("production", "staging")]
    intent = Intent("owner", (), tuple(record(key) for key in both))
    for key in both:
        slot = key.deployment.slot
        assert [r.id for r in verbs.chosen(intent, ["hello/web"], slot=slot, everything=False)] == [key]
