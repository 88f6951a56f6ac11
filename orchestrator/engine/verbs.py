"""What the commands on instances change in the intent. Pure; the loop does the rest.

Each takes a record and gives the one to be stored, the very same if nothing is left to ask for. Raises UserError
when the instance is not in a state for it. Whoever asks for something begins anew with repair, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import members
from orchestrator.errors import UserError
from orchestrator.model.names import parse_instance_name
from orchestrator.model.record import Act, InstanceRecord, Intent, Wanted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from orchestrator.model.making import MachineSpec
    from orchestrator.model.record import DeploymentRecord
    from orchestrator.model.world import HostSeen


def chosen(intent: Intent, targets: Sequence[str], *, slot: str, everything: bool) -> tuple[InstanceRecord, ...]:
    """The instances of a slot that arguments name, in order.

    An argument is ``hello/web-0``, a role ``hello/web``, or ``hello`` with ``everything``: all instances of the
    services that are named, or of every service. Raises UserError for whatever names nothing, all of it at once.
    """
    if not targets and not everything:
        raise UserError("no instance is named", "say SERVICE/NAME (hello/web-0), SERVICE/ROLE (hello/web) or --all")
    found: dict[object, InstanceRecord] = {}
    unknown = []
    there = [record for record in intent.instances if record.id.deployment.slot == slot]
    for target in targets or [record.id.service for record in intent.deployments]:
        matched = [record for record in there if _is_meant(record, target, everything=everything)]
        unknown += [] if matched or not targets else [target]
        found |= {record.id: record for record in matched}
    if unknown:
        known = ", ".join(_said(record) for record in intent.instances) or "none"
        hint = "SERVICE alone needs --all; known instances: " + known
        raise UserError(f"there is no instance {', '.join(unknown)}", hint)
    return tuple(found[key] for key in sorted(found, key=str))


def _is_meant(record: InstanceRecord, target: str, *, everything: bool) -> bool:
    service, _slash, name = target.partition("/")
    if record.id.deployment.service != service:
        return False
    if everything and not name:
        return True
    instance = parse_instance_name(name)
    return instance == (record.id.role, record.id.ordinal) or name == record.id.role


def _said(record: InstanceRecord) -> str:
    return record.id.words


def reboot(record: InstanceRecord, now: float) -> InstanceRecord:
    if record.wanted is Wanted.STOPPED:
        raise UserError(f"{_said(record)} is stopped", f"`vmrole start {_said(record)}` brings it up")
    return record if record.reboot is not None else replace(record, reboot=now, care=None)


def reimage(record: InstanceRecord, machine: MachineSpec) -> InstanceRecord:
    is_asked = record.next is not None and (record.next.act, record.next.machine) == (Act.REIMAGE, machine)
    return record if is_asked else members.successor(replace(record, care=None), Act.REIMAGE, machine, "asked for")


def undo(record: InstanceRecord) -> InstanceRecord:
    if record.next is not None and record.next.act is Act.UNDO:
        return record
    if record.kept is None:
        raise UserError(
            f"{_said(record)} has no overlay to go back to",
            "after a reimage the old one is kept for a while (stop.keep_overlay in the service file, default 10m)",
        )
    return members.undone(record, record.kept)


def relocate(record: InstanceRecord, machine: MachineSpec, host: str, dip: str) -> InstanceRecord:
    after = record.next
    is_asked = after is not None and (after.act, after.machine, after.host) == (Act.RELOCATE, machine, host)
    return record if is_asked else members.moved(replace(record, care=None), machine, host, dip)


def stop(record: InstanceRecord) -> InstanceRecord:
    return replace(record, wanted=Wanted.STOPPED, care=None, fault=None)


def start(record: InstanceRecord, *, timeout_s: float, now: float) -> InstanceRecord:
    if record.wanted is Wanted.UP:
        return record
    return replace(members.again(record, timeout_s=timeout_s, now=now), wanted=Wanted.UP)


def new_place(
    deployment: DeploymentRecord,
    present: Sequence[InstanceRecord],
    record: InstanceRecord,
    *,
    same_host: bool,
    hosts: Collection[HostSeen] = (),
) -> tuple[str, str]:
    """(host, DIP) for an instance that is to move; ``present``: the deployment's. Raises UserError without a host.

    ``hosts``: as they were seen, for the addresses that are not to be had there.
    """
    if same_host:
        return record.host, record.dip
    others = [host for host in deployment.subnets if host != record.host]
    if not others:
        raise UserError(
            f"there is no host other than {record.host} for {_said(record)}",
            "`--same-host` makes it anew where it is",
        )
    rest = [known for known in present if known.id != record.id]
    host = members.place(record.id.role, rest, others)
    taken = {known.dip for known in rest} | {known.next.dip for known in rest if known.next is not None}
    return host, members.free_dip(deployment.subnets[host], taken, members.held_on(host, hosts, record.id))
