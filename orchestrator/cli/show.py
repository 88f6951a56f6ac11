"""`vmrole ls`, `status` and `events`: what there is, and what happened."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import SLOTS, check_service_name, find_deployment, slot_option
from orchestrator.errors import NotFound
from orchestrator.model.names import DeploymentId, Slot

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.context import Context
    from orchestrator.control.loop import Loop
    from orchestrator.engine.plan import Plan
    from orchestrator.model.record import Event, Intent
    from orchestrator.ports import Clock, Store
    from orchestrator.wiring import Wiring

FOLLOW_S = 0.5
WATCH_S = 1.0
MORE_LOOKS = 3


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def ls(context: Context, as_json: bool) -> None:
    """List the deployments of this home.

    \b
    Example:
      vmrole ls --json
    """
    from orchestrator.cli.view import own, print_json, state_of, table
    from orchestrator.engine.status import State
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        intent, plan = wiring.loop.look()
    rows = []
    for record in intent.deployments:
        statuses = own(plan, record.id)
        ready = sum(status.state is State.READY for status in statuses)
        rows.append((record, state_of(plan, record), ready, len(statuses)))
    if as_json:
        print_json(
            [
                {"service": r.id.service, "slot": r.id.slot, "state": state, "ready": ready, "instances": count,
                 "vip": r.vip, "live": r.is_live, "revision": r.revision}
                for r, state, ready, count in rows
            ]
        )  # fmt: skip
        return
    if not rows:
        click.echo("no deployments; `vmrole up FILE` makes one")
        return
    cells = [
        (r.id.service, r.id.slot, state, f"{ready}/{count}", r.vip, str(r.revision)) for r, state, ready, count in rows
    ]
    click.echo(table(("SERVICE", "SLOT", "STATE", "READY", "VIP", "REVISION"), cells))


@click.command()
@click.argument("service")
@slot_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.pass_obj
def status(context: Context, service: str, slot: str, as_json: bool, watch: bool) -> None:
    """Show a deployment's instances: how far each is, and what it waits for.

    \b
    Example:
      vmrole status hello
      vmrole status hello --json | jq .vip
    """
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        key = check_service_name(service, slot)
        _show(wiring, key, as_json=as_json)
        while watch:
            wiring.clock.wait(WATCH_S)
            if not as_json:
                click.clear()
            _show(wiring, key, as_json=as_json)


def looked(loop: Loop, clock: Clock, key: DeploymentId) -> tuple[Intent, Plan]:
    """A look, or a few: what a guest is asked about its services it takes a moment to say, and then it names them."""
    from orchestrator.cli.view import is_vague, own

    intent, plan = loop.look()
    for _look in range(MORE_LOOKS):
        if not any(is_vague(status) for status in own(plan, key)):
            break
        clock.wait(WATCH_S)
        intent, plan = loop.look()
    return intent, plan


def _show(wiring: Wiring, key: DeploymentId, *, as_json: bool) -> None:
    from orchestrator.cli.view import consoles, own, print_json, status_json, status_text

    find_deployment(wiring.store.intent(), key.service, key.slot)
    intent, plan = looked(wiring.loop, wiring.clock, key)
    record = find_deployment(intent, key.service, key.slot)
    if as_json:
        print_json(status_json(plan, record))
        return
    click.echo(status_text(plan, record, wiring.clock.now()))
    if told := consoles(own(plan, record.id)):
        click.echo(told)


@click.command()
@click.argument("what", metavar="[SERVICE|INSTANCE]", default="")
@click.option(
    "--slot",
    type=click.Choice(SLOTS),
    help="Of one of the service's two deployments only. Default: of both.",
)
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), metavar="N", help="Begin with the last N only.")
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one event a line.")
@click.pass_obj
def events(context: Context, what: str, slot: str | None, count: int | None, follow: bool, as_json: bool) -> None:
    """Show what happened to a service, one instance or all of them: when, what, why, and who did it.

    The last 10000 events are kept, also those of a service that was deleted.

    \b
    Example:
      vmrole events hello -f
      vmrole events hello/web-0 -n 20
      vmrole events -f --json
    """
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.sqlite import SqliteStore
    from orchestrator.wiring import make_home, owner_of

    is_asked = _filter(what, slot)
    store = SqliteStore(make_home(context.home) / "vmrole.db", owner_of(context.home))
    clock, last, left, has_any = SystemClock(), 0, count, False
    if what and not any(is_asked(event.subject) for _number, event in store.events("")):
        _refuse_unknown(store, what, slot)
    while True:
        rows = tuple(store.events("", last))
        new = [event for _number, event in rows if is_asked(event.subject)]
        for event in new if left is None else new[max(0, len(new) - left) :]:
            click.echo(_line(event, as_json=as_json))
        # Those of others are not read again either.
        last, left, has_any = rows[-1][0] if rows else last, None, has_any or bool(new)
        if not follow:
            break
        clock.wait(FOLLOW_S)
    if not has_any:
        click.echo(f"no events{f' of {what}' if what else ''}", err=True)


def _filter(what: str, slot: str | None) -> Callable[[str], bool]:
    """Whether an event's subject is what was asked for. Raises UserError for what names nothing."""
    from orchestrator.cli.instance import parse_instance

    asked = slot or Slot.PRODUCTION.value
    if "/" in what:
        names = [str(parse_instance(what, some)) for some in ([slot] if slot else SLOTS)]
        return lambda subject: subject in names
    if what:
        wanted = str(check_service_name(what, asked)) if slot else what
        return lambda subject: subject == wanted or subject.startswith(f"{wanted}.")
    return lambda subject: not slot or subject.split(".")[1:2] == [slot]


def _refuse_unknown(store: Store, what: str, slot: str | None) -> None:
    """Raise NotFound for what is not there, and never was."""
    asked = slot or Slot.PRODUCTION.value
    service, slash, name = what.partition("/")
    record = find_deployment(store.intent(), service, asked)
    if slash and not any(known.id.name == name for known in store.intent().members(record.id)):
        raise NotFound(f"there is no instance {what}", f"`vmrole status {service}` shows those that there are")


def _line(event: Event, *, as_json: bool) -> str:
    import json
    from dataclasses import asdict

    if as_json:
        return json.dumps(asdict(event))
    at = datetime.fromtimestamp(event.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    why = f": {event.cause}" if event.cause else ""
    return f"{at}  {event.subject}  {event.what}{why}  [{event.actor}]"
