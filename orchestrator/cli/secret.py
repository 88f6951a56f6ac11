"""`vmrole secret …`: values that service files refer to by name, encrypted in the state folder and never shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.drivers.secrets import SecretStore
    from orchestrator.model.record import Intent
    from orchestrator.model.secret import Secret


@click.group()
def secret() -> None:
    """Values that nobody may see: passwords, keys, certificates. Encrypted at rest, and never printed.

    A service file says where a secret is, never what it is: `secret: store:NAME` (from here), `secret: env:NAME`
    (of the shell that runs `vmrole up`) or `secret: file:PATH` (beside the service file).

    \b
    Example:
      vmrole secret set db-password < password.txt
    """


@secret.command("set")
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path), help="Read the value from this file.")
@click.pass_obj
def set_(context: Context, name: str, file: Path | None) -> None:
    """Store a value under NAME: from standard input, from --file, or asked for on a terminal without echo.

    It is never an argument, which every user of this machine could see. Machines that have the old value are made
    anew by the next `vmrole up` of their service.

    \b
    Example:
      vmrole secret set db-password
      vmrole secret set tls-key --file key.pem
    """
    from orchestrator.config.secretform import is_stored_name
    from orchestrator.config.secrets import unfit

    if not is_stored_name(name):
        raise UserError(f"{name!r} is not a name for a secret", "use letters, digits, _ . - only, at most 100")
    value = _value(name, file)
    if wrong := unfit(value):
        raise UserError(f"the value of {name} {wrong}", "nothing was stored")
    _store(context).put_named(name, value)
    click.echo(f"{name} is stored")


def _value(name: str, file: Path | None) -> Secret:
    """The value without echo; of a terminal it is one line, of a file every byte."""
    from orchestrator.model.secret import MAX_BYTES, Secret

    if file is None and sys.stdin.isatty():
        return Secret(str(click.prompt(f"value of {name}", hide_input=True, err=True)).encode())
    try:
        with file.open("rb") if file is not None else sys.stdin.buffer as source:
            return Secret(source.read(MAX_BYTES + 1))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}", "name a file that can") from error


@secret.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(context: Context, as_json: bool) -> None:
    """List the names of stored secrets, and which services refer to them; never a value.

    \b
    Example:
      vmrole secret ls
    """
    from orchestrator.cli.view import print_json

    names, intent = _store(context).names(), _intent(context)
    if as_json:
        print_json([{"name": name, "services": _users(intent, name)} for name in names])
        return
    for name in names:
        click.echo(f"{name}  {', '.join(_users(intent, name)) or 'no service'}")


@secret.command("rm")
@click.argument("name")
@click.pass_obj
def rm(context: Context, name: str) -> None:
    """Delete a stored secret; refused while a service refers to it.

    \b
    Example:
      vmrole secret rm db-password
    """
    if users := _users(_intent(context), name):
        raise UserError(f"{', '.join(users)} refers to secret {name}", "take it out of that service file, then `up`")
    _store(context).remove_named(name)
    click.echo(f"{name} is deleted")


def _store(context: Context) -> SecretStore:
    from orchestrator.drivers.secrets import SecretStore
    from orchestrator.wiring import make_home

    return SecretStore(make_home(context.home))


def _intent(context: Context) -> Intent:
    from orchestrator.drivers.sqlite import SqliteStore
    from orchestrator.wiring import owner_of

    store = SqliteStore(context.home / "vmrole.db", owner_of(context.home))
    try:
        return store.intent()
    finally:
        store.close()


def _users(intent: Intent, name: str) -> list[str]:
    """The services that refer to a stored secret, in their files or by a machine that they have."""
    from orchestrator.model.secretrefs import refs

    source = f"store:{name}"
    found = {record.id.title for record in intent.deployments if any(ref.source == source for _, ref in refs(record))}
    found |= {
        record.id.deployment.title
        for record in intent.instances
        if any(ref.source == source for _, ref in refs(record))
    }
    return sorted(found)
