"""`vmrole scale`: another number of instances, without another file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import MARGIN_S, Time, confirm, find_deployment, over_others, settle, slot_option
from orchestrator.config.scaleform import MAX_INSTANCES
from orchestrator.errors import TransientError, UserError, VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.context import Context
    from orchestrator.control.settle import Rest
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import DeploymentRecord
    from orchestrator.wiring import Wiring

    Change = Callable[[DeploymentRecord], DeploymentRecord]


@click.command()
@click.argument("service")
@click.argument("role")
@click.argument("count", type=click.IntRange(1, MAX_INSTANCES), metavar="N")
@slot_option
@click.option("--remove", multiple=True, metavar="INSTANCE", help="This one is to go (web-1); may be said again.")
@click.option("--yes", is_flag=True, help="Do not ask before instances are deleted.")
@click.option("--timeout", type=Time(), metavar="TIME", help="Wait no longer than this (90s, 10m).")
@click.pass_obj
def scale(  # noqa: PLR0913 - click gives each option by its name
    context: Context,
    service: str,
    role: str,
    count: int,
    *,
    slot: str,
    remove: tuple[str, ...],
    yes: bool,
    timeout: float | None,
) -> None:
    """Give ROLE of SERVICE N instances, and wait until they are ready, or gone.

    The highest ordinals go, unless --remove names others: drained, shut down, deleted with overlay and local storage.
    Their volumes are kept, and instances of the same names get them again: those are the first to come back. The next
    `vmrole up FILE` asks for what the file says.

    \b
    Example:
      vmrole scale hello web 5
      vmrole scale hello web 4 --remove web-1
    """
    from orchestrator.cli.progress import display
    from orchestrator.engine.scaling import scaled
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        known = find_deployment(wiring.store.intent(), service, slot)
        names = [name.removeprefix(f"{service}/") for name in remove]

        def change(record: DeploymentRecord) -> DeploymentRecord:
            return scaled(record, role, count, names)

        if gone := _gone(known, change(known), role):
            confirm(f"Delete {', '.join(gone)} with overlays and local storage; volumes are kept?", yes=yes)
        wanted = _save(wiring, known.id, role, change, gone)
        changed = {*known.ordinals(role)} ^ {*wanted.ordinals(role)}
        wait_s = timeout if timeout is not None else _patience(wanted, role, len(changed))
        with display() as shown:
            rest = settle(wiring, wanted.id, shown, wait_s)
    _report(rest, wanted.id, role, count)


def _gone(known: DeploymentRecord, wanted: DeploymentRecord, role: str) -> list[str]:
    """The names of instances that are to be deleted."""
    return [f"{role}-{ordinal}" for ordinal in sorted({*known.ordinals(role)} - {*wanted.ordinals(role)})]


def _save(wiring: Wiring, key: DeploymentId, role: str, change: Change, agreed: list[str]) -> DeploymentRecord:
    """Store the deployment as ``change`` makes it now; ``agreed``: the instances known to be deleted by it."""
    from orchestrator.model.record import Event, Wanted

    def at_once() -> DeploymentRecord:
        known = find_deployment(wiring.store.intent(), key.service, key.slot)
        if known.wanted is not Wanted.UP:
            raise UserError(f"{key.title} is being deleted", "`vmrole up FILE` makes it again")
        wanted = change(known)
        if _gone(known, wanted, role) != agreed:
            raise TransientError(f"another vmrole changed the number of {role} meanwhile", "run the same command again")
        if wanted != known:
            cause = f"{_so_many(wanted.count(role))} of {role} asked for"
            event = Event(wiring.clock.now(), str(key), f"revision {wanted.revision} is wanted", cause, "scale")
            wiring.store.save_deployment(wanted, event)
        return wanted

    return over_others(at_once)


def _patience(record: DeploymentRecord, name: str, changed: int) -> float:
    role = record.service.role(name)
    each = role.ready.timeout_s + role.stop.drain_s + role.stop.timeout_s if role is not None else 0.0
    return each * max(1, changed) + MARGIN_S


def _so_many(count: int) -> str:
    return "1 instance" if count == 1 else f"{count} instances"


def _report(rest: Rest, key: DeploymentId, role: str, count: int) -> None:
    from orchestrator.cli.view import own, reasons
    from orchestrator.control.settle import End

    if rest.error is not None:
        raise rest.error
    if rest.end is End.READY:
        click.echo(f"{key.title} has {_so_many(count)} of {role}")
        return
    lines = [f"{key.title} is not at {_so_many(count)} of {role} in good order: {rest.end.value}"]
    lines += reasons(s for s in own(rest.plan, key) if s.reason)
    raise VmroleError("\n".join(lines), f"`vmrole events {key.words}` has the story; run the same command again")
