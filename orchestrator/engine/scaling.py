"""Which instances a role has once somebody asks for more or fewer of them. Pure.

New ones get the lowest ordinals that are free, and the highest go first: so a name, with its volumes and its port on
the VIP, stays with the role for as long as it can.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count as counted
from itertools import islice
from typing import TYPE_CHECKING

from orchestrator.errors import UserError
from orchestrator.model.names import InstanceId
from orchestrator.model.record import DeploymentRecord, Wanted
from orchestrator.model.spec import Visibility

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orchestrator.model.spec import Role

NO_LIMIT = 10**6


def scaled(record: DeploymentRecord, name: str, count: int, remove: Sequence[str] = ()) -> DeploymentRecord:
    """The deployment with ``count`` instances of role ``name``; the very same record if it has those already.

    ``remove``: names of instances that are to go; what is still too many after them goes from the highest ordinal
    down. Raises UserError for a role, an instance or a number that cannot be.
    """
    role = record.service.role(name)
    if role is None:
        known = ", ".join(known.name for known in record.service.roles)
        said = f"{record.id.title} has no role {name}; known: {known}"
        raise UserError(said, f"`vmrole status {record.id.words}` shows them")
    wish = role.autoscale
    if wish is not None and not wish.least <= count <= wish.most:
        said = f"{name} has from {wish.least} to {wish.most} instances, as its autoscale says"
        raise UserError(said, "change that in the service file, then `vmrole up`")
    present = record.ordinals(name)
    left = [ordinal for ordinal in present if ordinal not in _told(record, role, count, remove)]
    wanted = chosen(left, count, without=set(present) - set(left))
    _refuse_without_port(role, wanted)
    found = with_ordinals(record, name, wanted)
    return record if found == record else _next_revision(found)


def _next_revision(record: DeploymentRecord) -> DeploymentRecord:
    """Another revision, to which an upgrade that is under way goes on: more instances are no reason to begin anew."""
    revision, rollout = record.revision + 1, record.rollout
    follows = rollout is not None and rollout.revision == record.revision
    rollout = replace(rollout, revision=revision) if rollout is not None and follows else rollout
    return replace(record, revision=revision, rollout=rollout, asked=record.asked or record.revision)


def _told(record: DeploymentRecord, role: Role, count: int, remove: Sequence[str]) -> set[int]:
    """The ordinals of the instances that are to go by their names. Raises UserError."""
    present = record.ordinals(role.name)
    ordinals = {InstanceId(record.id, role.name, ordinal).name: ordinal for ordinal in present}
    unknown = sorted(name for name in remove if name not in ordinals)
    if unknown:
        said = f"{record.id.title} has no instance {unknown[0]} of role {role.name}; it has {', '.join(ordinals)}"
        raise UserError(said, f"`vmrole status {record.id.words}` shows them")
    told = {ordinals[name] for name in remove}
    if told and len(present) - len(told) < count:
        said = f"{len(present) - len(told)} instances of {role.name} are left without {', '.join(sorted(remove))}"
        raise UserError(f"{said}, not {count}", "name fewer of them, or ask for fewer to be left")
    return told


def _refuse_without_port(role: Role, wanted: Sequence[int]) -> None:
    """Raises UserError when an instance would have no port on the VIP: those go by ordinal."""
    for endpoint in role.endpoints:
        ports = endpoint.ports[1] - endpoint.ports[0] + 1
        if endpoint.visibility is Visibility.INSTANCE and ports <= max(wanted):
            what = f"{len(wanted)} instances" if max(wanted) < len(wanted) else f"{role.name}-{max(wanted)}"
            said = f"endpoint {endpoint.name} of {role.name} has {ports} ports, too few for {what}"
            raise UserError(said, "give it a longer range in the service file, then `vmrole up`")


def chosen(present: Sequence[int], count: int, *, without: Collection[int] = ()) -> tuple[int, ...]:
    """``count`` ordinals: of those present the lowest, then the lowest others that are not among ``without``."""
    kept = sorted(present)[:count]
    others = (ordinal for ordinal in counted() if ordinal not in kept and ordinal not in without)
    return tuple(sorted([*kept, *islice(others, count - len(kept))]))


def with_ordinals(record: DeploymentRecord, name: str, wanted: Sequence[int]) -> DeploymentRecord:
    """The deployment in which role ``name`` has instances of these ordinals, which are sorted."""
    role = record.service.role(name)
    holes = tuple(ordinal for ordinal in range(max(wanted, default=-1) + 1) if ordinal not in wanted)
    counts = {key: count for key, count in record.counts.items() if key != name}
    left_out = {key: left for key, left in record.left_out.items() if key != name}
    if role is not None and len(wanted) != role.instances:
        counts[name] = len(wanted)
    if holes:
        left_out[name] = holes
    return replace(record, counts=counts, left_out=left_out)


def carried_over(known: DeploymentRecord, wanted: DeploymentRecord) -> DeploymentRecord:
    """What `up` asks for, with the instances that are there: as many as its file says, of those the lowest stay.

    Where the file says that their number follows a figure, and names the same number as before, that number stays.
    """
    fresh = replace(wanted, counts={}, left_out={})
    if known.wanted is not Wanted.UP:
        return fresh
    for role in wanted.service.roles:
        present = [ordinal for ordinal in known.ordinals(role.name) if ordinal < _room(role)]
        fresh = with_ordinals(fresh, role.name, chosen(present, _number(known, role)))
    return fresh


def _number(known: DeploymentRecord, role: Role) -> int:
    before, wish = known.service.role(role.name), role.autoscale
    if wish is None or before is None or before.instances != role.instances:
        return role.instances
    return max(wish.least, min(known.count(role.name), wish.most))


def _room(role: Role) -> int:
    """How many ordinals have a port on the VIP at each of the role's endpoints that give one to each instance."""
    ranges = [e.ports for e in role.endpoints if e.visibility is Visibility.INSTANCE]
    return min((last - first + 1 for first, last in ranges), default=NO_LIMIT)
