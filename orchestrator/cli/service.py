"""`vmrole up`, `plan` and `down`: what is wanted of a whole deployment."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli.setupcheck import odd_user_data, refuse_unsuitable
from orchestrator.config.quantities import seconds
from orchestrator.errors import (
    HostAway,
    InvalidInput,
    Missing,
    NotFound,
    Problem,
    StoreConflict,
    UserError,
    VmroleError,
)
from orchestrator.model.names import DeploymentId, is_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.context import Context
    from orchestrator.cli.progress import Display
    from orchestrator.control.settle import Enough, Rest
    from orchestrator.engine.plan import Plan
    from orchestrator.model.action import Frontend
    from orchestrator.model.record import DeploymentRecord, Event, Intent
    from orchestrator.model.spec import Service
    from orchestrator.model.world import World
    from orchestrator.wiring import Wiring

MARGIN_S = 60.0  # beyond what the roles give themselves: making machines, uploading images


class Time(click.ParamType[float]):
    """A time as people write it (90s, 10m), in seconds."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        try:
            return seconds(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


def check_service_name(name: str) -> DeploymentId:
    """The deployment that a command's argument names. Raises UserError."""
    if not is_name(name):
        raise UserError(f"{name!r} is not the name of a service", "`vmrole ls` lists them")
    return DeploymentId(name)


def find_deployment(intent: Intent, name: str) -> DeploymentRecord:
    """The record of the deployment that a command's argument names. Raises UserError, NotFound."""
    record = intent.deployment(check_service_name(name))
    if record is None:
        known = ", ".join(sorted(found.id.service for found in intent.deployments)) or "none"
        raise NotFound(f"there is no service {name}; known: {known}", "`vmrole up FILE` makes one")
    return record


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--no-wait", is_flag=True, help="Make the machines and start them, but do not wait until they are ready.")
@click.option(
    "--timeout", type=Time(), metavar="TIME", help="Wait no longer than this (90s, 10m). Default: the roles' own."
)
@click.pass_obj
def up(context: Context, file: Path, no_wait: bool, timeout: float | None) -> None:
    """Create a deployment from FILE, or change it to what FILE says now, and wait until it is ready.

    Run it again after anything that went wrong: it goes on from what is there. A second run on the same file changes
    nothing. Ends with 0 when every instance is in rotation, with 1 when one has failed.

    \b
    Example:
      vmrole up examples/hello.yaml
    """
    from orchestrator.cli.progress import display
    from orchestrator.cli.secrecy import forget_secrets
    from orchestrator.config.servicefile import load
    from orchestrator.wiring import wired

    service = load(file, _image_problem(context))
    with display() as shown, wired(context.home, context.connect, context.cache_dir, shown.say) as wiring:
        record, is_new = _write_intent(wiring, service, file)
        wait_s = timeout if timeout is not None else _patience(service)
        rest = settle(wiring, record.id, shown, wait_s, is_enough=_is_started if no_wait else None)
        warnings = [*_untested(wiring, record), *odd_user_data(service)]
        forget_secrets(wiring)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
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


def _patience(service: Service) -> float:
    return max(role.ready.timeout_s * max(1, role.instances) for role in service.roles) + MARGIN_S


def _write_intent(wiring: Wiring, service: Service, file: Path) -> tuple[DeploymentRecord, bool]:
    """Check the file against what is there, then store what it wants; whether that was news."""
    from orchestrator.cli.secrecy import with_secrets
    from orchestrator.engine.deploy import retried

    service, values = with_secrets(wiring, service, file, is_lasting=True)
    intent = wiring.store.intent()
    world = wiring.loop.see()
    record = wanted_record(wiring, intent, world, service, file)
    known = intent.deployment(record.id)
    is_new = record != known
    try:
        with wiring.secrets.alone() if values else contextlib.nullcontext():
            wiring.secrets.keep(values)
            for instance in retried(intent, record, wiring.clock.now()):
                wiring.store.save_instance(instance)
            if is_new:
                wiring.store.save_deployment(record, _event(wiring, record))
    except StoreConflict as error:
        raise StoreConflict(
            f"another vmrole changed {service.name} at the same moment", "run the same command again"
        ) from error
    return record, is_new


def _event(wiring: Wiring, record: DeploymentRecord) -> Event:
    from orchestrator.model.record import Event

    return Event(wiring.clock.now(), str(record.id), f"revision {record.revision} is wanted", actor="up")


def wanted_record(wiring: Wiring, intent: Intent, world: World, service: Service, file: Path) -> DeploymentRecord:
    """The deployment's record as the file wants it, after every check that can be made. Changes nothing.

    Raises InvalidInput for what is wrong with the file, HostAway or Missing for what is wrong with the site.
    """
    from orchestrator.engine.deploy import deployed, free_subnets, free_vip
    from orchestrator.model.image import platform_of

    key = DeploymentId(service.name)
    images = {role.name: wiring.images.find(role.image) for role in service.roles}
    digests = {role: image.digest for role, image in images.items()}
    platforms = {role: platform_of(image.traits) for role, image in images.items()}
    if shutil.which("haproxy") is None:
        raise Missing("HAProxy is not installed", "install the package haproxy, or run `make setup`")
    for host in world.hosts.values():
        if host.problem:
            raise HostAway(
                host.problem, "`vmrole doctor` checks what is needed; in a lab, `vmrole lab up` starts it again"
            )
    known = intent.deployment(key)
    pools = {host.name: host.dip_pool for host in wiring.site.hosts}
    # A deployment stays on the hosts that it was made for: its networks' numbers are the same on each of them.
    subnets = known.subnets if known is not None else free_subnets(pools, world.hosts, intent)
    vip = known.vip if known is not None else free_vip(wiring.site.vip_pool, intent, world.balancer.vips)
    record = deployed(intent, key, service, digests=digests, vip=vip, subnets=subnets, platforms=platforms)
    refuse_unsuitable(record, file)
    _refuse_shrinking(intent, world, record, file)
    _refuse_clashes(wiring, intent, record, file)
    return record


def _refuse_shrinking(intent: Intent, world: World, record: DeploymentRecord, file: Path) -> None:
    """Refuse disks that are to be smaller than they are: what is on them would be cut."""
    from orchestrator.engine.deploy import shrunk

    problems = [_problem(file, path, message) for path, message in shrunk(intent, world.hosts.values(), record)]
    if problems:
        hint = "ask for at least the size that it has; a smaller one is a new disk, under another name"
        raise InvalidInput(str(file), tuple(problems), hint)


def _refuse_clashes(wiring: Wiring, intent: Intent, record: DeploymentRecord, file: Path) -> None:
    """Refuse VIP ports that somebody else listens on, before anything is changed; our own are known by the record."""
    from orchestrator.engine.deploy import clashes
    from orchestrator.engine.rotation import frontends

    known = intent.deployment(record.id)
    own = {front.port for front in frontends([known])} if known is not None else set()
    if {front.port for front in frontends([record])} <= own:
        return
    taken = clashes(record, wiring.balancer.listeners(), own)
    problems = [
        _problem(
            file,
            ("roles", role.name, "endpoints", endpoint.name, "port"),
            f"port {port} is taken: another program listens on {taken[port]}, where the VIP {record.vip} lives",
        )
        for role in record.service.roles
        for endpoint in role.endpoints
        for port in sorted(taken)
        if endpoint.ports[0] <= port <= endpoint.ports[1]
    ]
    if problems:
        raise InvalidInput(str(file), tuple(problems), "choose another port, or end that program")


def _problem(file: Path, path: tuple[str | int, ...], message: str) -> Problem:
    from orchestrator.config.reading import path_text
    from orchestrator.config.servicefile import line_of

    return Problem(path_text(path), message, line_of(file.read_text(errors="replace"), path))


def settle(
    wiring: Wiring, key: DeploymentId, shown: Display, timeout_s: float, *, is_enough: Enough | None = None
) -> Rest:
    """Run the loop, or watch who runs it, until the deployment is at rest or ``is_enough``."""
    from orchestrator.control.settle import Settler

    def show(plan: Plan) -> None:
        statuses = [status for status in plan.instances if status.record.id.deployment == key]
        shown.show(statuses)
        if not statuses:
            why = next((found.reason for found in plan.deployments if found.id == key), "")
            shown.remind(f"the last steps are to be done{f': {why}' if why else ''}")

    settler = Settler(wiring.loop, wiring.lease, wiring.clock, show, shown.say)
    return settler.settle(key, timeout_s, is_enough=is_enough)


def _is_started(plan: Plan, key: DeploymentId) -> bool:
    own = [status for status in plan.instances if status.record.id.deployment == key]
    return bool(own) and all(status.record.timeline.started is not None for status in own)


def _report_up(rest: Rest, record: DeploymentRecord, *, is_new: bool, no_wait: bool) -> None:
    from orchestrator.cli.view import consoles, own, state_of
    from orchestrator.control.settle import End
    from orchestrator.engine.startup import EVERY_BOOT
    from orchestrator.engine.status import State
    from orchestrator.model.record import Wanted

    name, statuses = record.id.service, own(rest.plan, record)
    if rest.end is End.READY and state_of(rest.plan, record) == "paused":
        count = sum(status.in_rotation for status in statuses)
        told = f"{count} of {len(statuses)} instances in rotation{_where(record)}"
        click.echo(f"{name} is paused; {told}; `vmrole resume {name}` has the rest done")
        return
    if rest.end is End.READY:
        news = "is ready" if is_new or rest.has_changed else "is ready: nothing to change"
        up = [s for s in statuses if s.record.wanted is Wanted.UP and s.state is not State.BUSY]
        click.echo(f"{name} {news}; {len(up)} of {len(statuses)} instances in rotation{_where(record)}")
        for status in statuses:
            said = f"{name}/{status.record.id.name}"
            if status.state is State.BUSY:
                click.echo(f"{said} is busy, and out of rotation: {status.reason}")
            elif status not in up:
                click.echo(f"{said} is stopped, and stays so; `vmrole start {said}` brings it up")
        return
    if rest.end is End.ENOUGH and no_wait:
        click.echo(f"{name} is started; `vmrole status {name}` shows how far it is")
        return
    if rest.error is not None:
        raise rest.error
    why = "is not ready in time" if rest.end is End.TIMEOUT else f"is {rest.end.value}"
    bad = [s for s in statuses if s.reason]
    lines = [f"{name} {why}", *(f"  {s.record.id.name}: {s.state.value} at {s.stage.value}: {s.reason}" for s in bad)]
    lines += [consoles(statuses)] if consoles(statuses) else []
    is_final = any(s.record.failure is not None and s.record.failure.is_final for s in bad)
    is_of_boot = any(s.reason.startswith(EVERY_BOOT) for s in bad)
    again = "run `vmrole reboot`: it is run at every boot" if is_of_boot else "run `vmrole up` again"
    again = "run `vmrole reimage`: setup runs once a machine" if is_final else again
    hint = f"mend the cause and {again}; `vmrole events {name}` has the story"
    raise VmroleError("\n".join(lines), f"{hint}, `vmrole down {name}` removes it")


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
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def plan(context: Context, file: Path, as_json: bool) -> None:
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
        record = wanted_record(wiring, intent, world, service, file)
        future = after(intent, record, retried(intent, record, now))
        made = decide(future, world, now)
        volumes = frozenset(file for host in world.hosts.values() for file in host.volumes)
    if as_json:
        print_json(forecast_json(intent, record, made, volumes))
    else:
        click.echo(forecast_text(intent, record, made, volumes))


def confirm(question: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)
    elif not yes:
        raise UserError(f"{question} Not asked: this is no terminal", "say --yes")
