"""A plan as people read it beforehand: what would be done, in words, and what becomes of each disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli.view import table
from orchestrator.model import action as act
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Intent, Wanted

if TYPE_CHECKING:
    from orchestrator.engine.plan import Plan, Step


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one instance: ``does`` in words, ``overlay`` kept, new, gone or none yet."""

    name: str
    does: str
    overlay: str
    why: str = ""


def fates(intent: Intent, record: DeploymentRecord, plan: Plan) -> list[Fate]:
    """Each instance's fate under the plan, in order."""
    known = {instance.id: instance for instance in intent.members(record.id)}
    planned = [status.record for status in plan.instances if status.record.id.deployment == record.id]
    return [_fate(instance, known.get(instance.id), record) for instance in planned]


def _fate(new: InstanceRecord, old: InstanceRecord | None, record: DeploymentRecord) -> Fate:
    if old is None:
        return Fate(new.id.name, "create", "new", f"on host {new.host}, {new.dip}")
    if new.wanted is Wanted.GONE:
        return Fate(new.id.name, "delete", "gone", "the file asks for fewer")
    if new.generation != old.generation:
        return Fate(new.id.name, "reimage", "new from the image", f"generation {new.generation}")
    role = record.service.role(new.id.role)
    if role is not None and (new.machine.digest, new.machine.size, new.machine.setup) != (
        record.digests[role.name],
        role.size,
        role.setup,
    ):
        return Fate(new.id.name, "reimage later", "new from the image", "when its turn comes (max_unavailable)")
    return Fate(new.id.name, "keep", "kept")


def actions(plan: Plan, key: str) -> list[str]:
    """The plan's steps on shared things and on this deployment, in words; records are not worth a word."""
    return [text for step in plan.steps if (text := _words(step, key))]


def _words(step: Step, key: str) -> str:  # noqa: PLR0911 - one line an action
    match step.action:
        case act.CreatePool(host):
            return f"make the storage pool on {host}"
        case act.PlaceImage(host, digest):
            return f"upload image {digest[:19]} to {host}"
        case act.CreateNetwork(host, deployment, subnet) if str(deployment) == key:
            return f"make network {deployment} on {host}: {subnet}"
        case act.ChangeLeases(host, network) if network == key:
            return f"change the addresses of network {network} on {host}"
        case act.AddVip(vip):
            return f"add VIP {vip}"
        case act.ConfigureBalancer(frontends, _servers):
            ports = ", ".join(f"{front.vip}:{front.port}" for front in frontends if front.name.startswith(f"{key}."))
            return f"have HAProxy listen on {ports}" if ports else ""
        case act.RemoveServer(backend, name) if backend.startswith(f"{key}."):
            return f"take {name} out of rotation"
        case _:
            return ""


def forecast_text(intent: Intent, record: DeploymentRecord, plan: Plan) -> str:
    """Everything, as a page."""
    known = intent.deployment(record.id)
    found = fates(intent, record, plan)
    steps = actions(plan, str(record.id))
    if known == record and not steps and all(fate.does == "keep" for fate in found):
        return f"{record.id.service}: nothing to change"
    rows = [(fate.name, fate.does, fate.overlay, fate.why) for fate in found]
    body = table(("INSTANCE", "DOES", "OVERLAY", "WHY"), rows)
    head = f"{record.id.service}: revision {record.revision}, VIP {record.vip}"
    return "\n".join([head, *(f"  {step}" for step in steps), body])


def forecast_json(intent: Intent, record: DeploymentRecord, plan: Plan) -> dict[str, object]:
    """The same for scripts."""
    return {
        "service": record.id.service,
        "slot": record.id.slot,
        "revision": record.revision,
        "vip": record.vip,
        "steps": actions(plan, str(record.id)),
        "instances": [
            {"name": f.name, "does": f.does, "disks": {"overlay": f.overlay}, "why": f.why}
            for f in fates(intent, record, plan)
        ],
    }
