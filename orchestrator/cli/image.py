"""`vmrole image`: base images."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.image_care import export, prune, rm, stored, verify
from orchestrator.cli.image_intake import add, open_repository, set_, tag
from orchestrator.cli.image_trial import capture, customize, test

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.model.image import Image

MIB = 1024**2


@click.group()
def image() -> None:
    """Base images: read-only disks that instances are made from.

    \b
    Example:
      vmrole image build debian-12
      vmrole image add mine disk.vhd
      vmrole image ls
    """


@image.command()
@click.argument("name")
@click.option(
    "--windows-iso", type=click.Path(path_type=Path), help="Install Windows from Microsoft's disc, then sysprep."
)
@click.option("--virtio-iso", type=click.Path(path_type=Path), help="Windows only: the disc with virtio's drivers.")
@click.option(
    "--virtio-folder", default="2k22", show_default=True, help="Windows only: the system's folder there (2k22, w11)."
)
@click.option(
    "--edition",
    default="Windows Server 2022 SERVERSTANDARDCORE",
    show_default=True,
    help="Windows only: its name there, or its number.",
)
@click.option("--firmware", type=click.Choice(["bios", "uefi"]), default="uefi", help="Windows only: what boots it.")
@click.option("--tpm/--no-tpm", default=False, help="Windows only: with a TPM 2.0.")
@click.pass_obj
def build(context: Context, /, name: str, **windows: object) -> None:
    """Build one of the images that come with a recipe, and take it into the repository.

    Nothing is done if the repository has one from the same recipe that is less than a week old. With --windows-iso and
    --virtio-iso it is a Windows that is installed from Microsoft's disc.

    \b
    Example:
      vmrole image build tiny
      vmrole image build win2022 --windows-iso server2022.iso --virtio-iso virtio-win.iso
    """
    from orchestrator.cli.image_windows import build_windows
    from orchestrator.cli.progress import never_silent
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.recipes import build as build_image
    from orchestrator.wiring import repository

    clock = SystemClock()
    begun = clock.now()

    def report(text: str) -> None:
        click.echo(f"[{clock.now() - begun:6.1f} s] {name}: {text}", err=True)

    store = repository(context.home, clock)
    if windows["windows_iso"] is not None or windows["virtio_iso"] is not None:
        with never_silent(report) as heard:
            made = build_windows(context, name, windows, heard)
        click.echo(f"{made.reference} built: {made.size_bytes // MIB} MiB, {made.digest}")
        return
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
    from orchestrator.drivers.recipes import recipe_names

    images = open_repository(context).images()
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
    version = found.version + (" (leaving)" if found.leaving else "")
    return found.name, version, size, disk, added, found.digest[:19]


@image.command()
@click.argument("reference", metavar="NAME[:VERSION]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def show(context: Context, reference: str, as_json: bool) -> None:
    """Show one image: its digest, its sizes, what is known of it, and who needs it.

    \b
    Example:
      vmrole image show debian-12
    """
    from orchestrator.cli.view import print_json
    from orchestrator.engine.imagery import driver_uses, users

    store = open_repository(context)
    found = store.find(reference)
    uses = (*stored(context), *driver_uses(store.images()))
    facts = {**asdict(found), "used_by": list(users(found.digest, uses))}
    if as_json:
        print_json(facts)
        return
    for key, value in (*_facts(found), ("used by", ", ".join(facts["used_by"]) or "nobody")):
        click.echo(f"{key + ':':9} {value}")


def _facts(found: Image) -> tuple[tuple[str, str], ...]:
    traits, added = found.traits, datetime.fromtimestamp(found.added, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    marks = (("secure boot", traits.secure_boot), ("TPM", traits.tpm), ("virtio", traits.virtio))
    needs = ", ".join(word for word, is_so in marks if is_so) or "nothing else"
    default = f", instances get {traits.disk_bytes // MIB} MiB" if traits.disk_bytes else ""
    drivers = f", set up with the drivers {traits.drivers[:19]}" if traits.drivers else ""
    return (
        ("name", found.name), ("version", found.version + (" (leaving)" if found.leaving else "")),
        ("digest", f"{found.digest} of its {found.hashed}"), ("file", f"{found.size_bytes // MIB} MiB"),
        ("disk", f"{found.virtual_bytes // MIB} MiB{default}"), ("added", added),
        ("system", f"{traits.os or 'unknown'}, firmware {traits.firmware or 'unknown'}, {needs}{drivers}"),
        ("trial", _trial(found)), ("note", traits.note or "-"),
    )  # fmt: skip


def _trial(found: Image) -> str:
    """What came of `vmrole image test`."""
    if found.admission is None:
        return "never tested; `vmrole image test` does"
    at = datetime.fromtimestamp(found.admission.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"passed at {at}" if found.admission.passed else f"failed at {at}: {found.admission.reason}"


for _command in (add, set_, tag, verify, test, customize, capture, export, rm, prune):
    image.add_command(_command)
