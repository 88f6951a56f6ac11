"""`vmrole ssh`: the SSH client of this machine, at the machine that an instance has now, from where it is reached."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import slot_option
from orchestrator.cli.instance import find_instance, parse_instance
from orchestrator.errors import Refused
from orchestrator.model.names import MachineId

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.model.record import InstanceRecord
    from orchestrator.wiring import Wiring

CONNECT_S = 10
KNOWN = "ssh_known_hosts"  # in the state folder


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("instance")
@slot_option
@click.option(
    "-l", "--login", default="", metavar="USER", help="Who to be in the guest (its role's SSH user, or root)."
)
@click.option(
    "-i",
    "--identity",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A private key.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def ssh(
    ctx: click.Context, instance: str, slot: str, login: str, identity: Path | None, command: tuple[str, ...]
) -> int:
    """Log in to INSTANCE by SSH, or run COMMAND there; the exit code is that of `ssh`.

    For guests with an SSH server that know your key (`setup: {ssh_authorized_keys: [...]}`) or password. A machine's
    host key is taken as it is shown first, and held to from then on; after a reimage it is another machine's.

    \b
    Example:
      vmrole ssh hello/web-0
      vmrole ssh hello/web-0 -l admin -i ~/.ssh/lab -- uptime
    """
    from orchestrator.drivers.process import attach
    from orchestrator.wiring import wired

    context: Context = ctx.obj
    key = parse_instance(instance, slot)
    if login.startswith("-"):
        raise click.BadParameter(f"{login!r} is no user", param_hint="--login")
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        record = find_instance(wiring, key)
        argv = [*wiring.site.balancer, *_client(wiring, record, login, identity)]
    # Everything of ours is closed by then: a session may last for hours.
    return attach([*argv, *command])


def _client(wiring: Wiring, record: InstanceRecord, login: str, identity: Path | None) -> list[str]:
    known = str((wiring.home / KNOWN).resolve())
    if '"' in known:
        raise Refused(f"the state folder {wiring.home} has a quotation mark in its name, which ssh cannot be told of")
    machine = MachineId(record.id, record.generation)
    options = {
        "HostKeyAlias": machine.domain,
        "UserKnownHostsFile": '"{}"'.format(known.replace("%", "%%")),
        "StrictHostKeyChecking": "accept-new",
        "CheckHostIP": "no",
        "HashKnownHosts": "no",
        "ConnectTimeout": str(CONNECT_S),
    }
    told = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    own = ["-i", str(identity.resolve()), "-o", "IdentitiesOnly=yes"] if identity is not None else []
    return ["ssh", *told, *own, "-l", login or _user(wiring, record), "--", record.dip]


def _user(wiring: Wiring, record: InstanceRecord) -> str:
    deployment = wiring.store.intent().deployment(record.id.deployment)
    role = deployment.service.role(record.id.role) if deployment is not None else None
    return (role.ready.ssh_user if role is not None else "") or "root"
