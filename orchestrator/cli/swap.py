"""`vmrole swap`: the two slots of a service exchange their VIPs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import Time, check_service_name, find_deployment, over_others, settle
from orchestrator.errors import BalancerAway, Refused, TransientError
from orchestrator.model.names import Slot

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.control.settle import Rest
    from orchestrator.engine.plan import Plan
    from orchestrator.engine.swap import Pair
    from orchestrator.model.names import DeploymentId
    from orchestrator.wiring import Wiring


@click.command()
@click.argument("service")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@click.option(
    "--timeout", type=Time(), default="1m", show_default=True, metavar="TIME", help="Wait no longer than this."
)
@click.pass_obj
def swap(context: Context, service: str, yes: bool, timeout: float) -> None:
    """Exchange the VIPs of SERVICE's two slots at once: new connections go to the other deployment.

    Connections that are there finish where they are; nothing is started, stopped or moved. The same command again
    takes it back. Refused, with every reason, when the deployment that would be live is not ready or the two do not
    offer the same at their VIPs.

    \b
    Example:
      vmrole up new.yaml --slot staging
      vmrole swap hello
    """
    from orchestrator.cli.progress import display
    from orchestrator.wiring import wired

    check_service_name(service, Slot.PRODUCTION.value)
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        two = _checked(wiring, service)
        if not yes and sys.stdin.isatty():
            click.confirm(_question(two), abort=True, err=True)
        after = _store(wiring, service, two)
        with display() as shown:
            rest = settle(wiring, after.live.id, shown, timeout, is_enough=_is_routed)
        _refuse_unrouted(wiring, after, rest)
    live, other = after.live, after.coming
    click.echo(
        f"{service}: {live.vip} leads to {live.id.slot} (revision {live.revision}) now, {other.vip} to {other.id.slot}"
    )
    click.echo(f"`vmrole swap {service}` takes it back")


def _question(two: Pair) -> str:
    now, then = two.live, two.coming
    return (
        f"{now.vip} leads to {now.id.title}, revision {now.revision}. Have it lead to {then.id.title}, "
        f"revision {then.revision}?"
    )


def _checked(wiring: Wiring, service: str) -> Pair:
    """The two deployments, if they can be swapped. Raises NotFound, Refused with every reason."""
    from orchestrator.engine.swap import pair, unfit

    intent, plan = wiring.loop.look()
    two = pair(intent, service)
    if two is None:
        for slot in Slot:  # says which one is missing, and how to make it
            find_deployment(intent, service, slot.value)
        raise Refused(f"{service} has not two deployments")
    reasons = unfit(two, plan.instances)
    if reasons:
        lines = [f"{service} cannot be swapped", *(f"  {reason}" for reason in reasons)]
        raise Refused("\n".join(lines), f"nothing was changed; `vmrole status {two.coming.id.words}` shows more")
    return two


def _store(wiring: Wiring, service: str, checked: Pair) -> Pair:
    """Exchange the VIPs of the deployments as they are now, over whatever a loop has stored since they were checked."""
    from orchestrator.engine.swap import events, pair, swapped

    def at_once() -> Pair:
        two = pair(wiring.store.intent(), service)
        if two is None or (two.live.vip, two.coming.vip) != (checked.live.vip, checked.coming.vip):
            raise TransientError(f"{service} was changed by someone else meanwhile", "look again, then decide again")
        after = swapped(two)
        wiring.store.save_deployments([after.live, after.coming], events(after, wiring.clock.now()))
        return after

    return over_others(at_once)


def _is_routed(plan: Plan, _key: DeploymentId) -> bool:
    """Whether nothing is left to do about where the ports lead; the rest of a deployment is not waited for."""
    from orchestrator.model.action import ConfigureBalancer, Route

    return not any(isinstance(step.action, Route | ConfigureBalancer) for step in plan.steps)


def _refuse_unrouted(wiring: Wiring, after: Pair, rest: Rest) -> None:
    """Whether HAProxy does what was stored: it may not answer now. Raises what it refused, BalancerAway."""
    from orchestrator.engine.rotation import frontends
    from orchestrator.errors import VmroleError

    if rest.error is not None:
        raise rest.error
    try:
        seen = wiring.balancer.observe()
        problem = seen.problem or ("" if seen.running or not frontends([after.live]) else "HAProxy does not run")
    except VmroleError as error:
        problem = error.message
    if problem or not _is_routed(rest.plan, after.live.id):
        raise BalancerAway(
            f"the exchange is stored, but not done yet: {problem or 'HAProxy has not taken it in time'}",
            f"the next loop does it; `vmrole status {after.live.id.words}` shows the VIPs",
        )
