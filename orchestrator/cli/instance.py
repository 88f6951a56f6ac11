"""`vmrole exec`: a command inside one instance, by its guest agent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import slot_option
from orchestrator.errors import AgentSilent, NotFound, UserError
from orchestrator.model.names import DeploymentId, InstanceId, MachineId, is_name, parse_instance_name

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.drivers.looks import Outcome
    from orchestrator.model.record import InstanceRecord
    from orchestrator.ports import Clock, Host
    from orchestrator.wiring import Wiring

SILENCE_S = 10.0


def parse_instance(text: str, slot: str) -> InstanceId:
    """``hello/web-0`` as a value. Raises UserError."""
    service, slash, name = text.partition("/")
    parsed = parse_instance_name(name)
    if not slash or not is_name(service) or parsed is None:
        raise UserError(f"{text!r} does not name an instance", "say SERVICE/NAME, like hello/web-0")
    return InstanceId(DeploymentId(service, slot), *parsed)


def find_instance(wiring: Wiring, key: InstanceId) -> InstanceRecord:
    """An instance as it is stored. Raises NotFound."""
    records = {record.id: record for record in wiring.store.intent().instances}
    if key not in records:
        known = ", ".join(known.words for known in sorted(records)) or "none"
        raise NotFound(f"there is no instance {key.words}; known: {known}", "`vmrole ls` lists the services")
    return records[key]


def check_command(words: tuple[str, ...]) -> None:
    """Whether an agent can be asked to run this at all. Raises UserError."""
    if not words or not words[0]:
        raise UserError("the command is empty", "say what to run, like `vmrole exec hello/web-0 -- uptime`")
    for number, word in enumerate(words, start=1):
        try:
            word.encode()
        except UnicodeEncodeError as error:  # Python keeps a byte that is no text as half of a character
            raise UserError(
                f"word {number} of the command is not UTF-8: {word!a}", "the guest agent takes texts only"
            ) from error


def ask(host: Host, key: InstanceId, domain: str, words: tuple[str, ...], clock: Clock) -> Outcome:
    """Run a command in an instance to its end. Raises AgentSilent with what to do about it, AgentRefused."""
    from orchestrator.drivers.guest import execute

    told = [0.0]

    def on_wait(seconds: float) -> None:
        if seconds - told[0] > SILENCE_S:
            told[0] = seconds
            click.echo(f"{key.words}: still running, {seconds:.0f} s", err=True)

    try:
        return execute(host, domain, words, clock=clock, on_wait=on_wait)
    except AgentSilent as error:
        hint = f"`vmrole status {key.deployment.words}` says how far it is; `vmrole reboot {key.words}` restarts it"
        raise AgentSilent(error.message, hint) from error


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("instance")
@slot_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, instance: str, slot: str, command: tuple[str, ...]) -> int:
    """Run COMMAND inside INSTANCE; its output and its exit code are the command's own.

    Goes through the guest agent, so it works without a network and without a password. The command gets no terminal
    and no input, and its output comes when it has ended.

    \b
    Example:
      vmrole exec hello/web-0 -- systemctl --failed
    """
    from orchestrator.wiring import wired

    context: Context = ctx.obj
    key = parse_instance(instance, slot)
    check_command(command)
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        record = find_instance(wiring, key)
        domain = MachineId(record.id, record.generation).domain
        done = ask(wiring.hosts[record.host], key, domain, command, wiring.clock)
        # Here, so that nothing that goes wrong while the connections are closed can come between; and what the command
        # complained of first, so that it is not lost when nobody reads the rest (`| head`).
        for stream, content in ((sys.stderr, done.stderr), (sys.stdout, done.stdout)):
            stream.buffer.write(content)
            stream.buffer.flush()
    return done.code
