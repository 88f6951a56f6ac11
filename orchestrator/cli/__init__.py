"""The command line: every command parses, calls and prints. Commands are loaded when they are named.

Exit codes: 0 done, 1 failed, 2 the input is wrong, 75 try again later, 130 interrupted.
"""

from __future__ import annotations

import importlib
import logging
import sys
from pathlib import Path

import click

from orchestrator import __version__
from orchestrator.cli.context import Context, cache_dir, default_home
from orchestrator.errors import VmroleError

# Command → the module that has it; the help text is here so that `vmrole --help` imports none of them.
COMMANDS = {
    "up": ("service", "Create or change a deployment from a service file, and wait until it is ready."),
    "plan": ("service", "Show what `up` would do, and what becomes of each disk."),
    "upgrade": ("upgrade", "A change that needs other machines: how far it is; pause, resume, promote, rollback."),
    "scale": ("scale", "Change how many instances a role has."),
    "autoscale": ("autoscale", "Show what autoscale sees, and what it would do now."),
    "down": ("down", "Delete a deployment."),
    "swap": ("swap", "Exchange the VIPs of a service's two slots: staging becomes what is reached."),
    "reboot": ("verbs", "Reboot instances, out of rotation meanwhile; every disk is kept."),
    "reimage": ("verbs", "Make instances anew from their image; local storage and volumes are kept."),
    "undo-reimage": ("verbs", "Go back to the overlay from before the last reimage."),
    "stop": ("verbs", "Switch instances off, and leave them so."),
    "start": ("verbs", "Start instances that were stopped."),
    "relocate": ("verbs", "Make instances anew on another host; only volumes are kept."),
    "pause": ("maintenance", "Leave a service alone: no repair and no upgrade until `resume`."),
    "resume": ("maintenance", "End a pause."),
    "ls": ("show", "List the deployments."),
    "status": ("show", "Show a deployment's instances, with stage and reason."),
    "events": ("show", "Show what happened, and why."),
    "console": ("console", "Show what a machine printed on its serial console."),
    "logs": ("console", "Show what the services of an instance have logged."),
    "exec": ("instance", "Run a command inside an instance."),
    "ssh": ("ssh", "Log in to an instance by SSH, or run a command there."),
    "cp": ("copy", "Copy a file into an instance, or out of one."),
    "volume": ("volume", "Volumes: list, show, snapshot, restore, delete."),
    "convert": ("convert", "Make a service file of .csdef and .cscfg, unattend.xml or cloud-init files."),
    "image": ("image", "Base images: build, list, show."),
    "controller": ("controller", "Run the loop for ever: keep every deployment true."),
    "secret": ("secret", "Secrets: store a value under a name, list the names, delete."),
    "recover": ("recover", "Rebuild a lost or damaged store from the hosts."),
    "lab": ("lab", "Throw-away libvirt hosts on this machine."),
    "doctor": ("doctor", "Check what vmrole needs, and say how to mend what is missing."),
}


FUNCTIONS = {"exec": "exec_", "undo-reimage": "undo_reimage"}


class _Lazy(click.Group):
    """A group whose commands are imported when they are used: `--help` has to answer at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"orchestrator.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, FUNCTIONS.get(cmd_name, cmd_name))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home", type=click.Path(path_type=Path), envvar="VMROLE_HOME", help="The state folder (or VMROLE_HOME)."
)
@click.option("--connect", metavar="URI", help="A libvirt URI in place of the lab's or the machine's own.")
@click.option("-v", "--verbose", count=True, help="Log each step to stderr; twice: each program and call.")
@click.option("--log", "log_form", type=click.Choice(["text", "json"]), default="text", help="The form of log lines.")
@click.version_option(__version__, prog_name="vmrole")
@click.pass_context
def root(ctx: click.Context, home: Path | None, connect: str | None, verbose: int, log_form: str) -> None:
    """Run a service on virtual machines of this KVM host.

    Give vmrole a server image and a short YAML file: it makes the machines, sets each up, waits until its services
    run, and puts it behind one address on HAProxy.

    \b
    Example:
      vmrole lab up                        a real libvirt host, thrown away later
      vmrole image build debian-12
      vmrole up examples/hello.yaml
      vmrole status hello
    """
    _log_to_stderr(verbose, log_form)
    ctx.obj = Context((home or default_home()).resolve(), connect, cache_dir())


def _log_to_stderr(verbose: int, form: str) -> None:
    level = {0: logging.CRITICAL, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if form == "json":
        from orchestrator.cli.jsonlog import JsonLines

        logging.getLogger().handlers[0].setFormatter(JsonLines())


def main() -> None:
    """Run the command line, and end the process with its exit code; a traceback never reaches a user."""
    try:
        code = root.main(standalone_mode=False)
    except VmroleError as error:
        _say(error.message, error.hint)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; what was begun is in the store: the same command goes on where it stopped")
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more when it flushes at the end.
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        logging.getLogger(__name__).debug("bug", exc_info=True)
        _say(
            f"a bug in vmrole: {type(error).__name__}: {error}",
            "run it again with -vv for the traceback, and please report it",
        )
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, hint: str = "") -> None:
    click.echo(f"vmrole: {message}", err=True)
    if hint:
        click.echo(f"  what to do: {hint}", err=True)
