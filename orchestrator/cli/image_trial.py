"""`vmrole image test`, `customize` and `capture`: images in a machine of their own, which goes when that is done."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.deployments import Time, slot_option
from orchestrator.cli.image_intake import parsed, reporting
from orchestrator.errors import HostAway, Refused, UserError, VmroleError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.cli.context import Context
    from orchestrator.cli.progress import Display
    from orchestrator.model.image import Admission, Image
    from orchestrator.model.record import InstanceRecord
    from orchestrator.wiring import Wiring

MIB = 1024**2
INSTALL = r"""
if command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive; apt-get -q update && exec apt-get -q -y install "$@"
elif command -v dnf >/dev/null; then exec dnf -y install "$@"
elif command -v apk >/dev/null; then exec apk add "$@"
fi
echo 'no package manager that is known here (apt, dnf, apk)' >&2; exit 127
"""

memory_option = click.option("--memory", default="512MiB", show_default=True, help="The machine's memory.")
timeout_option = click.option(
    "--timeout", type=Time(), default="10m", show_default=True, metavar="TIME", help="How long it may take to be ready."
)


@click.command()
@click.argument("image")
@memory_option
@timeout_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def test(context: Context, image: str, memory: str, timeout: float, as_json: bool) -> None:
    """Boot IMAGE once, alone in a network that leads nowhere, and say whether it will do: the admission test.

    Tells firmware, agent, setup, services, the time to each stage, and the console when it fails. The verdict is kept
    with the image: `up` warns of images that have never passed.

    \b
    Example:
      vmrole image test debian-12
    """
    from dataclasses import asdict

    from orchestrator.cli.view import print_json
    from orchestrator.cli.workshop import workshop

    with _wired(context) as (wiring, shown):
        found, place = wiring.images.find(image), workshop(wiring, shown, memory, timeout)
        with place.trial(found, isolated=True) as status:
            verdict = place.verdict(status)
        wiring.images.judge(found.digest, verdict)
    if as_json:
        print_json({"image": found.reference, "digest": found.digest, **asdict(verdict)})
    else:
        click.echo(_said(found, verdict))
    if not verdict.passed:
        raise VmroleError(f"{found.reference} does not pass: {verdict.reason}", "a role's `ready` may ask for less")


@click.command()
@click.argument("image")
@click.option("--as", "target", required=True, metavar="NAME[:VERSION]", help="What the new image is called.")
@click.option("--copy", "copies", multiple=True, metavar="SOURCE:PATH", help="A file or folder to put at PATH.")
@click.option("--install", "packages", multiple=True, metavar="PACKAGE", help="A package to install.")
@click.option("--run", "lines", multiple=True, metavar="LINE", help="A line for the guest's shell.")
@memory_option
@timeout_option
@click.pass_obj
def customize(context: Context, /, image: str, target: str, **said: Any) -> None:  # noqa: ANN401 - click's values
    """Make a new image of IMAGE: start a machine on it, copy, install, run, and take its disk.

    What is the machine's own (machine id, host keys, cloud-init's state, logs) is removed before. Copies come first,
    then packages, then the lines; one that fails ends it, and nothing is made.

    \b
    Example:
      vmrole image customize debian-12 --copy app.conf:/etc/app.conf --run 'systemctl enable app' --as mine
    """
    from orchestrator.cli.workshop import workshop

    pairs = [_pair(text) for text in said["copies"]]
    steps = [["/bin/sh", "-c", INSTALL, "vmrole", *said["packages"]]] if said["packages"] else []
    steps += [["/bin/sh", "-c", line] for line in said["lines"]]
    with _wired(context) as (wiring, shown):
        wiring.images.check_free(*parsed(target))
        found = wiring.images.find(image)
        kept = workshop(wiring, shown, said["memory"], said["timeout"]).made(found, target, pairs, steps)
    click.echo(f"{kept.reference} made of {found.reference}: {kept.size_bytes // MIB} MiB, {kept.digest}")


@click.command()
@click.argument("instance")
@slot_option
@click.option("--as", "target", required=True, metavar="NAME[:VERSION]", help="What the new image is called.")
@memory_option
@timeout_option
@click.pass_obj
def capture(context: Context, instance: str, slot: str, target: str, memory: str, timeout: float) -> None:
    """Make an image of a stopped INSTANCE's disk as it is, without its local storage and volumes.

    The instance is left as it is: a copy of its disk is started once, and what is a machine's own is removed there.

    \b
    Example:
      vmrole stop hello/web-0
      vmrole image capture hello/web-0 --as mine
    """
    from orchestrator.cli.workshop import workshop

    with _wired(context) as (wiring, shown):
        wiring.images.check_free(*parsed(target))
        record, place = _stopped(wiring, instance, slot), workshop(wiring, shown, memory, timeout)
        with reporting(instance) as report:
            copy = place.taken(record, f"captured-{record.id.name}"[:40].strip("-"), report)
        try:
            kept = place.made(copy, target, [], [])
        finally:
            wiring.images.forget([copy.reference])
    click.echo(f"{kept.reference} made of {instance}: {kept.size_bytes // MIB} MiB, {kept.digest}")


@contextlib.contextmanager
def _wired(context: Context) -> Iterator[tuple[Wiring, Display]]:
    from orchestrator.cli.progress import display
    from orchestrator.wiring import wired

    with display() as shown, wired(context.home, context.connect, context.cache_dir, shown.say) as wiring:
        for host in wiring.loop.see().hosts.values():
            if host.problem:
                raise HostAway(host.problem, "`vmrole doctor` checks what is needed")
        yield wiring, shown


def _said(image: Image, verdict: Admission) -> str:
    rows = [
        f"{image.reference}: {'passed' if verdict.passed else 'failed'}",
        f"  system     {verdict.system or '-'}",
        f"  firmware   {verdict.firmware or '-'}",
        f"  agent      {verdict.agent or '-'}",
        f"  setup      {verdict.setup or '-'}",
        f"  services   {', '.join(verdict.services) or '-'}",
        *(f"  {stage:9}  after {seconds:.1f} s" for stage, seconds in verdict.seconds),
    ]
    rows += [f"  console:   {line}" for line in verdict.console]
    return "\n".join(rows)


def _stopped(wiring: Wiring, text: str, slot: str) -> InstanceRecord:
    """A stopped instance's record. Raises UserError, Refused."""
    from orchestrator.engine.verbs import chosen
    from orchestrator.model.record import Wanted

    found = chosen(wiring.store.intent(), [text], slot=slot, everything=False)
    if len(found) != 1:
        raise UserError(f"{text} names {len(found)} instances", "say one, like hello/web-0")
    if found[0].wanted is not Wanted.STOPPED:
        raise Refused(f"{text} is not stopped", f"`vmrole stop {found[0].id.words}` first")
    return found[0]


def _pair(text: str) -> tuple[Path, str]:
    source, colon, target = text.partition(":")
    if not colon or not target.startswith("/") or not Path(source).exists():
        raise UserError(f"--copy {text!r}: say SOURCE:PATH, a file or folder here and an absolute path in the guest")
    return Path(source), target
