"""`vmrole controller`: the loop as a process of its own, in the foreground, for systemd or a shell."""

from __future__ import annotations

import logging
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.cli.context import Context
    from orchestrator.control.controller import Controller
    from orchestrator.engine.plan import Plan
    from orchestrator.model.record import Event
    from orchestrator.ports import Store
    from orchestrator.wiring import Wiring

log = logging.getLogger(__name__)


@click.command()
@click.option("--unit", is_flag=True, help="Print a unit file for systemd that runs it, and end.")
@click.pass_obj
def controller(context: Context, unit: bool) -> None:
    """Keep every deployment of this home true, until told to end (Ctrl-C, SIGTERM). Runs in the foreground.

    What happens is logged to stderr. While it runs the other commands say what they want, and watch. When it ends,
    instances and HAProxy run on; it goes on from what is there when it is started again.

    \b
    Example:
      vmrole controller
      vmrole --log json controller 2>>/var/log/vmrole.jsonl
      vmrole controller --unit >/etc/systemd/system/vmrole.service
    """
    from orchestrator.wiring import wired

    if unit:
        click.echo(unit_text(_program(), context.home), nl=False)
        return
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: ended.append(number))
    logging.getLogger().setLevel(min(logging.INFO, logging.getLogger().level))
    with wired(context.home, context.connect, context.cache_dir, log.info) as wiring:
        _made(wiring, ended).run()
    log.info("the controller ends; instances and HAProxy run on")


def _program() -> Path:
    """What runs vmrole here: not what `python -m` gives as its name, which no unit can start."""
    begun = Path(sys.argv[0]).absolute()
    installed = Path(sys.executable).with_name("vmrole")
    return installed if begun.name == "__main__.py" else begun


def unit_text(program: Path, home: Path) -> str:
    """The unit file that runs ``program``'s controller of ``home``. Raises UserError for a path it cannot carry."""
    from importlib.resources import files

    text = files("orchestrator.cli").joinpath("vmrole.service").read_text()
    for mark, path in (("@VMROLE@", program), ("@HOME@", home)):
        if not re.fullmatch(r"[A-Za-z0-9/._+@:,=-]+", str(path)):
            raise UserError(f"{path} cannot stand in a unit file: it has spaces or signs with a meaning there")
        text = text.replace(mark, str(path))
    return text


def _made(wiring: Wiring, ended: list[int]) -> Controller:
    from orchestrator.control.controller import Controller
    from orchestrator.drivers.notify import ServiceManager

    told = _Told(wiring.store)

    def after(plan: Plan) -> None:
        told.tell()
        _sweep_images(wiring, plan)

    return Controller(
        loop=wiring.loop,
        lease=wiring.lease,
        store=wiring.store,
        clock=wiring.clock,
        teller=ServiceManager(),
        is_over=lambda: bool(ended),
        begin=lambda: log.info("the controller of %s begins, %d hosts", wiring.home, len(wiring.hosts)),
        after=after,
    )


class _Told:
    """Logs every event once, from when it was made."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last = max((number for number, _event in store.events("")), default=0)

    def tell(self) -> None:
        for number, event in self._store.events("", self._last):
            self._last = number
            log.info("%s", _sentence(event), extra={"event": _fields(event)})


def _sentence(event: Event) -> str:
    why = f": {event.cause}" if event.cause else ""
    return f"{event.subject}: {event.what}{why} [{event.actor}]"


def _fields(event: Event) -> dict[str, object]:
    return {"subject": event.subject, "what": event.what, "cause": event.cause, "actor": event.actor}


def _sweep_images(wiring: Wiring, plan: Plan) -> None:
    """Remove images that were to go with their last user, once one has gone."""
    from orchestrator.cli.image_care import sweep_held
    from orchestrator.errors import VmroleError
    from orchestrator.model.action import ForgetDeployment, ForgetInstance

    if not any(isinstance(step.action, ForgetDeployment | ForgetInstance) for step in plan.steps):
        return
    try:
        sweep_held(wiring)
    except VmroleError as error:
        log.warning("images that are to go stay for now: %s", error.message)
