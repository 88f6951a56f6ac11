"""Which instances there should be, where each lives, and what each should be made of. Pure.

New instances get the host with the fewest of their role, then the fewest at all; and the lowest free address there.
An instance whose machine is not what its role asks for now is given a new generation, within ``max_unavailable``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from orchestrator.errors import Refused
from orchestrator.model.names import InstanceId
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Timeline, Wanted
from orchestrator.model.spec import MachineSpec, Role, machine_spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FIRST_DIP = 10  # the addresses before it are the gateway's and kept free for what is not an instance


def members(
    deployment: DeploymentRecord, present: Sequence[InstanceRecord], hosts: Sequence[str], now: float
) -> tuple[InstanceRecord, ...]:
    """The deployment's instances as wanted now: those present, new ones added, those too many marked as gone.

    ``hosts``: names of the hosts that new instances may be put on. Raises Refused when a subnet is full.
    """
    wanted = {
        InstanceId(deployment.id, role.name, ordinal): role
        for role in deployment.service.roles
        for ordinal in range(role.instances)
        if deployment.wanted is Wanted.UP
    }
    kept = [record if record.id in wanted else replace(record, wanted=Wanted.GONE) for record in present]
    known = {record.id for record in present}
    for key, role in wanted.items():
        if key not in known and hosts:
            kept.append(_new(deployment, key, role, kept, hosts, now))
    return tuple(kept)


def _new(
    deployment: DeploymentRecord,
    key: InstanceId,
    role: Role,
    others: Sequence[InstanceRecord],
    hosts: Sequence[str],
    now: float,
) -> InstanceRecord:
    host = place(role.name, others, hosts)
    return InstanceRecord(
        id=key,
        host=host,
        dip=free_dip(deployment.subnets[host], {record.dip for record in others}),
        generation=1,
        machine=machine_spec(role, deployment.digests[role.name]),
        timeline=Timeline(requested=now),
        deadline=now + role.ready.timeout_s,
    )


def place(role: str, others: Iterable[InstanceRecord], hosts: Sequence[str]) -> str:
    """The host for one more instance of ``role``."""
    records = list(others)
    of_role = Counter(record.host for record in records if record.id.role == role)
    of_all = Counter(record.host for record in records)
    return min(hosts, key=lambda host: (of_role[host], of_all[host], host))


def free_dip(subnet: IPv4Network, taken: set[str]) -> str:
    """The lowest free address of a deployment's subnet. Raises Refused when there is none."""
    for offset in range(FIRST_DIP, subnet.num_addresses - 1):
        address = str(IPv4Address(int(subnet.network_address) + offset))
        if address not in taken:
            return address
    raise Refused(
        f"the network {subnet} has no address left for another instance",
        f"a deployment has at most {subnet.num_addresses - 1 - FIRST_DIP} instances on a host",
    )


@dataclass(frozen=True, slots=True)
class Member:
    """An instance beside what its role wants it to be; ``is_ready``: it can serve now."""

    record: InstanceRecord
    desired: MachineSpec
    is_ready: bool


def next_to_renew(role: Sequence[Member], max_unavailable: int) -> tuple[InstanceId, ...]:
    """Which instances of one role to give a new generation now.

    An outdated one that does not serve is renewed at once: it has nothing to lose, and it may be why the user came.
    One that serves waits until fewer than ``max_unavailable`` of the role do not.
    """
    outdated = [m for m in role if m.record.machine != m.desired and m.record.wanted is Wanted.UP]
    idle = [m.record.id for m in outdated if not m.is_ready]
    unavailable = sum(1 for m in role if not m.is_ready and m.record.wanted is Wanted.UP)
    room = max(0, max_unavailable - unavailable)
    serving = [m.record.id for m in outdated if m.is_ready]
    return tuple(sorted(idle) + sorted(serving)[:room])


def renew(record: InstanceRecord, machine: MachineSpec, *, timeout_s: float, now: float) -> InstanceRecord:
    """The instance's next generation: a new machine, the same name, address and place."""
    return replace(
        record,
        generation=record.generation + 1,
        machine=machine,
        timeline=Timeline(requested=now),
        deadline=now + timeout_s,
        boot=1,
        boot_id="",
        has_run=False,
        starts=0,
        failure=None,
    )


def again(record: InstanceRecord, *, timeout_s: float, now: float) -> InstanceRecord:
    """The same machine, with another chance to become ready."""
    return replace(record, deadline=now + timeout_s, starts=0, failure=None)
