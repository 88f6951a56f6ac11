"""`vmrole image`: base images."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.drivers.images import Image

MIB = 1024**2


@click.group()
def image() -> None:
    """Base images: read-only disks that instances are made from.

    \b
    Example:
      vmrole image build debian-12
      vmrole image ls
    """


@image.command()
@click.argument("name")
@click.pass_obj
def build(context: Context, name: str) -> None:
    """Build one of the images that come with a recipe, and take it into the repository.

    Nothing is done if the repository has one from the same recipe that is less than a week old.

    \b
    Example:
      vmrole image build tiny
    """
    from orchestrator.cli.progress import never_silent
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.recipes import build as build_image
    from orchestrator.wiring import repository

    clock = SystemClock()
    begun = clock.now()

    def report(text: str) -> None:
        click.echo(f"[{clock.now() - begun:6.1f} s] {name}: {text}", err=True)

    store = repository(context.home, clock)
    with never_silent(report) as heard:
        built, is_new = build_image(name, repository=store, cache=context.cache_dir, clock=clock, report=heard)
    news = "built" if is_new else "there already"
    click.echo(f"{built.name}:{built.version} {news}: {built.size_bytes // MIB} MiB, {built.digest}")


@image.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(context: Context, as_json: bool) -> None:
    """List the images in the repository, and the recipes that are not built yet.

    \b
    Example:
      vmrole image ls --json
    """
    from orchestrator.cli.view import print_json, table
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.recipes import recipe_names
    from orchestrator.wiring import repository

    images = repository(context.home, SystemClock()).images()
    if as_json:
        print_json([asdict(found) for found in images])
        return
    if images:
        rows = [_row(found) for found in images]
        click.echo(table(("NAME", "VERSION", "SIZE", "DISK", "ADDED", "DIGEST"), rows))
    unbuilt = sorted(set(recipe_names()) - {found.name for found in images})
    if unbuilt:
        click.echo(f"recipes not built yet: {', '.join(unbuilt)} (`vmrole image build NAME`)", err=True)


def _row(found: Image) -> tuple[str, ...]:
    added = datetime.fromtimestamp(found.added, UTC).strftime("%Y-%m-%d %H:%M")
    size, disk = f"{found.size_bytes // MIB} MiB", f"{found.virtual_bytes // MIB} MiB"
    return found.name, found.version, size, disk, added, found.digest[:19]


@image.command()
@click.argument("reference", metavar="NAME[:VERSION]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(context: Context, reference: str, as_json: bool) -> None:
    """Show one image: its digest, its sizes, and which instances stand on it.

    \b
    Example:
      vmrole image show debian-12
    """
    from orchestrator.cli.view import print_json
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.sqlite import SqliteStore
    from orchestrator.wiring import owner_of, repository

    found = repository(context.home, SystemClock()).find(reference)
    intent = SqliteStore(context.home / "vmrole.db", owner_of(context.home)).intent()
    users = [f"{r.id.deployment.service}/{r.id.name}" for r in intent.instances if r.machine.digest == found.digest]
    facts = {**asdict(found), "used_by": users}
    if as_json:
        print_json(facts)
        return
    added = datetime.fromtimestamp(found.added, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    click.echo(f"name:     {found.name}\nversion:  {found.version}\ndigest:   {found.digest}")
    click.echo(
        f"file:     {found.size_bytes // MIB} MiB\ndisk:     {found.virtual_bytes // MIB} MiB\nadded:    {added}"
    )
    click.echo(f"used by:  {', '.join(users) or 'nobody'}")
