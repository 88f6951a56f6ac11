"""`vmrole up` and `plan`: what a service file wants, and what that would do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import Time, settle, slot_option
from orchestrator.cli.setupcheck import odd_user_data
from orchestrator.cli.wanting import wanted_record, write_intent
from orchestrator.errors import (
    NotFound,
    VmroleError,
)
from orchestrator.model.names import DeploymentId

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.context import Context
    from orchestrator.control.settle import Rest
    from orchestrator.engine.plan import Plan
    from orchestrator.model.action import Frontend
    from orchestrator.model.record import DeploymentRecord
    from orchestrator.wiring import Wiring


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@slot_option
@click.option("--no-wait", is_flag=True, help="Make the machines and start them, but do not wait until they are ready.")
@click.option(
    "--timeout", type=Time(), metavar="TIME", help="Wait no longer than this (90s, 10m). Default: the roles' own."
)
@click.option(
    "--canary",
    type=click.IntRange(1, 200),
    metavar="N",
    help="Upgrade N instances of each role that changes, and wait for `vmrole upgrade promote` or `rollback`.",
)
@click.pass_obj
def up(context: Context, file: Path, slot: str, no_wait: bool, timeout: float | None, canary: int | None) -> None:
    """Create a deployment from FILE, or change it to what FILE says now, and wait until it is ready.

    Run it again after anything that went wrong: it goes on from what is there. A second run on the same file changes
    nothing. Ends with 0 when every instance is in rotation, with 1 when one has failed or an upgrade has stopped.

    \b
    Example:
      vmrole up examples/hello.yaml
    """
    from orchestrator.cli.progress import display
    from orchestrator.cli.secrecy import forget_secrets
    from orchestrator.cli.upgrade import report
    from orchestrator.config.servicefile import load
    from orchestrator.wiring import wired

    service = load(file, _image_problem(context))
    with display() as shown, wired(context.home, context.connect, context.cache_dir, shown.say) as wiring:
        record, is_new = write_intent(wiring, DeploymentId(service.name, slot), service, file, canary or 0)
        wait_s = timeout if timeout is not None else _patience(record)
        rest = settle(wiring, record.id, shown, wait_s, is_enough=_is_started if no_wait else None)
        warnings = [*_untested(wiring, record), *odd_user_data(service)]
        forget_secrets(wiring)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    if _is_about_upgrade(rest, record):
        report(rest, record)
    else:
        _report_up(rest, record, is_new=is_new, no_wait=no_wait)


def _untested(wiring: Wiring, record: DeploymentRecord) -> list[str]:
    """Images of a deployment that have never passed their admission test."""
    known = {image.digest: image for image in wiring.images.images()}
    used = [known[digest] for digest in sorted(set(record.digests.values())) if digest in known]
    return [
        f"image {image.reference} has never passed `vmrole image test {image.reference}`"
        for image in used
        if image.admission is None or not image.admission.passed
    ]


def _image_problem(context: Context) -> Callable[[str], str]:
    """Say what is wrong with an image's reference; the state folder need not be there."""
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.images import Repository

    images = Repository(context.home / "images", SystemClock())

    def problem(reference: str) -> str:
        try:
            images.resolve(reference)
        except NotFound as error:
            return f"{error.message} ({error.hint})"
        return ""

    return problem


def _patience(record: DeploymentRecord) -> float:
    from orchestrator.cli.upgrade import patience

    return patience(record)


def _is_started(plan: Plan, key: DeploymentId) -> bool:
    from orchestrator.cli.view import own

    statuses = own(plan, key)
    return bool(statuses) and all(status.record.timeline.started is not None for status in statuses)


def _report_up(rest: Rest, record: DeploymentRecord, *, is_new: bool, no_wait: bool) -> None:
    from orchestrator.cli.view import consoles, own, reasons, state_of
    from orchestrator.control.settle import End
    from orchestrator.engine.startup import EVERY_BOOT
    from orchestrator.engine.status import State
    from orchestrator.model.record import Wanted

    name, words, statuses = record.id.title, record.id.words, own(rest.plan, record.id)
    if rest.end is End.READY and state_of(rest.plan, record) == "paused":
        count = sum(status.in_rotation for status in statuses)
        told = f"{count} of {len(statuses)} instances in rotation{_where(record)}"
        click.echo(f"{name} is paused; {told}; `vmrole resume {words}` has the rest done")
        return
    if rest.end is End.READY:
        news = "is ready" if is_new or rest.has_changed else "is ready: nothing to change"
        up = [s for s in statuses if s.record.wanted is Wanted.UP and s.state is not State.BUSY]
        click.echo(f"{name} {news}; {len(up)} of {len(statuses)} instances in rotation{_where(record)}")
        for status in statuses:
            said = status.record.id.words
            if status.state is State.BUSY:
                click.echo(f"{said} is busy, and out of rotation: {status.reason}")
            elif status not in up:
                click.echo(f"{said} is stopped, and stays so; `vmrole start {said}` brings it up")
        return
    if rest.end is End.ENOUGH and no_wait:
        click.echo(f"{name} is started; `vmrole status {words}` shows how far it is")
        return
    if rest.error is not None:
        raise rest.error
    why = "is not ready in time" if rest.end is End.TIMEOUT else f"is {rest.end.value}"
    bad = [s for s in statuses if s.reason]
    told = next((found.reason for found in rest.plan.deployments if found.id == record.id), "")
    is_untold = told and not any(told in status.reason for status in bad)
    lines = [f"{name} {why}: {told}" if is_untold else f"{name} {why}", *reasons(bad)]
    lines += [consoles(statuses)] if consoles(statuses) else []
    is_final = any(s.record.failure is not None and s.record.failure.is_final for s in bad)
    is_of_boot = any(s.reason.startswith(EVERY_BOOT) for s in bad)
    again = "run `vmrole reboot`: it is run at every boot" if is_of_boot else "run `vmrole up` again"
    again = "run `vmrole reimage`: setup runs once a machine" if is_final else again
    hint = f"mend the cause and {again}; `vmrole events {words}` has the story"
    raise VmroleError("\n".join(lines), f"{hint}, `vmrole down {words}` removes it")


def _is_about_upgrade(rest: Rest, record: DeploymentRecord) -> bool:
    """Whether the upgrade itself is halted: it has stopped, is paused, or waits for a word."""
    told = next((found for found in rest.plan.deployments if found.id == record.id), None)
    return told is not None and told.settled and told.reason.startswith(("upgrade ", "rollback "))


def _url(front: Frontend) -> str:
    """Where a browser finds it; "" if that is nowhere."""
    is_safe = front.protocol.value == "https" or front.traffic.tls is not None
    if front.protocol.value == "tcp":
        return ""
    scheme, usual = ("https", 443) if is_safe else ("http", 80)
    return f"{scheme}://{front.vip}{'' if front.port == usual else f':{front.port}'}/"


def _where(record: DeploymentRecord) -> str:
    from orchestrator.engine.rotation import frontends

    fronts = frontends([record])
    urls = [url for front in fronts if (url := _url(front))]
    return f" at {urls[0]}" if urls else f" at {record.vip}" if fronts else ""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@slot_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def plan(context: Context, file: Path, slot: str, as_json: bool) -> None:
    """Show what `vmrole up FILE` would do now, and what becomes of each instance's disks. Changes nothing.

    \b
    Example:
      vmrole plan examples/hello.yaml
    """
    from orchestrator.cli.forecast import forecast_json, forecast_text
    from orchestrator.cli.secrecy import with_secrets
    from orchestrator.cli.view import print_json
    from orchestrator.config.servicefile import load
    from orchestrator.engine.deploy import after, retried
    from orchestrator.engine.plan import plan as decide
    from orchestrator.wiring import wired

    service = load(file, _image_problem(context))
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        service, _values = with_secrets(wiring, service, file, is_lasting=False)
        intent, world, now = wiring.store.intent(), wiring.loop.see(), wiring.clock.now()
        record = wanted_record(wiring, intent, world, DeploymentId(service.name, slot), service, file)
        future = after(intent, record, retried(intent, record, now))
        made = decide(future, world, now)
    if as_json:
        print_json(forecast_json(intent, record, made, world.hosts))
    else:
        click.echo(forecast_text(intent, record, made, world.hosts))
