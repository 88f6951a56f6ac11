"""The exchange of the two slots' VIPs: what stands against it, and the records after it. Pure.

A swap changes which deployment has which VIP, and nothing else: both keep their slot, machines, volumes and network.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from orchestrator.engine import rotation
from orchestrator.engine.case import is_under_way
from orchestrator.engine.status import State
from orchestrator.model.names import DeploymentId, Slot
from orchestrator.model.record import DeploymentRecord, Event, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.engine.status import InstanceStatus
    from orchestrator.model.action import Frontend
    from orchestrator.model.record import Intent


CERTIFICATE = "tls.certificate"  # compared by its reference, whose key stands for one value; never said


@dataclass(frozen=True, slots=True)
class Pair:
    """A service's two deployments: the one that its VIP leads to now, and the one that it is to lead to."""

    live: DeploymentRecord
    coming: DeploymentRecord


def pair(intent: Intent, service: str) -> Pair | None:
    """A service's two deployments; None if it does not have both."""
    found = [intent.deployment(DeploymentId(service, slot.value)) for slot in Slot]
    known = sorted((record for record in found if record is not None), key=lambda record: not record.is_live)
    return Pair(*known) if len(known) == len(found) else None


def unfit(two: Pair, statuses: Iterable[InstanceStatus]) -> tuple[str, ...]:
    """Every reason why the VIPs cannot be exchanged now; () if there is none."""
    both = (two.live, two.coming)
    own = [status for status in statuses if status.record.id.deployment == two.coming.id]
    return (
        *(f"{record.id.title} is being deleted" for record in both if record.wanted is not Wanted.UP),
        *(f"an upgrade of {record.id.title} is under way" for record in both if record.rollout is not None),
        *_different(two),
        *(_not_ready(two.coming, own) if two.coming.wanted is Wanted.UP else ()),
    )


def _not_ready(record: DeploymentRecord, own: Sequence[InstanceStatus]) -> list[str]:
    """Which instances of the deployment that would be live cannot serve, and why."""
    wanted = sum(record.count(role.name) for role in record.service.roles)
    bad = [s for s in own if s.state is not State.READY or not s.in_rotation or is_under_way(s.record)]
    missing = [f"{record.id.title} has {len(own)} of {wanted} instances"] if len(own) < wanted else []
    return [*missing, *(_said(status) for status in bad)]


def _said(status: InstanceStatus) -> str:
    key = status.record.id
    soon = "about to leave rotation" if is_under_way(status.record) else "out of rotation"
    what = soon if status.state is State.READY else status.state.value
    why = f": {status.reason}" if status.reason else ""
    return f"{key.name} of {key.deployment.title} is {what}{why}"


def _different(two: Pair) -> list[str]:
    """What the VIPs offer differently: a port that leads to the other deployment has to be the same there."""
    one, other = _doors(two.live), _doors(two.coming)
    found = []
    for mine, theirs, record in ((one, other, two.live), (other, one, two.coming)):
        if alone := sorted(set(mine) - set(theirs)):
            found.append(f"only {record.id.title} has the VIP port {_ports(alone)}")
    for port in sorted(set(one) & set(other)):
        found += [f"port {port}: {said}" for said in _unlike(two, one[port], other[port])]
    return found


def _unlike(two: Pair, mine: Mapping[str, object], theirs: Mapping[str, object]) -> list[str]:
    live, coming = two.live.id.slot, two.coming.id.slot
    found = [
        f"{name} is {mine[name]} in {live}, {theirs[name]} in {coming}"
        for name in mine
        if name != CERTIFICATE and mine[name] != theirs[name]
    ]
    if not found and mine[CERTIFICATE] != theirs[CERTIFICATE]:
        found.append(f"the certificate is not the same in {live} and {coming}")
    return found


def _doors(record: DeploymentRecord) -> dict[int, dict[str, object]]:
    """What HAProxy does at each VIP port itself, in the words of the service file."""
    return {front.port: _door(front) for front in rotation.frontends([record])}


def _door(front: Frontend) -> dict[str, object]:
    tls = front.traffic.tls
    return {
        "protocol": front.protocol.value,
        "max_connections": front.traffic.max_connections,
        "idle_timeout": f"{front.traffic.idle_s:g} s",
        "tls": f"at least {tls.min_version}" if tls is not None else "off",
        CERTIFICATE: tls.certificate if tls is not None else None,
    }


def _ports(ports: Sequence[int]) -> str:
    """``80, 9100-9109``."""
    runs = [[port for _n, port in run] for _d, run in groupby(enumerate(ports), key=lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def swapped(two: Pair) -> Pair:
    """The two deployments with each other's VIP."""
    return Pair(
        live=replace(two.coming, vip=two.live.vip, swaps=two.coming.swaps + 1),
        coming=replace(two.live, vip=two.coming.vip, swaps=two.live.swaps + 1),
    )


def events(after: Pair, now: float) -> tuple[Event, ...]:
    """What there is to tell of a swap, of both deployments."""
    taken = f"swapped: has the VIP {after.live.vip} now, that leads to the service"
    left = f"swapped: has the VIP {after.coming.vip} now"
    why = "connections that are there finish where they are"
    return (
        Event(now, str(after.live.id), taken, why, "swap"),
        Event(now, str(after.coming.id), left, why, "swap"),
    )


def is_swapped(before: Intent, now: Intent) -> bool:
    """Whether deployments have exchanged VIPs between two looks at the store, and none has come or gone."""
    old, new = ({record.id: record.vip for record in intent.deployments} for intent in (before, now))
    return old != new and old.keys() == new.keys() and sorted(old.values()) == sorted(new.values())


def is_taken_with(intent: Intent, gone: DeploymentRecord) -> bool:
    """Whether the VIP that the service is known by goes with a deployment though it was the other slot's once."""
    return gone.is_live and gone.swaps % 2 == 1 and intent.deployment(gone.id.other) is not None


def withdrawn_with(intent: Intent, gone: DeploymentRecord) -> tuple[DeploymentRecord, ...]:
    """The records to store when ``gone`` is taken down.

    If that one is live because of a swap, the other slot is the service from then on: nothing is left to swap back.
    """
    other = intent.deployment(gone.id.other)
    if other is None or not is_taken_with(intent, gone):
        return (gone,)
    return (replace(gone, swaps=gone.swaps + 1), replace(other, swaps=other.swaps + 1))
