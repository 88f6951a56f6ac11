"""`vmrole autoscale`: the figures of a service's roles now, and what would follow from them. Changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import Time, find_deployment, slot_option
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.engine.autoscale import Verdict
    from orchestrator.model.names import DeploymentId
    from orchestrator.wiring import Wiring

LOOK_S = 1.0


@click.command()
@click.argument("service")
@slot_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--for",
    "look_s",
    type=Time(),
    default="8s",
    show_default=True,
    metavar="TIME",
    help="How long to look (1m at most).",
)
@click.pass_obj
def autoscale(context: Context, service: str, *, slot: str, as_json: bool, look_s: float) -> None:
    """Look at SERVICE for a while, and say how many instances autoscale would want. Changes nothing.

    What it has done is in `vmrole events`. A controller has looked for longer: it may see what this does not.

    \b
    Example:
      vmrole autoscale hello
    """
    from orchestrator.cli.view import print_json
    from orchestrator.wiring import wired

    if look_s > 60:
        raise UserError("--for is 1m at most", "a controller looks all the time, and tells what it does in the events")
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        record = find_deployment(wiring.store.intent(), service, slot)
        if all(role.autoscale is None for role in record.service.roles):
            raise UserError(f"no role of {record.id.title} has autoscale", "the README's guide shows how it is said")
        found = _looked(wiring, record.id, look_s)
    if as_json:
        print_json([_json(verdict) for verdict in found])
    else:
        click.echo(_text(found))


def _looked(wiring: Wiring, key: DeploymentId, look_s: float) -> list[Verdict]:
    """What would be decided after looking again and again for some seconds."""
    from orchestrator.engine.autoscale import verdicts
    from orchestrator.engine.plan import plan

    end = wiring.clock.now() + look_s
    world = wiring.loop.see()
    while wiring.clock.now() < end:
        wiring.clock.wait(LOOK_S)
        world = wiring.loop.see()
    intent, now = wiring.store.intent(), wiring.clock.now()
    find_deployment(intent, key.service, key.slot)
    found = verdicts(intent, plan(intent, world, now).instances, world, now, is_trial=True)
    return [verdict for verdict in found if verdict.record.id == key]


def _json(verdict: Verdict) -> dict[str, object]:
    from orchestrator.cli.view import autoscale_json

    return {
        "role": verdict.role,
        "instances": verdict.count,
        "would_be": verdict.wanted,
        "figure": verdict.figure,
        "reason": verdict.reason,
        **autoscale_json(verdict.wish),
    }


def _text(found: list[Verdict]) -> str:
    from orchestrator.cli.view import table

    rows = [
        (
            verdict.role,
            str(verdict.count),
            str(verdict.wanted),
            f"{verdict.wish.least}-{verdict.wish.most}",
            f"{verdict.wish.figure.value} {verdict.wish.target:g}",
            "-" if verdict.figure is None else f"{verdict.figure:.1f}",
            verdict.reason,
        )
        for verdict in found
    ]
    return table(("ROLE", "INSTANCES", "WOULD BE", "BETWEEN", "TARGET", "NOW", "WHY"), rows)
