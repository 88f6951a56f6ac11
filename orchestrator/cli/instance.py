"""`vmrole exec`: a command inside one instance, by its guest agent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.errors import NotFound, UserError
from orchestrator.model.names import DeploymentId, InstanceId, MachineId, is_name, parse_instance_name

if TYPE_CHECKING:
    from orchestrator.cli.context import Context

SILENCE_S = 10.0


def parse_instance(text: str) -> InstanceId:
    """``hello/web-0`` as a value. Raises UserError."""
    service, slash, name = text.partition("/")
    parsed = parse_instance_name(name)
    if not slash or not is_name(service) or parsed is None:
        raise UserError(f"{text!r} does not name an instance", "say SERVICE/NAME, like hello/web-0")
    return InstanceId(DeploymentId(service), *parsed)


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("instance")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def exec_(ctx: click.Context, instance: str, command: tuple[str, ...]) -> int:
    """Run COMMAND inside INSTANCE; its output and its exit code are the command's own.

    Goes through the guest agent, so it works without a network and without a password. The command gets no terminal
    and no input, and its output comes when it has ended.

    \b
    Example:
      vmrole exec hello/web-0 -- systemctl --failed
    """
    from orchestrator.drivers.guest import execute
    from orchestrator.wiring import wired

    context: Context = ctx.obj
    key = parse_instance(instance)
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        records = {record.id: record for record in wiring.store.intent().instances}
        if key not in records:
            known = ", ".join(sorted(f"{k.deployment.service}/{k.name}" for k in records)) or "none"
            raise NotFound(f"there is no instance {instance}; known: {known}", "`vmrole ls` lists the services")
        record = records[key]
        domain = MachineId(record.id, record.generation).domain
        told = [0.0]

        def on_wait(seconds: float) -> None:
            if seconds - told[0] > SILENCE_S:
                told[0] = seconds
                click.echo(f"{instance}: still running, {seconds:.0f} s", err=True)

        done = execute(wiring.hosts[record.host], domain, command, clock=wiring.clock, on_wait=on_wait)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.buffer.flush()
    return done.code
