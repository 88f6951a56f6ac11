"""What the commands on an upgrade change in the intent. Pure; the loop does the rest.

Each takes the deployment's record and gives the one to be stored. Raises UserError when there is nothing for it to do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.members import ANOTHER_TRY, again, successor
from orchestrator.engine.rollout import PROMOTE, current, is_old, is_same
from orchestrator.engine.scaling import carried_over
from orchestrator.errors import UserError
from orchestrator.model.record import Act, DeploymentRecord, Wanted
from orchestrator.model.rollout import Rollout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.rollout import Good
    from orchestrator.model.spec import Disk, Role, Service


def asked(record: DeploymentRecord, *, canary: int = 0, is_back: bool = False) -> DeploymentRecord:
    """The record with an upgrade to its revision that is to begin; extra instances of one before it stay for that."""
    before = record.rollout
    roles, last = (before.roles, before.domain) if before is not None else ({}, None)
    return replace(record, rollout=Rollout(record.revision, roles=roles, domain=last, canary=canary, is_back=is_back))


def tried_again(record: DeploymentRecord) -> DeploymentRecord:
    """The record whose upgrade goes on, if it has stopped: what `up` with the same file is."""
    found = current(record)
    return record if found is None or found.stopped is None else _with(record, replace(found, stopped=None))


def paused(record: DeploymentRecord, now: float) -> DeploymentRecord:
    found = _found(record)
    return record if found.paused is not None else _with(record, replace(found, paused=now))


def resumed(record: DeploymentRecord) -> DeploymentRecord:
    found, words = _found(record), record.id.words
    if found.waits == PROMOTE and found.paused is None and found.stopped is None:
        hint = f"`vmrole upgrade promote {words}` lets it through, `vmrole upgrade rollback {words}` takes it back"
        raise UserError(f"the upgrade of {record.id.title} waits for a word about its canary", hint)
    waits = found.waits if found.waits == PROMOTE else ""
    return _with(record, replace(found, paused=None, stopped=None, waits=waits))


def promoted(record: DeploymentRecord) -> DeploymentRecord:
    found, words = _found(record), record.id.words
    if not found.canary:
        raise UserError(f"the upgrade of {record.id.title} has no canary", "`vmrole up FILE --canary 1` begins one")
    if found.stopped is not None:
        said = f"the canary {found.stopped.instance} did not get healthy: {found.stopped.reason}"
        raise UserError(said, f"`vmrole upgrade rollback {words}` takes it back")
    if found.waits != PROMOTE:
        raise UserError("the canary has not been healthy for long enough yet", f"`vmrole upgrade status {words}`")
    return asked(record)


def target_of_rollback(record: DeploymentRecord) -> Good:
    """The revision that a rollback goes back to. Raises UserError."""
    if record.wanted is not Wanted.UP:
        raise UserError(f"{record.id.title} is being deleted")
    found = record.rollout
    if found is not None and found.is_back and found.revision == record.revision:
        raise UserError(
            f"{record.id.title} is being rolled back already", f"`vmrole upgrade status {record.id.words}` shows it"
        )
    good = next((good for good in record.good if not is_same(good, record)), None)
    if good is None:
        hint = "mend the file and run `vmrole up` again"
        raise UserError(f"no other revision of {record.id.title} has been healthy all through", hint)
    return good


def rolled_back(record: DeploymentRecord) -> DeploymentRecord:
    """The record that asks for what the last good revision did; disks that have grown since stay as large."""
    good = target_of_rollback(record)
    wanted = replace(
        record,
        service=_as_large(good.service, record.service),
        digests=dict(good.digests),
        platforms=dict(good.platforms),
        revision=record.revision + 1,
        asked=0,
    )
    before = {role.name: role.instances for role in record.service.roles}
    if before != {role.name: role.instances for role in good.service.roles}:
        wanted = carried_over(record, wanted)
    return asked(wanted, is_back=True)


def _as_large(good: Service, now: Service) -> Service:
    roles = {role.name: role for role in now.roles}
    return replace(good, roles=tuple(_role_as_large(role, roles.get(role.name)) for role in good.roles))


def _role_as_large(good: Role, now: Role | None) -> Role:
    sizes = {(disk.kind, disk.name): disk.size_mib for disk in now.disks} if now is not None else {}

    def grown(disk: Disk) -> Disk:
        return replace(disk, size_mib=max(disk.size_mib, sizes.get((disk.kind, disk.name), 0)))

    return replace(good, disks=tuple(grown(disk) for disk in good.disks))


def given_another_chance(
    record: DeploymentRecord, instances: Iterable[InstanceRecord], now: float
) -> tuple[InstanceRecord, ...]:
    """The upgraded instances that did not get healthy, each with another try: what `upgrade resume` is to them.

    One whose setup has failed gets a new machine: setup runs once for a machine.
    """
    found = []
    for known in instances:
        role = record.service.role(known.id.role)
        if role is None or known.wanted is not Wanted.UP or known.timeline.rotation is not None:
            continue
        is_over = known.failure is not None and known.failure.is_final and known.next is None
        if is_over and not is_old(record, role, known):
            anew = successor(replace(known, care=None), Act.REIMAGE, record.machine(role), ANOTHER_TRY)
            found.append(anew)
        else:
            found.append(replace(again(known, timeout_s=role.ready.timeout_s, now=now), care=None))
    return tuple(found)


def _found(record: DeploymentRecord) -> Rollout:
    found = record.rollout
    if found is None or found.revision != record.revision or record.wanted is not Wanted.UP:
        raise UserError(f"no upgrade of {record.id.title} is under way", "`vmrole up FILE` begins one")
    return found


def _with(record: DeploymentRecord, rollout: Rollout) -> DeploymentRecord:
    return replace(record, rollout=rollout)
