"""How an upgrade goes through a deployment: whose turn it is, what each instance is made of, what comes next. Pure.

One upgrade domain after the other: the next one begins when every instance of this one is healthy, and has been for a
while. Only the record that is stored decides who has a turn: what ``move`` says counts once it is stored, so that two
loops, or a loop that was cut off, never have two domains under way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.model.making import MachineSpec, is_of_unknown_make, is_same_but_larger, machine_spec
from orchestrator.model.record import Act, DeploymentRecord, InstanceRecord, Wanted
from orchestrator.model.rollout import Good, Rollout, Stopped
from orchestrator.model.spec import Platform
from orchestrator.model.upgrade import domain_of

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orchestrator.model.names import InstanceId
    from orchestrator.model.spec import Role

RESUME, PROMOTE = "resume", "promote"
BACK = "rollback"  # how the cause of a machine begins that is brought back
KEPT_REVISIONS = 2


def current(record: DeploymentRecord) -> Rollout | None:
    """The upgrade to the revision that is wanted now, once it has begun."""
    rollout = record.rollout
    is_it = rollout is not None and rollout.revision == record.revision and rollout.began > 0
    return rollout if is_it and record.wanted is Wanted.UP else None


def is_going(record: DeploymentRecord) -> bool:
    """Whether an upgrade is under way that nobody and nothing has halted."""
    rollout = current(record)
    is_free = rollout is not None and not rollout.waits and rollout.paused is None and rollout.stopped is None
    return is_free and record.paused is None


def is_old(record: DeploymentRecord, role: Role, instance: InstanceRecord) -> bool:
    """Whether an instance's machine is not what its role asks for; one that was brought back on purpose is left."""
    wanted = record.machine(role)
    if instance.held >= (record.asked or record.revision) or instance.machine == wanted:
        return False
    return not is_same_but_larger(instance.machine, wanted)


def domain(record: DeploymentRecord, role: Role, ordinal: int) -> int:
    """The upgrade domain of an instance. A service of which nothing serves has only one."""
    rollout = current(record)
    return 0 if rollout is not None and rollout.is_whole else domain_of(ordinal, role.upgrade.domains)


def has_turn(record: DeploymentRecord, role: Role, instance: InstanceRecord) -> bool:
    """Whether the upgrade may replace an instance's machine now, or has begun to."""
    rollout = current(record)
    if rollout is None:
        return False
    if has_begun(instance, is_stopped=rollout.stopped is not None):
        return True
    is_its = rollout.domain == domain(record, role, instance.id.ordinal)
    is_chosen = not rollout.canary or instance.id.name in rollout.canaries
    return is_going(record) and is_its and is_chosen


def has_begun(instance: InstanceRecord, *, is_stopped: bool = False) -> bool:
    """Whether its machine is on its way out for an upgrade; with ``is_stopped``: too far on it to stay."""
    leave = instance.farewell
    return leave is not None and is_of_upgrade(instance) and (leave.asked is not None or not is_stopped)


def is_of_upgrade(instance: InstanceRecord) -> bool:
    """Whether its next machine is one of an upgrade, there or back; and not one that was asked for by itself."""
    after = instance.next
    return after is not None and (after.act is Act.UPGRADE or after.cause.startswith(BACK))


def machine_for(record: DeploymentRecord, role: Role, instance: InstanceRecord) -> MachineSpec:
    """What an instance that is made anew now is made of: the old make as long as the upgrade has not come to it."""
    is_as_before = is_old(record, role, instance) and not has_turn(record, role, instance)
    return instance.machine if is_as_before and not is_of_unknown_make(instance.machine) else record.machine(role)


def machine_of_new(record: DeploymentRecord, role: Role) -> MachineSpec:
    """What a new instance is made of: the last good make, as long as the new one is not let through to all."""
    rollout = record.rollout
    is_halted = rollout is not None and rollout.revision == record.revision and not rollout.is_back
    is_halted = is_halted and rollout is not None and bool(rollout.canary or rollout.waits or rollout.stopped)
    good = record.good[0] if is_halted and record.good else None
    before = good.service.role(role.name) if good is not None else None
    if good is None or before is None:
        return record.machine(role)
    return machine_spec(before, good.digests[role.name], good.platforms.get(role.name, Platform()))


def surge(record: DeploymentRecord, role: Role) -> int:
    """How many extra instances a role has now."""
    return record.rollout.roles.get(role.name, 0) if record.rollout is not None else 0


@dataclass(frozen=True, slots=True)
class Unit:
    """An instance as the upgrade's next step is decided by.

    ``is_old``: the upgrade has still to replace its machine. ``is_serving``: it can serve now. ``is_settled``: its
    machine is the new one, and has been healthy for long enough. ``has_begun``: its machine is on its way out.
    ``late``: at which stage it stands and why, if it did not get healthy within its time, else None.
    """

    id: InstanceId
    domain: int
    is_old: bool
    is_serving: bool
    is_settled: bool
    has_begun: bool = False
    late: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A step of the upgrade as a whole: what is stored of it (None: it is over), and what is said of it.

    ``is_done``: it has come to its end.
    """

    rollout: Rollout | None
    told: str
    why: str = ""
    is_done: bool = False


def move(  # noqa: PLR0911 - one return a rung
    record: DeploymentRecord, units: Sequence[Unit], *, is_supplied: bool, now: float
) -> Move | None:
    """What the upgrade does next as a whole; None: it waits, or there is none.

    ``is_supplied``: every host has the images that the new machines need.
    """
    if record.wanted is not Wanted.UP or record.paused is not None:
        return None
    rollout = current(record)
    if rollout is None:
        return _begun(record, units, now)
    if rollout.stopped is not None or rollout.paused is not None:
        return None
    late = next((unit for unit in units if unit.late is not None), None)
    if late is not None and late.late is not None:
        return _stopped(rollout, late.id.name, late.late, now)
    if rollout.waits:
        return None
    going = [unit for unit in units if unit.is_old and _is_chosen(rollout, unit)]
    if rollout.domain is None:
        return _next(rollout, going, units, now) if is_supplied or not going else None
    here = [unit for unit in units if unit.domain == rollout.domain and _is_chosen(rollout, unit)]
    if not any(unit.is_old or not unit.is_settled for unit in here):
        return _domain_done(record, rollout, going, now)
    is_untouched = not any(unit.has_begun or not (unit.is_old or unit.is_settled) for unit in here)
    better = _choose(going, rollout.domain) if is_untouched and going else rollout.domain
    return None if better == rollout.domain else _entered(rollout, better, going, now)


def _is_chosen(rollout: Rollout, unit: Unit) -> bool:
    if rollout.canary:
        return unit.id.name in rollout.canaries
    return unit.id.role in rollout.roles


def _begun(record: DeploymentRecord, units: Sequence[Unit], now: float) -> Move | None:
    """The upgrade at its beginning, over whatever an earlier one has left."""
    before = record.rollout
    old = [unit for unit in units if unit.is_old]
    known = before.roles if before is not None else {}
    is_left = any(unit.id.role in known and not unit.is_settled for unit in units)
    if not old and not is_left:
        return Move(None, "no upgrade is needed any more") if before is not None else None
    asked = before if before is not None and before.revision == record.revision else Rollout(record.revision)
    is_whole = not any(unit.is_serving for unit in units)
    changing = {unit.id.role for unit in old} | set(known)
    roles = {
        role.name: max(known.get(role.name, 0), _extra(record, role, asked))
        for role in record.service.roles
        if role.name in changing
    }
    canaries = tuple(sorted(_canaries(old, asked.canary)))
    last = before.domain if before is not None else None
    begun = replace(
        asked, began=now, since=now, roles=roles, canaries=canaries, domain=None, last=last, is_whole=is_whole
    )
    what = BACK if asked.is_back else "upgrade"
    count = len({0 if is_whole else unit.domain for unit in old})
    first = f", {', '.join(canaries)} first" if canaries else ""
    return Move(begun, f"{what} to revision {record.revision} begins: {len(old)} instances in {count} domains{first}")


def _extra(record: DeploymentRecord, role: Role, asked: Rollout) -> int:
    """How many extra instances stand in: for canaries, and on the way back, only where nobody may be away without."""
    count = record.count(role.name)
    is_needed = not (asked.canary or asked.is_back) or role.upgrade.away(count) == 0
    return role.upgrade.surge(count) if is_needed else 0


def _canaries(old: Sequence[Unit], count: int) -> list[str]:
    """Of each role so many, those that do not serve first."""
    ranked = sorted(old, key=lambda unit: (unit.is_serving, unit.domain, unit.id.ordinal))
    roles = sorted({unit.id.role for unit in old})
    return [unit.id.name for role in roles for unit in [u for u in ranked if u.id.role == role][:count]]


def _choose(old: Collection[Unit], last: int | None) -> int:
    """The domain to go on with: where somebody is not well first, and of those where it was at until now."""
    bad = {unit.domain for unit in old if not unit.is_serving}
    left = bad or {unit.domain for unit in old}
    return last if last is not None and last in left else min(left)


def _next(rollout: Rollout, going: Sequence[Unit], units: Sequence[Unit], now: float) -> Move | None:
    """The next domain, or the end: which waits for nobody but those who are still to get healthy."""
    if going:
        return _entered(rollout, _choose(going, rollout.last), going, now)
    if any(_is_chosen(rollout, unit) and not unit.is_settled for unit in units):
        return None
    return _ended(rollout, now)


def _entered(rollout: Rollout, number: int, going: Sequence[Unit], now: float) -> Move:
    names = ", ".join(sorted(unit.id.name for unit in going if unit.domain == number))
    what = BACK if rollout.is_back else "upgrade"
    return Move(replace(rollout, domain=number, last=None, since=now), f"{what}: domain {number} begins", names)


def _domain_done(record: DeploymentRecord, rollout: Rollout, going: Sequence[Unit], now: float) -> Move:
    left = replace(rollout, domain=None, since=now)
    if not going:
        return _ended(left, now)
    told = f"{BACK if rollout.is_back else 'upgrade'}: domain {rollout.domain} is healthy"
    is_automatic = rollout.is_back or bool(rollout.canary) or all(role.upgrade.is_automatic for role in _roles(record))
    if is_automatic:
        return Move(left, told)
    return Move(replace(left, waits=RESUME), told, "waits for `vmrole upgrade resume`")


def _roles(record: DeploymentRecord) -> list[Role]:
    changing = record.rollout.roles if record.rollout is not None else {}
    return [role for role in record.service.roles if role.name in changing]


def _ended(rollout: Rollout, now: float) -> Move:
    what = BACK if rollout.is_back else "upgrade"
    if rollout.canary:
        names = ", ".join(rollout.canaries)
        roles = dict.fromkeys(rollout.roles, 0)  # it may wait for days: who stood in for them goes
        waits = replace(rollout, domain=None, waits=PROMOTE, roles=roles)
        return Move(waits, f"upgrade: {names} healthy", "waits for promote")
    told = f"{what} to revision {rollout.revision} is done"
    return Move(None, told, f"{now - rollout.began:.0f} s", is_done=True)


def _stopped(rollout: Rollout, name: str, late: tuple[str, str], now: float) -> Move:
    what = BACK if rollout.is_back else "upgrade"
    stopped = Stopped(name, *late, at=now)
    where = f"domain {rollout.domain}: " if rollout.domain is not None else ""
    told = f"{what} stopped: {where}{name} did not get healthy in its time, at {late[0]}"
    return Move(replace(rollout, stopped=stopped), told, late[1])


def as_good(record: DeploymentRecord) -> DeploymentRecord:
    """The record with its revision as the last good one; the very same if it is that already."""
    here = Good(record.revision, record.service, dict(record.digests), dict(record.platforms))
    older = [good for good in record.good if not is_same(good, record)]
    good = (here, *older)[:KEPT_REVISIONS]
    return record if good == record.good else replace(record, good=good)


def is_same(good: Good, record: DeploymentRecord) -> bool:
    """Whether a good revision asks for what the present one does."""
    return (good.service, good.digests, good.platforms) == (record.service, record.digests, record.platforms)
