"""Which instances there should be, where each lives, and what each should be made of. Pure.

New instances get the host that has their volumes, else the one with the fewest of their role, then the fewest at
all; and the lowest free address there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from orchestrator.engine.rollout import machine_of_new, surge
from orchestrator.errors import Refused
from orchestrator.model.names import InstanceId, parse_disk
from orchestrator.model.record import Act, DeploymentRecord, InstanceRecord, Kept, Successor, Timeline, Wanted
from orchestrator.model.spec import DiskKind, Role
from orchestrator.model.vicinity import Vicinity

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from orchestrator.model.making import MachineSpec
    from orchestrator.model.world import HostSeen

ANOTHER_TRY = "upgrade: another try"  # why a machine is made again whose setup has failed
FIRST_DIP = 10  # the addresses before it are the gateway's and kept free for what is not an instance


def members(
    deployment: DeploymentRecord, present: Sequence[InstanceRecord], hosts: Sequence[HostSeen], now: float
) -> tuple[InstanceRecord, ...]:
    """The deployment's instances as wanted now: those present, new ones added, those too many marked as gone.

    ``hosts``: those that new instances may be put on. Raises Refused when a subnet is full.
    """
    wanted = {
        InstanceId(deployment.id, role.name, ordinal): role
        for role in deployment.service.roles
        for ordinal in (*deployment.ordinals(role.name), *extras(deployment, role))
        if deployment.wanted is Wanted.UP
    }
    kept = [record if record.id in wanted else replace(record, wanted=Wanted.GONE) for record in present]
    known = {record.id for record in present}
    for key, role in wanted.items():
        if key not in known and _can_place(role, hosts):
            kept.append(_new(deployment, key, role, kept, hosts, now))
    return tuple(kept)


def extras(deployment: DeploymentRecord, role: Role) -> tuple[int, ...]:
    """The ordinals of the instances that stand in while a role's others are replaced: above all the others."""
    first = max(deployment.ordinals(role.name), default=-1) + 1
    return tuple(range(first, first + surge(deployment, role)))


def vicinity(deployment: DeploymentRecord, wanted: Iterable[InstanceRecord]) -> Vicinity:
    """What the answer files of a deployment's instances may say of the rest of it."""
    stays = [(record.id, record.dip) for record in wanted if record.wanted is not Wanted.GONE]
    return Vicinity(deployment.vip, tuple(sorted(deployment.subnets.items())), tuple(sorted(stays)))


def _can_place(role: Role, hosts: Sequence[HostSeen]) -> bool:
    """An instance with volumes is put nowhere while one of the hosts, which may have them, cannot be asked."""
    has_volumes = any(disk.kind is DiskKind.VOLUME for disk in role.disks)
    answering = [host for host in hosts if not host.problem]
    return bool(answering) and (not has_volumes or len(answering) == len(hosts))


def _new(
    deployment: DeploymentRecord,
    key: InstanceId,
    role: Role,
    others: Sequence[InstanceRecord],
    hosts: Sequence[HostSeen],
    now: float,
) -> InstanceRecord:
    answering = [host.name for host in hosts if not host.problem]
    keepers = [host.name for host in hosts if any(volume_of(file, key) for file in host.files.get(key, ()))]
    host = keepers[0] if keepers else place(role.name, others, answering)
    return InstanceRecord(
        id=key,
        host=host,
        dip=free_dip(deployment.subnets[host], {record.dip for record in others}, held_on(host, hosts, key)),
        generation=1,
        machine=machine_of_new(deployment, role),
        timeline=Timeline(requested=now),
        deadline=now + role.ready.timeout_s,
        awaits=role.after,
    )


def volume_of(file: str, key: InstanceId) -> bool:
    """Whether a file is one of this instance's volumes, whole or not."""
    disk = parse_disk(file)
    return disk is not None and not disk.place and not disk.snapshot and disk.volume.instance == key


def place(role: str, others: Iterable[InstanceRecord], hosts: Sequence[str]) -> str:
    """The host for one more instance of ``role``."""
    records = list(others)
    of_role = Counter(record.host for record in records if record.id.role == role)
    of_all = Counter(record.host for record in records)
    return min(hosts, key=lambda host: (of_role[host], of_all[host], host))


def held_on(host: str, hosts: Iterable[HostSeen], key: InstanceId) -> set[str]:
    """The addresses on a host that its DHCP server would not give to an instance yet."""
    return next((found.held_by_others(key) for found in hosts if found.name == host), set())


def free_dip(subnet: IPv4Network, taken: set[str], held: Collection[str] = ()) -> str:
    """The lowest free address of a deployment's subnet, one that is ``held`` only at need.

    Held is what an instance that is gone has left behind: until its lease is over, somebody else who is to have that
    address gets another one by DHCP, at which nobody looks for it. Raises Refused when there is none.
    """
    numbers = range(int(subnet.network_address) + FIRST_DIP, int(subnet.broadcast_address))
    free = [address for number in numbers if (address := str(IPv4Address(number))) not in taken]
    for address in (*(address for address in free if address not in held), *free):
        return address
    raise Refused(
        f"the network {subnet} has no address left for another instance",
        f"a deployment has at most {subnet.num_addresses - 1 - FIRST_DIP} instances on a host",
    )


@dataclass(frozen=True, slots=True)
class Member:
    """An instance as its turn is decided by. ``is_serving``: it can serve now and is not on its way out.

    ``wants_turn``: its machine has to come to rest, and has not begun to. ``counts``: it belongs to those of which
    only so many may be away at once (not one that is stopped or to be deleted). ``is_extra``: it stands in for one
    that is away. ``is_young``: it serves, but not for long enough to be relied on.
    """

    id: InstanceId
    is_serving: bool
    wants_turn: bool
    counts: bool = True
    is_extra: bool = False
    is_young: bool = False


def turns(role: Sequence[Member], max_unavailable: int) -> tuple[InstanceId, ...]:
    """Which instances of one role may begin to leave now.

    One that does not serve may at once: it has nothing to lose, and it may be why somebody asked. One that serves
    waits until fewer than ``max_unavailable`` of the role do not; an extra one that serves makes up for one that
    does not.
    """
    idle = [m.id for m in role if m.wants_turn and not m.is_serving]
    away = sum(1 for m in role if m.counts and not m.is_extra and (m.is_young or not m.is_serving))
    spare = sum(1 for m in role if m.counts and m.is_extra and m.is_serving and not m.is_young)
    serving = [m.id for m in role if m.wants_turn and m.is_serving]
    return tuple(sorted(idle) + sorted(serving)[: max(0, max_unavailable + spare - away)])


def successor(record: InstanceRecord, act: Act, machine: MachineSpec, cause: str) -> InstanceRecord:
    """The record that asks for a new machine in the same place."""
    after = Successor(act, record.newest + 1, machine, record.host, record.dip, record.place, cause)
    return replace(record, next=after, newest=record.newest + 1)


def moved(
    record: InstanceRecord, machine: MachineSpec, host: str, dip: str, cause: str = "asked for"
) -> InstanceRecord:
    """The record that asks for a new machine in another place, which may be on the same host."""
    after = Successor(Act.RELOCATE, record.newest + 1, machine, host, dip, record.place + 1, cause)
    return replace(record, next=after, newest=record.newest + 1)


def undone(record: InstanceRecord, kept: Kept, cause: str = "asked for") -> InstanceRecord:
    """The record that asks for the machine before the last reimage."""
    after = Successor(Act.UNDO, kept.generation, kept.machine, record.host, record.dip, record.place, cause)
    return replace(record, next=after)


def as_successor(record: InstanceRecord, after: Successor) -> InstanceRecord:
    """The instance as it will be once ``after`` has taken over, for making its disks beforehand."""
    kept = record.kept if after.act is Act.UNDO else None
    return replace(
        record,
        generation=after.generation,
        machine=after.machine,
        host=after.host,
        dip=after.dip,
        place=after.place,
        next=None,
        farewell=None,
        failure=None,
        busy=None,
        hooks="",
        starts=0,
        is_set_up=kept is not None and kept.is_set_up,
    )


def succeed(record: InstanceRecord, after: Successor, *, timeout_s: float, keep: bool, now: float) -> InstanceRecord:
    """The instance with its next machine. ``keep``: the old overlay is there, and is kept for a while."""
    kept = record.kept if after.act is Act.UNDO else None
    is_kept = keep and record.has_run and after.act is not Act.RELOCATE
    old_failure = record.failure if record.failure is not None and record.failure.is_final else None
    old = Kept(record.generation, record.machine, record.boot, old_failure, is_set_up=record.is_set_up)
    return replace(
        as_successor(record, after),
        timeline=Timeline(requested=now),
        deadline=now + timeout_s,
        boot=kept.boot if kept is not None else 1,
        boot_id="" if kept is None else record.boot_id,
        has_run=kept is not None,
        failure=kept.failure if kept is not None else None,
        reboot=None,
        kept=record.kept if is_kept and _is_in_vain(record, after) else old if is_kept else None,
        proven=record.proven and after.act is not Act.UNDO and after.machine == record.machine,
        care=record.care if after.act in {Act.REIMAGE, Act.RELOCATE} else None,
        stuck="",
    )


def _is_in_vain(record: InstanceRecord, after: Successor) -> bool:
    """Whether repair, or an upgrade, made a machine that never was ready: worth keeping is what was before it."""
    if record.kept is None or record.kept.until:
        return False
    is_of_upgrade = after.act is Act.UPGRADE or after.cause == ANOTHER_TRY
    return is_of_upgrade or (record.care is not None and record.failure is not None)


def again(record: InstanceRecord, *, timeout_s: float, now: float) -> InstanceRecord:
    """The same machine, with another chance to become ready; that its setup has failed is not forgotten."""
    is_final = record.failure is not None and record.failure.is_final
    return replace(record, deadline=now + timeout_s, starts=0, failure=record.failure if is_final else None)
