"""`vmrole image add`, `set` and `tag`: taking images in, and saying what they are."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.cli.context import Context
    from orchestrator.drivers.images import Repository
    from orchestrator.ports import Progress

MIB = 1024**2
FORMATS = ("raw", "qcow2", "vhd", "vhdx", "vmdk")


def described(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what a machine made of an image should be like."""
    options = (
        click.option("--os", type=click.Choice(["linux", "windows", "bsd", "other"]), help="The family of its system."),
        click.option("--firmware", type=click.Choice(["bios", "uefi"]), help="What boots it."),
        click.option("--secure-boot/--no-secure-boot", default=None, help="Whether it boots with UEFI's checks."),
        click.option("--tpm/--no-tpm", default=None, help="Whether it needs a TPM."),
        click.option("--virtio/--no-virtio", default=None, help="Whether it has drivers for virtio."),
        click.option("--drivers", metavar="NAME[:VERSION]", help="A Windows' disc with virtio's drivers; '' for none."),
        click.option("--disk", metavar="SIZE", help="The default size of instances' disks (8GiB)."),
        click.option("--note", help="Anything else."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def said_traits(said: dict[str, Any], store: Repository) -> dict[str, object]:
    """The fields of Traits that were said. Raises UserError for a size that is none, NotFound for a disc."""
    from orchestrator.config.quantities import mebibytes

    traits = {key: value for key, value in said.items() if value is not None and key != "disk"}
    if said["disk"] is not None:
        try:
            traits["disk_bytes"] = mebibytes(said["disk"]) * MIB
        except ValueError as error:
            raise UserError(f"--disk {said['disk']!r} {error}") from error
    if said["drivers"]:
        traits["drivers"] = store.find(said["drivers"]).digest
    return traits


def open_repository(context: Context) -> Repository:
    """The repository of the state folder."""
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.wiring import repository

    return repository(context.home, SystemClock())


def parsed(text: str) -> tuple[str, str]:
    """NAME[:VERSION] as its two parts. Raises UserError."""
    from orchestrator.model.image import VERSION_RULE, parse_tag
    from orchestrator.model.names import NAME_RULE

    found = parse_tag(text)
    if found is None:
        raise UserError(f"{text!r} cannot name an image", f"a name is {NAME_RULE}; a version {VERSION_RULE}")
    return found


@click.command()
@click.argument("name", metavar="NAME[:VERSION]")
@click.argument("file", metavar="FILE|-")
@click.option("--format", "claimed", type=click.Choice(FORMATS), help="What it has to be; else it is found out.")
@click.option("--sha256", default="", metavar="HEX", help="What the file as it is given has to hash to.")
@click.option("--parent", default="", metavar="NAME", help="The image that a differencing VHD stands on.")
@described
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def add(
    context: Context, /, name: str, file: str, claimed: str | None, as_json: bool, **said: Any  # noqa: ANN401
) -> None:  # fmt: skip
    """Take a disk into the repository: raw, qcow2, VHD, VHDX or VMDK, also as gz, xz or zst; - is standard input.

    It becomes one standalone qcow2, read-only and named by what a guest sees on it. A file that refers to another one
    is refused. Without a version it gets today's date. What is not said of it is guessed from its partition table.

    \b
    Example:
      vmrole image add debian-12 debian-12.qcow2 --sha256 0123…
      curl https://example.org/disk.raw.xz | vmrole image add mine:1.0 - --firmware uefi
    """
    from dataclasses import asdict

    from orchestrator.cli.view import print_json
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.imaging.intake import Intake, Offer

    sha256, parent = said.pop("sha256"), said.pop("parent")
    store = open_repository(context)
    given = Offer(*parsed(name), file, claimed or "", _checked_hex(sha256), parent, said_traits(said, store))
    with reporting(name) as report:
        kept = Intake(store, SystemClock(), report).take(given, Path.cwd())
    if as_json:
        print_json(asdict(kept))
        return
    click.echo(f"{kept.reference} added: {kept.size_bytes // MIB} MiB, {kept.digest}")


def _checked_hex(text: str) -> str:
    digits = text.removeprefix("sha256:").lower()
    if text and (len(digits) != 64 or not set(digits) <= set("0123456789abcdef")):
        raise UserError(f"--sha256 {text!r} is no SHA-256", "it is 64 hexadecimal digits")
    return digits


@click.command("set")
@click.argument("reference", metavar="NAME[:VERSION]")
@described
@click.pass_obj
def set_(context: Context, /, reference: str, **said: Any) -> None:  # noqa: ANN401 - click's own values
    """Say what machines made of an image should be like, in place of what was guessed.

    \b
    Example:
      vmrole image set windows-2022 --firmware uefi --secure-boot --tpm --disk 40GiB
      vmrole image add virtio-win virtio-win.iso && vmrole image set windows-2022 --drivers virtio-win
    """
    from dataclasses import replace

    from orchestrator.engine.imagery import check_drivers

    store = open_repository(context)
    found = store.find(reference)
    traits = said_traits(said, store)
    wanted = replace(found.traits, **traits)  # type: ignore[arg-type]
    check_drivers(found.reference, wanted)
    store.describe(found, wanted)
    told = ", ".join(f"{key} {value}" for key, value in traits.items()) or "nothing was said"
    click.echo(f"{found.reference}: {told}")


@click.command()
@click.argument("reference", metavar="NAME[:VERSION]")
@click.argument("new", metavar="NEW[:VERSION]")
@click.pass_obj
def tag(context: Context, reference: str, new: str) -> None:
    """Give an image one more name; nothing is copied. What runs stays on the image that it was made from.

    \b
    Example:
      vmrole image tag debian-12:2026-11-20 debian-12:proven
    """
    store = open_repository(context)
    made = store.tag(store.find(reference), *parsed(new))
    click.echo(f"{made.reference} is {made.digest}")


@contextlib.contextmanager
def reporting(name: str) -> Iterator[Progress]:
    """Tell how far something is: one live line on a terminal, else a line now and then, but never silence."""
    from orchestrator.cli.progress import display, never_silent

    with display() as live, never_silent(lambda text: live.say(f"{name}: {text}")) as report:
        yield report
