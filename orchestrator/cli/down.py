"""`vmrole down`: a deployment is to be gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import Time, confirm, find_deployment, over_others, settle, slot_option
from orchestrator.errors import HostAway

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.model.names import DeploymentId
    from orchestrator.wiring import Wiring


@click.command()
@click.argument("service")
@slot_option
@click.option("--volumes", is_flag=True, help="Delete its volumes and their snapshots, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--timeout", type=Time(), default="5m", show_default=True, metavar="TIME", help="Wait no longer than this."
)
@click.pass_obj
def down(context: Context, service: str, slot: str, volumes: bool, yes: bool, timeout: float) -> None:
    """Delete a deployment: its machines with overlays and local storage, its network, its VIP.

    Volumes stay, and the instances of the same service and slot get them again, unless --volumes is said.
    Connections may finish and guests shut down first. Asks first on a terminal. Works on a deployment in any state,
    also failed.

    \b
    Example:
      vmrole down hello --yes
    """
    from orchestrator.cli.image_care import sweep_leaving
    from orchestrator.cli.progress import display
    from orchestrator.cli.secrecy import forget_secrets
    from orchestrator.cli.view import own
    from orchestrator.control.settle import End
    from orchestrator.engine.swap import is_taken_with
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        intent = wiring.store.intent()
        record = find_deployment(intent, service, slot)
        fate = "and their volumes" if volumes else "; volumes are kept"
        count = len(intent.members(record.id))
        if is_taken_with(intent, record):
            click.echo(f"{record.id.title} is what the service is reached at ({record.vip}) since the swap", err=True)
        confirm(f"Delete {record.id.title}, {count} instances with overlays and local storage{fate}?", yes=yes)
        _store(wiring, record.id, with_volumes=volumes)
        with display() as shown:
            rest = settle(wiring, record.id, shown, timeout)
        if rest.end is End.GONE:
            sweep_leaving(wiring)
            forget_secrets(wiring)
    if rest.end is not End.GONE:
        said = [s.reason for s in own(rest.plan, record.id)]
        said += [found.reason for found in rest.plan.deployments if found.id == record.id]
        reasons = "; ".join(dict.fromkeys(filter(None, said)))
        raise rest.error or HostAway(
            f"{record.id.title} is not wholly deleted yet: {reasons or 'its last steps do not succeed'}",
            "run the same command again",
        )
    click.echo(f"{record.id.title} is deleted")


def _store(wiring: Wiring, key: DeploymentId, *, with_volumes: bool) -> None:
    """Store that a deployment is to be gone, over whatever a loop has stored since we looked."""
    from orchestrator.engine.deploy import withdrawn
    from orchestrator.engine.swap import withdrawn_with
    from orchestrator.model.record import Event

    event = Event(
        wiring.clock.now(),
        str(key),
        "deletion is wanted",
        f"volumes {'go with it' if with_volumes else 'stay'}",
        "down",
    )

    def at_once() -> None:
        intent = wiring.store.intent()
        record = intent.deployment(key)
        gone = withdrawn(record, with_volumes=with_volumes) if record is not None else None
        if gone is not None and gone != record:
            wiring.store.save_deployments(withdrawn_with(intent, gone), [event])

    over_others(at_once)
