"""`vmrole reboot`, `reimage`, `undo-reimage`, `stop`, `start` and `relocate`: what is wanted of single instances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.deployments import MARGIN_S, SLOT, Time, confirm, over_others, settle
from orchestrator.errors import HostAway, UserError, VmroleError
from orchestrator.model.record import Act

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.cli.context import Context
    from orchestrator.cli.forecast import Forecast
    from orchestrator.cli.progress import Display
    from orchestrator.engine.plan import Plan
    from orchestrator.engine.status import InstanceStatus
    from orchestrator.model.names import DeploymentId, InstanceId
    from orchestrator.model.record import InstanceRecord, Intent
    from orchestrator.model.spec import Role
    from orchestrator.wiring import Wiring

DONE = {
    Act.REBOOT: "has rebooted, and is ready",
    Act.REIMAGE: "is made anew from its image, and ready",
    Act.UNDO: "has its old overlay back, and is ready",
    Act.RELOCATE: "is made anew in its new place, and ready",
    Act.STOP: "is stopped",
    Act.START: "is started, and ready",
}

# How else an instance may come to rest, all being as it should.
REST = {"stopped": "is stopped, and stays so", "busy": "is back, and busy by its own word"}


@dataclass(frozen=True, slots=True)
class Ask:
    """What was said: which instances, how long to wait, and for a relocation where to and whether it is meant."""

    act: Act
    instances: tuple[str, ...]
    slot: str
    everything: bool
    no_wait: bool
    timeout: float | None
    same_host: bool = False
    yes: bool = True


COMMON = (
    click.Argument(["instances"], nargs=-1, metavar="INSTANCE..."),
    click.Option(["--slot"], **SLOT),
    click.Option(["--all", "everything"], is_flag=True, help="All instances of the named services, or of all."),
    click.Option(["--no-wait"], is_flag=True, help="Store what is wanted, and do not wait; the next loop does it."),
    click.Option(["--timeout"], type=Time(), metavar="TIME", help="Wait no longer than this (90s, 10m)."),
)


def _verb(act: Act, text: str, *options: click.Parameter) -> click.Command:
    """A command on instances; ``text`` is its help."""

    @click.pass_obj
    def call(context: Context, /, **said: Any) -> None:  # noqa: ANN401 - click's own values
        _perform(context, Ask(act, **said))

    return click.Command(act.value, callback=call, params=[*COMMON, *options], help=text)


reboot = _verb(
    Act.REBOOT,
    """Reboot instances, one after the other: out of rotation, shut down, started, and back when they are ready.

    Every disk is kept. A guest that ignores the request for its role's `stop.timeout` is switched off.

    \b
    Example:
      vmrole reboot hello/web-0
      vmrole reboot hello --all
    """,
)
reimage = _verb(
    Act.REIMAGE,
    """Give instances a new overlay from their image, and set them up anew; local storage and volumes are kept.

    Name, MAC and DIP stay. The old overlay is kept for a while: `vmrole undo-reimage` brings it back.

    \b
    Example:
      vmrole reimage hello/web-0
      vmrole reimage hello/web            all instances of the role
    """,
)
undo_reimage = _verb(
    Act.UNDO,
    """Go back to the overlay from before the last reimage or upgrade, as it was left.

    \b
    Example:
      vmrole undo-reimage hello/web-0
    """,
)
stop = _verb(
    Act.STOP,
    """Switch instances off, and leave them so: each holds its place and every disk, and is not repaired.

    \b
    Example:
      vmrole stop hello/web-1
    """,
)
start = _verb(
    Act.START,
    """Start instances that were stopped.

    \b
    Example:
      vmrole start hello/web-1
    """,
)
relocate = _verb(
    Act.RELOCATE,
    """Make instances anew on another host: from the image, with their volumes, without their local storage.

    Local storage is lost, so this asks first on a terminal and needs --yes elsewhere. The DIP may change.

    \b
    Example:
      vmrole relocate hello/web-0 --yes
    """,
    click.Option(["--same-host"], is_flag=True, help="A new place on the host where it is."),
    click.Option(["--yes"], is_flag=True, help="Do not ask."),
)


def _perform(context: Context, ask: Ask) -> None:
    from orchestrator.cli.forecast import fate_table
    from orchestrator.cli.progress import display
    from orchestrator.wiring import wired

    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        intent = wiring.store.intent()
        asked = _asked(wiring, intent, ask)
        click.echo(fate_table([_forecast(ask.act, intent, old, new) for old, new in asked]))
        if ask.act is Act.RELOCATE:
            confirm("Local storage of these instances is lost. Relocate them?", yes=ask.yes)
        for old, _new in asked:
            _store(wiring, ask, old)
        keys = [old.id for old, _new in asked]
        if ask.no_wait:
            click.echo("stored; the next loop does it (`vmrole up`, or any command that waits)")
            return
        wait_s = ask.timeout if ask.timeout is not None else _patience(intent, keys)
        with display() as shown:
            ended = _wait(wiring, keys, ask.act, shown, wait_s)
    _report(ask.act, keys, ended, {old.id: new.next.generation for old, new in asked if new.next is not None})


def _asked(wiring: Wiring, intent: Intent, ask: Ask) -> list[tuple[InstanceRecord, InstanceRecord]]:
    """Each instance that is meant, as it is and as it is wanted; every one is checked before any is stored."""
    from orchestrator.engine.verbs import chosen

    found = chosen(intent, ask.instances, slot=ask.slot, everything=ask.everything)
    if ask.act is Act.RELOCATE:
        for host in wiring.loop.see().hosts.values():
            if host.problem:
                raise HostAway(host.problem, "a relocation needs every host to answer")
    asked, refused = [], []
    for record in found:
        try:
            asked.append((record, _wish(wiring, intent, ask, record)))
        except UserError as error:
            refused.append((record, error))
    named = [told for record, told in refused if _is_named(record, ask)]
    if named or not asked:
        every = named or [told for _record, told in refused]
        raise UserError("; ".join(told.message for told in every), every[0].hint)
    for _record, told in refused:
        click.echo(f"left out: {told.message}", err=True)
    return asked


def _is_named(record: InstanceRecord, ask: Ask) -> bool:
    """Whether the user said this very instance, and not a role or all of them."""
    return f"{record.id.deployment.service}/{record.id.name}" in ask.instances


def _wish(wiring: Wiring, intent: Intent, ask: Ask, record: InstanceRecord) -> InstanceRecord:
    from orchestrator.engine import verbs
    from orchestrator.model.record import Wanted

    key = record.id.deployment
    deployment, role = intent.deployment(key), _role(intent, record)
    if deployment is None or role is None or Wanted.UP is not deployment.wanted or record.wanted is Wanted.GONE:
        raise UserError(f"{record.id.words} is being deleted", f"`vmrole status {key.words}` shows it")
    machine, now = deployment.machine(role), wiring.clock.now()
    if ask.act is Act.REBOOT:
        return verbs.reboot(record, now)
    if ask.act is Act.REIMAGE:
        return verbs.reimage(record, machine)
    if ask.act is Act.UNDO:
        return verbs.undo(record)
    if ask.act is Act.STOP:
        return verbs.stop(record)
    if ask.act is Act.START:
        return verbs.start(record, timeout_s=role.ready.timeout_s, now=now)
    hosts = tuple(wiring.loop.see().hosts.values())
    place = verbs.new_place(deployment, intent.members(key), record, same_host=ask.same_host, hosts=hosts)
    return verbs.relocate(record, machine, *place)


def _role(intent: Intent, record: InstanceRecord) -> Role | None:
    deployment = intent.deployment(record.id.deployment)
    return deployment.service.role(record.id.role) if deployment is not None else None


def _forecast(act: Act, intent: Intent, old: InstanceRecord, new: InstanceRecord) -> Forecast:
    from orchestrator.cli.forecast import Forecast
    from orchestrator.engine.fate import fates

    role = _role(intent, old)
    machine = new.next.machine if new.next is not None else old.machine
    where = f"to host {new.next.host}, {new.next.dip}" if new.next is not None and act is Act.RELOCATE else ""
    return Forecast(old.id.name, act.value, fates(act, old, machine, role), where)


def _store(wiring: Wiring, ask: Ask, old: InstanceRecord) -> None:
    """Store what is wanted of an instance, over whatever a loop has stored since we looked."""
    from orchestrator.model.record import Event

    def at_once() -> None:
        intent = wiring.store.intent()
        record = next((known for known in intent.instances if known.id == old.id), None)
        if record is None:
            raise UserError(f"{old.id.name} has been deleted meanwhile")
        wish = _wish(wiring, intent, ask, record)
        event = Event(
            wiring.clock.now(), str(record.id), f"{ask.act.value} is wanted", "asked for by command", ask.act.value
        )
        if wish != record:
            wiring.store.save_instance(wish, event)

    over_others(at_once)


def _patience(intent: Intent, keys: Sequence[InstanceId]) -> float:
    """Time for one after the other."""
    roles = [_role(intent, record) for record in intent.instances if record.id in keys]
    stops = sum(role.stop.drain_s + role.stop.timeout_s + role.ready.timeout_s for role in roles if role is not None)
    return stops + MARGIN_S


def _wait(wiring: Wiring, keys: Sequence[InstanceId], act: Act, shown: Display, wait_s: float) -> list[InstanceStatus]:
    """Run the loop until every instance has come through; how each is then."""
    from orchestrator.engine.plan import has_disc_left

    ended: list[InstanceStatus] = []
    deadline = wiring.clock.now() + wait_s
    for deployment in sorted({key.deployment for key in keys}):
        mine = {key for key in keys if key.deployment == deployment}

        def is_enough(plan: Plan, _key: DeploymentId, mine: set[InstanceId] = mine) -> bool:
            statuses = [status for status in plan.instances if status.record.id in mine]
            is_over = bool(statuses) and all(_is_over(status, act) for status in statuses)
            return is_over and not any(has_disc_left(plan, key) for key in mine)

        rest = settle(wiring, deployment, shown, deadline - wiring.clock.now(), is_enough=is_enough)
        if rest.error is not None:
            raise rest.error
        ended += [status for status in rest.plan.instances if status.record.id in mine]
    return ended


def _is_over(status: InstanceStatus, act: Act) -> bool:
    from orchestrator.engine.case import is_under_way
    from orchestrator.engine.status import State

    if is_under_way(status.record):
        return False
    return (
        status.state in {State.STOPPED, State.FAILED}
        if act is Act.STOP
        else status.is_left or status.state in {State.READY, State.BUSY, State.FAILED, State.STOPPED}
    )


def _report(
    act: Act, keys: Sequence[InstanceId], ended: Sequence[InstanceStatus], wanted: Mapping[InstanceId, int]
) -> None:
    """Say how each instance is now. ``wanted``: the generation that it was to get. Raises VmroleError."""
    from orchestrator.cli.view import consoles, reasons
    from orchestrator.engine.status import State

    gone = sorted(key.name for key in keys if key not in {status.record.id for status in ended})
    if gone:
        raise VmroleError(f"{', '.join(gone)} has been deleted meanwhile", "nothing is left of it to be done to")
    good = {State.STOPPED} if act is Act.STOP else {State.READY, State.BUSY, State.STOPPED}
    bad = [status for status in ended if status.state not in good or not _is_over(status, act)]
    if act is Act.UNDO:
        bad += [status for status in ended if status.record.generation != wanted.get(status.record.id)]
    for status in ended:
        if status not in bad:
            said = DONE[act] if act is Act.STOP or status.state is State.READY else REST[status.state.value]
            click.echo(f"{status.record.id.name} {said} (generation {status.record.generation})")
    if not bad:
        return
    key = bad[0].record.id.deployment
    lines = [f"{act.value} did not come to a good end"]
    lines += reasons(bad)
    lines += [consoles(bad)] if consoles(bad) else []
    raise VmroleError("\n".join(lines), f"`vmrole events {key.words}` has the story; the next loop goes on with it")
