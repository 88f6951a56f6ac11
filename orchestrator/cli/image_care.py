"""`vmrole image verify`, `export`, `rm` and `prune`: keeping images whole, giving them out, and letting them go."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.image_intake import open_repository, reporting
from orchestrator.errors import Refused, VmroleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.cli.context import Context
    from orchestrator.engine.imagery import Use
    from orchestrator.model.image import Image
    from orchestrator.wiring import Wiring

MIB = 1024**2


def stored(context: Context) -> tuple[Use, ...]:
    """Who needs images, as far as the store knows."""
    from orchestrator.drivers.sqlite import SqliteStore
    from orchestrator.engine.imagery import stored_uses
    from orchestrator.wiring import make_home, owner_of

    store = SqliteStore(make_home(context.home) / "vmrole.db", owner_of(context.home))
    try:
        return stored_uses(store.intent())
    finally:
        store.close()


@click.command()
@click.argument("reference", metavar="[NAME[:VERSION]]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(context: Context, reference: str | None, as_json: bool) -> None:
    """Read images again and compare them with their digests: one, or all. Ends with 1 when one is damaged.

    \b
    Example:
      vmrole image verify debian-12
    """
    from orchestrator.cli.view import print_json
    from orchestrator.engine.imagery import users

    repository, uses = open_repository(context), stored(context)
    images = (repository.find(reference),) if reference else repository.images()
    found = [(image, _damage(context, image)) for image in {image.digest: image for image in images}.values()]
    told = [
        {"image": i.reference, "digest": i.digest, "damage": why, "used_by": list(users(i.digest, uses)) if why else []}
        for i, why in found
    ]
    if as_json:
        print_json(told)
    else:
        for image, why in found:
            click.echo(f"{image.reference} is damaged: {why}" if why else f"{image.reference} is whole")
    damaged = [(image.reference, users(image.digest, uses)) for image, why in found if why]
    if damaged:
        stand = "; ".join(f"on {name} stand {', '.join(who)}" for name, who in damaged if who) or "nobody stands on it"
        raise Refused(
            f"damaged: {', '.join(name for name, _who in damaged)}; {stand}",
            "add or build the same image again: that puts the file right. What runs has copies of it on its hosts",
        )


def _damage(context: Context, image: Image) -> str:
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.imaging.meter import Meter

    with reporting(image.reference) as report:
        meter = Meter("verifying", image.virtual_bytes, SystemClock(), report)
        return open_repository(context).damage(image, meter.at)


@click.command()
@click.argument("reference", metavar="NAME[:VERSION]")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["qcow2", "raw", "vhd", "vhdx", "vmdk"]), default="qcow2")
@click.option("--compress", is_flag=True, help="Compressed (qcow2, vmdk).")
@click.pass_obj
def export(context: Context, reference: str, file: Path, kind: str, compress: bool) -> None:
    """Write an image to FILE, sparse, and print the file's SHA-256. FILE is there only when it is whole.

    \b
    Example:
      vmrole image export debian-12 debian-12.vhd --format vhd
    """
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.imaging.giving import give_out

    repository = open_repository(context)
    found = repository.find(reference)
    with reporting(found.reference) as report:
        blob = repository.blob(found.digest)
        digest = give_out(blob, file.absolute(), (kind, compress), found.virtual_bytes, SystemClock(), report)
    click.echo(f"{digest}  {file}")


@contextlib.contextmanager
def _asked(context: Context) -> Iterator[tuple[Wiring, tuple[Use, ...]]]:
    """Who needs images, by the store and by every host; while it lasts no loop of this home makes anything anew."""
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring, wiring.alone():
        yield wiring, _uses(wiring)


def _uses(wiring: Wiring) -> tuple[Use, ...]:
    from orchestrator.engine.imagery import host_uses, stored_uses

    hosts = wiring.loop.see().hosts
    bases = _bases(wiring, {name: host.volumes for name, host in hosts.items() if not host.problem})
    return (*stored_uses(wiring.store.intent()), *host_uses(hosts.values(), bases))


def sweep_leaving(wiring: Wiring) -> None:
    """Remove images that were to go as soon as nobody needs them, if that is so now."""
    with wiring.lease.try_hold() as is_ours:
        if is_ours:
            sweep_held(wiring)


def sweep_held(wiring: Wiring) -> None:
    """The same for who holds the lease already."""
    if any(image.leaving for image in wiring.images.images()):
        _sweep(wiring, _uses(wiring), set())


def _bases(wiring: Wiring, volumes: dict[str, frozenset[str]]) -> dict[tuple[str, str], str]:
    """The image below each overlay on each host; what cannot be told is left out."""
    from orchestrator.engine.imagery import overlays
    from orchestrator.model.world import HostSeen

    found = {}
    for name, files in volumes.items():
        for file in overlays(HostSeen(name, volumes=files)):
            with contextlib.suppress(VmroleError):
                found[name, file] = wiring.hosts[name].base_of(file)
    return found


@click.command()
@click.argument("reference", metavar="NAME[:VERSION]")
@click.option("--when-unused", is_flag=True, help="If it is in use, remove it as soon as it is not.")
@click.pass_obj
def rm(context: Context, reference: str, when_unused: bool) -> None:
    """Remove an image, unless anything stands on it: a running or stopped instance, a kept overlay, a role.

    A host that cannot be asked counts as in use. With --when-unused the image is no longer what its bare name means,
    and the first `down`, `rm` or `prune` that finds it free removes it.

    \b
    Example:
      vmrole image rm debian-12:2026-11-20
      vmrole image rm debian-12:2026-11-20 --when-unused
    """
    from orchestrator.engine.imagery import blockers

    found = open_repository(context).find(reference)
    with _asked(context) as (wiring, uses):
        _sweep(wiring, uses, {found.reference})
        needed = blockers(found, wiring.images.images(), uses)
        if not needed:
            wiring.images.forget([found.reference])
            click.echo(f"{found.reference} is removed")
        elif when_unused:
            wiring.images.mark_leaving([found.reference])
            click.echo(f"{found.reference} goes when nobody needs it any more; now: {'; '.join(needed)}")
        else:
            raise Refused(
                f"{found.reference} is in use: {'; '.join(needed)}",
                f"`vmrole image rm {found.reference} --when-unused` removes it as soon as it is not",
            )


def _sweep(wiring: Wiring, uses: tuple[Use, ...], but: set[str]) -> None:
    """Remove what was marked and is free now."""
    from orchestrator.engine.imagery import removable

    gone = [i.reference for i in removable(wiring.images.images(), uses) if i.leaving and i.reference not in but]
    if gone:
        wiring.images.forget(gone)
        click.echo(f"removed, as nobody needs them any more: {', '.join(gone)}", err=True)


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def prune(context: Context, dry_run: bool, as_json: bool) -> None:
    """Remove what nobody needs: dated versions but the newest of a name, and those marked by `rm --when-unused`.

    A version that somebody named (`tag`, or `add NAME:VERSION`) stays until `rm`.

    \b
    Example:
      vmrole image prune --dry-run
    """
    from orchestrator.cli.view import print_json
    from orchestrator.engine.imagery import removable

    with _asked(context) as (wiring, uses):
        gone = removable(wiring.images.images(), uses)
        if not dry_run:
            wiring.images.forget(image.reference for image in gone)
    if as_json:
        print_json([{"image": image.reference, "digest": image.digest, "bytes": image.size_bytes} for image in gone])
        return
    word = "would be removed" if dry_run else "removed"
    for image in gone:
        click.echo(f"{image.reference} {word}: {image.size_bytes // MIB} MiB")
    if not gone:
        click.echo("there is nothing to remove")
    unasked = [use.who for use in uses if not use.digest]
    if unasked:
        click.echo(f"anything may be in use: {'; '.join(unasked)}", err=True)
