"""`vmrole lab`: throw-away libvirt hosts on this machine. Parses, calls `orchestrator.lab`, prints; decides nothing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cli.context import Context
    from orchestrator.lab.lifecycle import Node

NODE_HELP = "The node: h0, h1, … are the libvirt hosts; edge has the VIPs; outside is the rest of the world."


@click.group()
def lab() -> None:
    """Throw-away libvirt hosts on this machine, to try things out.

    Each host is a real libvirtd in namespaces of its own; the machine's own libvirt is not touched. Needs root.

    \b
    Example:
      vmrole lab up && vmrole up examples/hello.yaml
      vmrole lab down
    """


@lab.command()
@click.option("--hosts", type=int, metavar="N", help="How many libvirt hosts, 1 to 15. Default: as before, or 1.")
@click.pass_obj
def up(context: Context, hosts: int | None) -> None:
    """Start the lab, or bring back what of it has ended.

    What the hosts have on disk (volumes, domains, networks) survives anything but `lab down`.

    \b
    Example:
      vmrole lab up --hosts 2
    """
    from orchestrator.lab import lifecycle

    context.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    lifecycle.up(context.home, hosts=hosts, cache_dir=context.cache_dir, report=_say)


@lab.command()
@click.pass_obj
def down(context: Context) -> None:
    """End the lab and all guests in it, and remove its files. The image repository stays.

    \b
    Example:
      vmrole lab down
    """
    from orchestrator.lab import lifecycle

    lifecycle.down(context.home, report=_say)


@lab.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array, one object a node.")
@click.pass_obj
def list_nodes(context: Context, *, as_json: bool) -> None:
    """Show the lab's nodes.

    \b
    Example:
      vmrole lab ls --json
    """
    from orchestrator.lab import lifecycle

    found = lifecycle.listing(context.home)
    if as_json:
        click.echo(json.dumps([asdict(node) for node in found], indent=1))
    elif found:
        _print_table(found)
    else:
        click.echo("there is no lab; `vmrole lab up` starts one")


@lab.command()
@click.option("--host", "node", default="h0", show_default=True, metavar="NODE", help=NODE_HELP)
@click.pass_context
def shell(ctx: click.Context, node: str) -> None:
    """Open a shell inside a node.

    \b
    Example:
      vmrole lab shell --host edge
    """
    _enter(ctx, node, [os.environ.get("SHELL", "/bin/sh")])


@lab.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--host", "node", default="h0", show_default=True, metavar="NODE", help=NODE_HELP)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def execute(ctx: click.Context, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND inside a node; its exit code is ours. It starts in the folder /.

    \b
    Example:
      vmrole lab exec -- virsh list --all
      vmrole lab exec --host outside -- curl http://198.51.100.1/
    """
    _enter(ctx, node, command)


def _enter(ctx: click.Context, node: str, command: Sequence[str]) -> None:
    from orchestrator.drivers.process import attach
    from orchestrator.lab import lifecycle

    ctx.exit(attach([*lifecycle.entering(ctx.obj.home, node), *command]))


def _print_table(found: Sequence[Node]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("node", "state", "underlay", "guests or VIPs", "runs with", "pid"):
        table.add_column(name, no_wrap=True)
    for one in found:
        pid = str(one.pid or "-")
        table.add_row(one.node, one.state, one.underlay, one.dip_pool or one.vip_pool, one.accelerator, pid)
    Console().print(table)
    for one in found:
        if one.uri:  # below the table, whole, so that it can be copied
            click.echo(f"{one.node}  {one.uri}")


def _say(line: str) -> None:
    click.echo(line, err=True)
