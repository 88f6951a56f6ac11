"""What the commands that speak of a deployment share: to find it, to wait for it, to ask before it loses something."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click

from orchestrator.config.quantities import seconds
from orchestrator.errors import (
    NotFound,
    StoreConflict,
    UserError,
)
from orchestrator.model.names import DeploymentId, Slot, is_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.cli.progress import Display
    from orchestrator.control.settle import Enough, Rest
    from orchestrator.engine.plan import Plan
    from orchestrator.model.record import DeploymentRecord, Intent
    from orchestrator.wiring import Wiring

T = TypeVar("T")

TRIES = 10  # a loop that runs meanwhile changes the same records
SLOTS = [slot.value for slot in Slot]
SLOT: dict[str, Any] = {
    "type": click.Choice(SLOTS),
    "default": Slot.PRODUCTION.value,
    "show_default": True,
    "help": "Which of the service's two deployments.",
}
# For every command that names a service, or something of one.
slot_option = click.option("--slot", **SLOT)

MARGIN_S = 60.0  # beyond what the roles give themselves: making machines, uploading images


def over_others(store: Callable[[], T]) -> T:
    """What ``store`` returns: it looks, decides and stores, and does all of it again if others have stored meanwhile.

    Raises StoreConflict when they never stop, and whatever else it raises.
    """
    for _try in range(TRIES - 1):
        with contextlib.suppress(StoreConflict):
            return store()
    return store()


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


def check_service_name(name: str, slot: str) -> DeploymentId:
    """The deployment that a command's argument and ``--slot`` name. Raises UserError."""
    if not is_name(name):
        raise UserError(f"{name!r} is not the name of a service", "`vmrole ls` lists them")
    return DeploymentId(name, slot)


def find_deployment(intent: Intent, name: str, slot: str) -> DeploymentRecord:
    """The record of the deployment that a command's argument and ``--slot`` name. Raises UserError, NotFound."""
    key = check_service_name(name, slot)
    record = intent.deployment(key)
    if record is None:
        known = ", ".join(sorted(found.id.title for found in intent.deployments)) or "none"
        where = "" if slot == Slot.PRODUCTION.value else f" --slot {slot}"
        raise NotFound(f"there is no service {key.title}; known: {known}", f"`vmrole up FILE{where}` makes one")
    return record


def settle(
    wiring: Wiring, key: DeploymentId, shown: Display, timeout_s: float, *, is_enough: Enough | None = None
) -> Rest:
    """Run the loop, or watch who runs it, until the deployment is at rest or ``is_enough``."""
    from orchestrator.cli.view import own
    from orchestrator.control.settle import Settler

    def show(plan: Plan) -> None:
        statuses = own(plan, key)
        shown.show(statuses)
        if not statuses:
            why = next((found.reason for found in plan.deployments if found.id == key), "")
            shown.remind(f"the last steps are to be done{f': {why}' if why else ''}")

    settler = Settler(wiring.loop, wiring.lease, wiring.clock, show, shown.say)
    return settler.settle(key, timeout_s, is_enough=is_enough)


def confirm(question: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        click.confirm(question, abort=True, err=True)
    elif not yes:
        raise UserError(f"{question} Not asked: this is no terminal", "say --yes")
