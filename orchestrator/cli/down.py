"""`vmrole down`: a deployment is to be gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import Time, confirm, find_deployment, settle, slot_option
from orchestrator.errors import HostAway

if TYPE_CHECKING:
    from orchestrator.cli.context import Context


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
    from orchestrator.control.settle import End
    from orchestrator.engine.deploy import withdrawn
    from orchestrator.model.record import Event
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        intent = wiring.store.intent()
        record = find_deployment(intent, service, slot)
        fate = "and their volumes" if volumes else "; volumes are kept"
        count = len(intent.members(record.id))
        confirm(f"Delete {record.id.title}, {count} instances with overlays and local storage{fate}?", yes=yes)
        gone = withdrawn(record, with_volumes=volumes)
        if gone != record:
            event = Event(wiring.clock.now(), str(record.id), "deletion is wanted", actor="down")
            wiring.store.save_deployment(gone, event)
        with display() as shown:
            rest = settle(wiring, record.id, shown, timeout)
        if rest.end is End.GONE:
            sweep_leaving(wiring)
            forget_secrets(wiring)
    if rest.end is not End.GONE:
        said = [s.reason for s in rest.plan.instances if s.record.id.deployment == record.id]
        said += [found.reason for found in rest.plan.deployments if found.id == record.id]
        reasons = "; ".join(dict.fromkeys(filter(None, said)))
        raise rest.error or HostAway(
            f"{record.id.title} is not wholly deleted yet: {reasons or 'its last steps do not succeed'}",
            "run the same command again",
        )
    click.echo(f"{record.id.title} is deleted")
