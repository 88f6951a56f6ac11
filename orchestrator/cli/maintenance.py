"""`vmrole pause` and `resume`: a service that is left alone for a while. They change the intent, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import check_service_name, find_deployment, over_others, slot_option
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.context import Context
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import DeploymentRecord

MAX_REASON = 200


@click.command()
@click.argument("service")
@slot_option
@click.option("--reason", default="", metavar="TEXT", help="Why, for `status` and `events`.")
@click.pass_obj
def pause(context: Context, service: str, slot: str, reason: str) -> None:
    """Leave a service alone, for maintenance: nothing is repaired, started again or upgraded until `resume`.

    HAProxy's own checks go on, and so does whatever is asked for by a command (reboot, stop, start, reimage, down).

    \b
    Example:
      vmrole pause hello --reason "new disks in the host"
    """
    from orchestrator.engine.deploy import paused

    if len(reason) > MAX_REASON or not (reason or " ").isprintable():
        raise UserError(
            f"the reason is not one line of at most {MAX_REASON} printable characters", "say it in fewer words"
        )
    key = check_service_name(service, slot)
    _change(context, key, "paused: nothing is repaired or upgraded", lambda r, now: paused(r, reason, now))
    click.echo(f"{key.title} is paused; `vmrole resume {key.words}` ends that")


@click.command()
@click.argument("service")
@slot_option
@click.pass_obj
def resume(context: Context, service: str, slot: str) -> None:
    """End a pause: from now on the service is repaired and upgraded again, faults of machines after repair's grace.

    \b
    Example:
      vmrole resume hello
    """
    from orchestrator.engine.deploy import resumed

    key = check_service_name(service, slot)
    is_changed = _change(context, key, "resumed", resumed)
    click.echo(f"{key.title} is resumed" if is_changed else f"{key.title} was not paused")


def _change(
    context: Context, key: DeploymentId, what: str, change: Callable[[DeploymentRecord, float], DeploymentRecord]
) -> bool:
    """Store the deployment as ``change`` makes it, with an event; whether that was anything new."""
    from orchestrator.drivers.clock import SystemClock
    from orchestrator.drivers.sqlite import SqliteStore
    from orchestrator.model.record import Event
    from orchestrator.wiring import make_home, owner_of

    store = SqliteStore(make_home(context.home) / "vmrole.db", owner_of(context.home))

    def at_once() -> bool:
        record, now = find_deployment(store.intent(), key.service, key.slot), SystemClock().now()
        changed = change(record, now)
        if changed == record:
            return False
        why = changed.paused.reason if changed.paused is not None else ""
        store.save_deployment(changed, Event(now, str(record.id), what, why or "asked for by command", "user"))
        return True

    try:
        return over_others(at_once)
    finally:
        store.close()
