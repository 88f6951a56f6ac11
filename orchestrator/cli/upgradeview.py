"""An upgrade as people and scripts read it: how far it is, domain by domain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli.upgradejson import rollout_json
from orchestrator.cli.view import coloured, duration, own, table
from orchestrator.engine import rollout, upgrading

if TYPE_CHECKING:
    from orchestrator.engine.plan import Plan
    from orchestrator.engine.status import InstanceStatus
    from orchestrator.model.record import DeploymentRecord


@dataclass(frozen=True, slots=True)
class Line:
    """One instance. ``step``: waits, leaving, new, healthy or unchanged."""

    status: InstanceStatus
    domain: int
    step: str
    image: str


def lines(plan: Plan, record: DeploymentRecord) -> list[Line]:
    """Every instance in the order of the domains."""
    found = []
    for status in own(plan, record.id):
        role = record.service.role(status.record.id.role)
        if role is not None:
            number = rollout.domain(record, role, status.record.id.ordinal)
            found.append(Line(status, number, _step(record, status), _image(record, status)))
    return sorted(found, key=lambda line: (line.domain, line.status.record.id))


def _step(record: DeploymentRecord, status: InstanceStatus) -> str:
    instance, role = status.record, record.service.role(status.record.id.role)
    under_way = rollout.current(record)
    if role is None or under_way is None or role.name not in under_way.roles:
        return "unchanged"
    if rollout.is_old(record, role, instance):
        return "leaving" if rollout.has_begun(instance) else "waits"
    if instance.timeline.requested < under_way.began:
        return "unchanged" if status.in_rotation else "new"
    return "healthy" if status.in_rotation else "new"


def _image(record: DeploymentRecord, status: InstanceStatus) -> str:
    """The image below an instance, by the name that a revision gives it."""
    digest, name = status.record.machine.digest, status.record.id.role
    known = {record.digests.get(name): record.service.role(name)}
    known |= {good.digests.get(name): good.service.role(name) for good in reversed(record.good)}
    known |= {record.digests.get(name): record.service.role(name)}
    role = known.get(digest)
    return role.image if role is not None else digest[:19]


def upgrade_text(plan: Plan, record: DeploymentRecord, now: float) -> str:
    """How far it is, a bar, and a table of the instances."""
    found = lines(plan, record)
    under_way = rollout.current(record)
    said = upgrading.said(record) or f"no upgrade is under way; revision {record.revision}"
    head = f"{record.id.title}: {said}"
    if under_way is not None:
        done = sum(line.step in {"healthy", "unchanged"} for line in found)
        head += f"\n{_bar(done, len(found))} {done} of {len(found)} instances, since {duration(now - under_way.began)}"
    rows = [
        (
            str(line.domain),
            line.status.record.id.name,
            line.step,
            line.image,
            coloured(line.status.state),
            duration(now - line.status.since),
            line.status.reason,
        )
        for line in found
    ]
    return head + "\n" + table(("DOMAIN", "INSTANCE", "UPGRADE", "IMAGE", "STATE", "FOR", "WHY"), rows)


def _bar(done: int, count: int, width: int = 20) -> str:
    full = width * done // max(1, count)
    return "[" + "#" * full + "." * (width - full) + "]"


def upgrade_json(plan: Plan, record: DeploymentRecord) -> dict[str, object]:
    """The same for scripts; ``upgrade`` is null when none is under way."""
    return {
        "service": record.id.service,
        "slot": record.id.slot,
        "revision": record.revision,
        "good": [good.revision for good in record.good],
        "upgrade": rollout_json(record),
        "instances": [
            {
                "name": line.status.record.id.name,
                "role": line.status.record.id.role,
                "domain": line.domain,
                "upgrade": line.step,
                "image": line.image,
                "digest": line.status.record.machine.digest,
                "generation": line.status.record.generation,
                "state": line.status.state.value,
                "stage": line.status.stage.value,
                "since": line.status.since,
                "reason": line.status.reason,
            }
            for line in lines(plan, record)
        ],
    }
