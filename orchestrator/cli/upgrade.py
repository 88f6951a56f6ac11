"""`vmrole upgrade`: how far a change has got that needs other machines, and what is to become of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import (
    MARGIN_S,
    Time,
    check_service_name,
    find_deployment,
    over_others,
    settle,
    slot_option,
)
from orchestrator.errors import UserError, VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.context import Context
    from orchestrator.control.settle import Rest
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import DeploymentRecord, InstanceRecord
    from orchestrator.wiring import Wiring

    Change = Callable[[DeploymentRecord, float], DeploymentRecord]

WATCH_S = 1.0
no_wait_option = click.option("--no-wait", is_flag=True, help="Store it, and do not wait; the next loop does it.")
timeout_option = click.option("--timeout", type=Time(), metavar="TIME", help="Wait no longer than this (90s, 10m).")


@click.group()
def upgrade() -> None:
    """A change that needs other machines, on its way through a service's upgrade domains.

    \b
    Example:
      vmrole up hello.yaml --canary 1
      vmrole upgrade status hello
      vmrole upgrade promote hello
    """


@upgrade.command()
@click.argument("service")
@slot_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Show it again every second, until it is over or waits for you.")
@click.pass_obj
def status(context: Context, service: str, slot: str, as_json: bool, watch: bool) -> None:
    """Show how far the upgrade is: each instance's domain, whether it has the new machine, and what it waits for.

    \b
    Example:
      vmrole upgrade status hello --watch
    """
    from orchestrator.wiring import wired

    check_service_name(service, slot)
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        while _show(wiring, service, slot, as_json=as_json) and watch:
            wiring.clock.wait(WATCH_S)
            if not as_json:
                click.clear()


def _show(wiring: Wiring, service: str, slot: str, *, as_json: bool) -> bool:
    """Print it; whether it goes on by itself."""
    from orchestrator.cli.upgradeview import upgrade_json, upgrade_text
    from orchestrator.cli.view import print_json
    from orchestrator.engine.rollout import is_going

    find_deployment(wiring.store.intent(), service, slot)
    intent, plan = wiring.loop.look()
    record = find_deployment(intent, service, slot)
    if as_json:
        print_json(upgrade_json(plan, record))
    else:
        click.echo(upgrade_text(plan, record, wiring.clock.now()))
    return is_going(record)


@upgrade.command()
@click.argument("service")
@slot_option
@click.pass_obj
def pause(context: Context, service: str, slot: str) -> None:
    """Halt the upgrade: what has begun comes to its end, and nothing else is replaced until `upgrade resume`.

    \b
    Example:
      vmrole upgrade pause hello
    """
    from orchestrator.engine.upgradeverbs import paused
    from orchestrator.wiring import wired

    key = check_service_name(service, slot)
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        _change(wiring, key, "upgrade: pause", paused)
    click.echo(f"the upgrade of {key.title} is paused; `vmrole upgrade resume {key.words}` goes on with it")


@upgrade.command()
@click.argument("service")
@slot_option
@no_wait_option
@timeout_option
@click.pass_obj
def resume(context: Context, service: str, slot: str, no_wait: bool, timeout: float | None) -> None:
    """Go on with an upgrade: one that is paused, that waits between two domains, or that has stopped.

    An instance that did not get healthy gets another try; one whose setup has failed, a new machine.

    \b
    Example:
      vmrole upgrade resume hello
    """
    from orchestrator.engine.upgradeverbs import resumed

    _carry_on(context, (service, slot), "upgrade: resume", lambda r, _now: resumed(r), no_wait=no_wait, timeout=timeout)


@upgrade.command()
@click.argument("service")
@slot_option
@no_wait_option
@timeout_option
@click.pass_obj
def promote(context: Context, service: str, slot: str, no_wait: bool, timeout: float | None) -> None:
    """Let an upgrade through whose canary is healthy: all the other instances follow, domain by domain.

    \b
    Example:
      vmrole upgrade promote hello
    """
    from orchestrator.engine.upgradeverbs import promoted

    what = "upgrade: the canary is promoted"
    _carry_on(context, (service, slot), what, lambda r, _now: promoted(r), no_wait=no_wait, timeout=timeout)


@upgrade.command()
@click.argument("service")
@slot_option
@no_wait_option
@timeout_option
@click.pass_obj
def rollback(context: Context, service: str, slot: str, no_wait: bool, timeout: float | None) -> None:
    """Go back to the last revision that was healthy all through, also when the upgrade is over.

    An instance whose overlay from before is still kept gets it back as it was left; another one is made anew. What
    was never upgraded is not touched.

    \b
    Example:
      vmrole upgrade rollback hello
    """
    from orchestrator.engine.upgradeverbs import rolled_back

    what = "upgrade: rollback"
    _carry_on(context, (service, slot), what, lambda r, _now: rolled_back(r), no_wait=no_wait, timeout=timeout)


def _carry_on(
    context: Context, named: tuple[str, str], what: str, change: Change, *, no_wait: bool, timeout: float | None
) -> None:
    """Store what is wanted of the upgrade, then wait until it is over, or waits for another word."""
    from orchestrator.cli.progress import display
    from orchestrator.cli.secrecy import forget_secrets
    from orchestrator.wiring import wired

    key = check_service_name(*named)
    with display() as shown, wired(context.home, context.connect, context.cache_dir, shown.say) as wiring:
        record = _change(wiring, key, what, change)
        if no_wait:
            click.echo("stored; the next loop does it (`vmrole up`, or any command that waits)")
            return
        rest = settle(wiring, key, shown, timeout if timeout is not None else patience(record))
        forget_secrets(wiring)
    report(rest, record)


def _change(wiring: Wiring, key: DeploymentId, what: str, change: Change) -> DeploymentRecord:
    """Store the deployment as ``change`` makes it, over whatever a loop has stored since we looked."""
    from orchestrator.engine.upgradeverbs import given_another_chance
    from orchestrator.model.record import Event

    def at_once() -> DeploymentRecord:
        intent, now = wiring.store.intent(), wiring.clock.now()
        known = find_deployment(intent, key.service, key.slot)
        record = change(known, now)
        if record.revision != known.revision:
            _refuse_missing(wiring, record)
        if known.rollout is not None and known.rollout.stopped is not None and record.revision == known.revision:
            _save_all(wiring, given_another_chance(record, intent.members(key), now))
        if record != known:
            wiring.store.save_deployment(record, Event(now, str(key), what, "asked for by command", "user"))
        return record

    return over_others(at_once)


def _save_all(wiring: Wiring, instances: tuple[InstanceRecord, ...]) -> None:
    for instance in instances:
        wiring.store.save_instance(instance)


def _refuse_missing(wiring: Wiring, record: DeploymentRecord) -> None:
    """Refuse a way back whose images are in the repository no more."""
    from orchestrator.engine.imagery import lacking

    gone = lacking(record, wiring.images.images())
    if gone:
        hint = "add that again, then the same command"
        raise UserError(f"the image repository no longer has {', '.join(gone)}", hint)


def patience(record: DeploymentRecord) -> float:
    """Time for one instance after the other, and for one role after the others that it waits for."""
    from orchestrator.engine.startorder import longest

    each = {
        role.name: max(1, record.count(role.name))
        * (role.ready.timeout_s + role.upgrade.min_ready_s + role.stop.drain_s + role.stop.timeout_s)
        for role in record.service.roles
    }
    return longest(each, {role.name: role.after for role in record.service.roles}) + MARGIN_S


def report(rest: Rest, record: DeploymentRecord) -> None:
    """Say how the upgrade ended, or what it waits for. Raises VmroleError when it did not come to a good end."""
    from orchestrator.cli.view import own, reasons
    from orchestrator.control.settle import End

    if rest.error is not None:
        raise rest.error
    words, title = record.id.words, record.id.title
    statuses = own(rest.plan, record.id)
    told = next((found for found in rest.plan.deployments if found.id == record.id), None)
    reason = told.reason if told is not None else ""
    if rest.end is End.READY:
        count = sum(s.in_rotation for s in statuses)
        ways = {
            "waiting": f"`vmrole upgrade {'promote' if 'promote' in reason else 'resume'} {words}` goes on, "
            f"`vmrole upgrade rollback {words}` goes back",
            "paused": f"`vmrole {'upgrade ' if reason else ''}resume {words}` goes on",
        }
        state = told.state if told is not None else ""
        done = f"{title} is ready; {count} of {len(statuses)} instances in rotation"
        click.echo(f"{title}: {reason or 'paused'}; {ways[state]}" if state in ways else done)
        return
    lines = [f"{title}: {reason or rest.end.value}" if rest.end is End.FAILED else f"{title} is not ready in time"]
    lines += reasons(s for s in statuses if s.reason)
    raise VmroleError("\n".join(lines), advice(record))


def advice(record: DeploymentRecord) -> str:
    """What somebody can do about an upgrade that has stopped."""
    words = record.id.words
    return (
        f"`vmrole upgrade rollback {words}` goes back to the last good revision; or mend the cause and run `vmrole up` "
        f"again, or `vmrole upgrade resume {words}`; `vmrole events {words}` has the story"
    )
