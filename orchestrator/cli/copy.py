"""`vmrole cp`: a file into an instance or out of one, by its guest agent."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import slot_option
from orchestrator.cli.instance import ask, find_instance, parse_instance
from orchestrator.errors import AgentRefused, UserError
from orchestrator.model.names import MachineId
from orchestrator.model.text import lines

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.model.names import InstanceId
    from orchestrator.model.record import InstanceRecord
    from orchestrator.wiring import Wiring

_THERE = re.compile(r"(?P<instance>[a-z0-9-]+/[a-z0-9-]+):(?P<path>.+)", re.DOTALL)
# $1: the file to be sent: until it is whole nobody else reads it.
NEW = 'umask 077; rm -f "$1" && : >"$1"'
# $1: the file that was sent, $2: where it is to be, $3: its mode. Whole or not at all.
PUT = r"""if [ -d "$2" ]; then rm -f "$1"; echo "$2 is a folder" >&2; exit 1; fi
chmod "$3" "$1" && mv -f "$1" "$2"
"""


@click.command()
@click.argument("source")
@click.argument("target")
@slot_option
@click.pass_obj
def cp(context: Context, source: str, target: str, slot: str) -> None:
    """Copy a file into an instance, or out of one: SOURCE or TARGET is INSTANCE:PATH, the other a local file or `-`.

    Goes through the guest agent, so it needs no network and no password. One file at a time; folders by `exec` and tar.
    In a guest the file belongs to root, with the permissions of the local one.

    \b
    Example:
      vmrole cp app.conf hello/web-0:/etc/app.conf
      vmrole cp hello/web-0:/var/log/app.log -
    """
    from orchestrator.wiring import wired

    comes, goes = _THERE.fullmatch(source), _THERE.fullmatch(target)
    found = goes if comes is None else comes
    if found is None or (comes is not None and goes is not None):
        raise UserError("one of both has to be in an instance", "say it as hello/web-0:/path, the other as a file")
    key, path = parse_instance(found["instance"], slot), found["path"]
    if not path.startswith("/") or "\0" in path:
        raise UserError(f"{path!r} is no absolute path in an instance", "say it as hello/web-0:/path")
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        if comes is not None:
            _out(wiring, key, path, target)
        else:
            _into(wiring, key, source, path)


def _out(wiring: Wiring, key: InstanceId, path: str, target: str) -> None:
    from orchestrator.drivers.guestfiles import receive

    record = find_instance(wiring, key)
    pieces = receive(wiring.hosts[record.host], MachineId(key, record.generation).domain, path)
    if target == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    local = Path(target) / Path(path).name if Path(target).is_dir() else Path(target)
    part = local.with_name(f"{local.name}.vmrole-part")
    try:
        with part.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        part.replace(local)
    except OSError as error:
        raise UserError(f"{local} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def _into(wiring: Wiring, key: InstanceId, source: str, path: str) -> None:
    from orchestrator.drivers.guestfiles import send

    record, part = find_instance(wiring, key), f"{path}.vmrole-part"
    try:
        with sys.stdin.buffer if source == "-" else Path(source).open("rb") as file:
            mode = "644" if source == "-" else f"{os.fstat(file.fileno()).st_mode & 0o777:o}"
            _run(wiring, record, path, NEW, part)
            send(wiring.hosts[record.host], MachineId(key, record.generation).domain, part, file)
    except OSError as error:
        raise UserError(f"{source} cannot be read: {error.strerror}") from error
    _run(wiring, record, path, PUT, part, path, mode)


def _run(wiring: Wiring, record: InstanceRecord, path: str, script: str, *words: str) -> None:
    domain = MachineId(record.id, record.generation).domain
    argv = ("/bin/sh", "-c", script, "vmrole-cp", *words)
    done = ask(wiring.hosts[record.host], record.id, domain, argv, wiring.clock)
    if done.code:
        said = lines(done.stderr.decode(errors="replace")) or (f"exit code {done.code}",)
        raise AgentRefused(f"{record.id.words} does not take {path}: {said[-1]}")
