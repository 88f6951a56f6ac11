"""A plan as people read it beforehand: what would be done, in words, and what becomes of each disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.cli.view import table
from orchestrator.engine import ground, rollout
from orchestrator.engine.difference import Change, changes
from orchestrator.engine.fate import DiskFate, created, fates
from orchestrator.model import action as act
from orchestrator.model.making import MachineSpec, images_of, is_same_but_larger
from orchestrator.model.names import VolumeId
from orchestrator.model.record import Act, DeploymentRecord, InstanceRecord, Intent, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.engine.plan import Plan, Step
    from orchestrator.model.names import InstanceId
    from orchestrator.model.world import HostSeen


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would be done to one instance: ``does`` in a word or two, each disk's fate, and why."""

    name: str
    does: str
    disks: tuple[DiskFate, ...]
    why: str = ""


def forecasts(intent: Intent, record: DeploymentRecord, plan: Plan, volumes: frozenset[str]) -> list[Forecast]:
    """Each instance's future under the plan, in order. ``volumes``: files in the pools now."""
    known = {instance.id: instance for instance in intent.members(record.id)}
    planned = [status.record for status in plan.instances if status.record.id.deployment == record.id]
    return [_forecast(instance, known.get(instance.id), record, volumes) for instance in planned]


def _forecast(
    new: InstanceRecord, old: InstanceRecord | None, record: DeploymentRecord, volumes: frozenset[str]
) -> Forecast:
    name, role = new.id.name, record.service.role(new.id.role)
    if old is None:
        found = names_there(new.machine, new.id, volumes)
        return Forecast(name, "create", created(new.machine, found=found), f"on host {new.host}, {new.dip}")
    if new.wanted is Wanted.GONE or role is None:
        return Forecast(name, "delete", fates(Act.DELETE, old, old.machine, role), "the file asks for fewer")
    desired = record.machine(role)
    found = names_there(desired, new.id, volumes)
    if new.next is not None:
        why = f"generation {new.next.generation}, when its turn comes (max_unavailable {role.upgrade.max_unavailable})"
        return Forecast(name, new.next.act.value, fates(new.next.act, old, desired, role, found=found), why)
    if rollout.is_old(record, role, new):
        number = rollout.domain(record, role, new.id.ordinal)
        why = (
            f"generation {new.newest + 1}, in upgrade domain {number} (max_unavailable {role.upgrade.max_unavailable})"
        )
        return Forecast(name, Act.UPGRADE.value, fates(Act.UPGRADE, old, desired, role, found=found), why)
    act = Act.REBOOT if new.reboot is not None else None
    does = act.value if act is not None else "grow" if is_larger(old.machine, desired) else "keep"
    return Forecast(name, does, fates(act, old, desired, role, found=found))


def names_there(machine: MachineSpec, key: InstanceId, volumes: frozenset[str]) -> frozenset[str]:
    """Names of a machine's volumes whose files are in a pool already."""
    return frozenset(disk.name for disk in machine.disks if VolumeId(key, disk.name).file in volumes)


def is_larger(now: MachineSpec, wanted: MachineSpec) -> bool:
    return now != wanted and is_same_but_larger(now, wanted)


def actions(plan: Plan, record: DeploymentRecord, hosts: Mapping[str, HostSeen]) -> list[str]:
    """The plan's steps on shared things and on this deployment, in words; records are not worth a word.

    With what an upgrade begins with in its next turn: the images on every host.
    """
    found = [text for step in plan.steps if (text := _words(step, str(record.id)))]
    return [*found, *(text for text in _uploads(plan, record, hosts) if text not in found)]


def _uploads(plan: Plan, record: DeploymentRecord, hosts: Mapping[str, HostSeen]) -> list[str]:
    own = [status.record for status in plan.instances if status.record.id.deployment == record.id]
    changing = {
        role.name
        for known in own
        if (role := record.service.role(known.id.role)) is not None and rollout.is_old(record, role, known)
    }
    return [
        _upload(host.name, digest)
        for host in hosts.values()
        if host.name in record.subnets and not host.problem
        for name in sorted(changing)
        for digest in sorted(images_of(record.digests, record.platforms, name))
        if not ground.has_base(host, digest)
    ]


def _upload(host: str, digest: str) -> str:
    return f"upload image {digest[:19]} to {host}"


def _words(step: Step, key: str) -> str:  # noqa: PLR0911 - one line an action
    match step.action:
        case act.CreatePool(host):
            return f"make the storage pool on {host}"
        case act.PlaceImage(host, digest):
            return _upload(host, digest)
        case act.CreateNetwork(host, deployment, subnet) if str(deployment) == key:
            return f"make network {deployment} on {host}: {subnet}"
        case act.ChangeLeases(host, network) if network == key:
            return f"change the addresses of network {network} on {host}"
        case act.Tell(machine=machine) if str(machine.instance.deployment) == key:
            return f"tell {machine.instance.name} its new settings and neighbours, without a reboot"
        case act.DefineFilter(host, guard) if guard.name.partition(".")[2].startswith(f"{key}."):
            return f"set what reaches {guard.name.rpartition('.')[2]} on {host}"
        case act.AddVip(vip):
            return f"add VIP {vip}"
        case act.ConfigureBalancer(frontends, _servers):
            ports = ", ".join(f"{front.vip}:{front.port}" for front in frontends if front.name.startswith(f"{key}."))
            return f"have HAProxy listen on {ports}" if ports else ""
        case act.RemoveServer(backend, name) if backend.startswith(f"{key}."):
            return f"take {name} out of rotation"
        case _:
            return ""


def forecast_text(intent: Intent, record: DeploymentRecord, plan: Plan, hosts: Mapping[str, HostSeen]) -> str:
    """Everything, as a page."""
    found = forecasts(intent, record, plan, _files(hosts))
    steps = actions(plan, record, hosts)
    known = intent.deployment(record.id)
    if known == record and not steps and all(fate.does == "keep" for fate in found):
        return f"{record.id.title}: nothing to change"
    head = f"{record.id.title}: revision {record.revision}, VIP {record.vip}"
    changed = [change_table(told)] if known is not None and (told := changes(known, record)) else []
    return "\n".join([head, *changed, *(f"  {step}" for step in steps), fate_table(found)])


def change_table(told: Sequence[Change]) -> str:
    """A line for each field that the file changes, with what it costs."""
    rows = [(change.path, change.was or "-", change.will_be or "-", change.costs) for change in told]
    return table(("FIELD", "WAS", "WILL BE", "COSTS"), rows)


def fate_table(found: Sequence[Forecast]) -> str:
    """A line for each disk of each instance; the instance is named on its first."""
    rows = []
    for forecast in found:
        for number, disk in enumerate(forecast.disks):
            first = (forecast.name, forecast.does) if number == 0 else ("", "")
            rows.append((*first, f"{disk.kind} {disk.name}".strip(), disk.fate, forecast.why if number == 0 else ""))
    return table(("INSTANCE", "DOES", "DISK", "FATE", "WHY"), rows)


def _files(hosts: Mapping[str, HostSeen]) -> frozenset[str]:
    return frozenset(file for host in hosts.values() for file in host.volumes)


def forecast_json(
    intent: Intent, record: DeploymentRecord, plan: Plan, hosts: Mapping[str, HostSeen]
) -> dict[str, object]:
    """The same for scripts."""
    known = intent.deployment(record.id)
    return {
        "service": record.id.service,
        "slot": record.id.slot,
        "revision": record.revision,
        "vip": record.vip,
        "changes": [
            {"path": c.path, "was": c.was, "will_be": c.will_be, "cost": c.cost.value, "costs": c.costs}
            for c in (changes(known, record) if known is not None else ())
        ],
        "steps": actions(plan, record, hosts),
        "instances": [
            {"name": f.name, "does": f.does, "disks": disks_json(f.disks), "why": f.why}
            for f in forecasts(intent, record, plan, _files(hosts))
        ],
    }


def disks_json(disks: Sequence[DiskFate]) -> dict[str, object]:
    """``{"overlay": fate, "local_storage": {name: fate}, "volumes": {name: fate}}``."""
    return {
        "overlay": next(disk.fate for disk in disks if disk.kind == "overlay"),
        "local_storage": {disk.name: disk.fate for disk in disks if disk.kind == "local storage"},
        "volumes": {disk.name: disk.fate for disk in disks if disk.kind == "volume"},
    }
