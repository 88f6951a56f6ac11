"""What ``up`` and ``down`` change in the intent. Pure: the same values tell ``plan`` what would happen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.members import again
from orchestrator.engine.scaling import carried_over
from orchestrator.engine.upgradeverbs import asked, tried_again
from orchestrator.engine.vips import is_live
from orchestrator.errors import Refused
from orchestrator.model.disks import MIB
from orchestrator.model.names import InstanceId, Slot, VolumeId
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Intent, Pause, Wanted
from orchestrator.model.spec import DiskKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Network

    from orchestrator.model.names import DeploymentId
    from orchestrator.model.spec import Disk, Platform, Role, Service
    from orchestrator.model.world import HostSeen

SUBNET_BITS = 24


def deployed(  # noqa: PLR0913 - what `up` pins, each by its name
    intent: Intent,
    key: DeploymentId,
    service: Service,
    *,
    digests: Mapping[str, str],
    vip: str,
    subnets: Mapping[str, IPv4Network],
    platforms: Mapping[str, Platform] | None = None,
    canary: int = 0,
) -> DeploymentRecord:
    """The deployment's record after ``up``; the very same record if nothing changes.

    ``canary``: so many instances of each role are upgraded first, and the rest waits for a word.
    """
    known, made_for = intent.deployment(key), dict(platforms or {})
    if known is None:
        # Beside one that is live since a swap it is the one that is not.
        swaps = int(is_live(intent, key) != (key.slot == Slot.PRODUCTION.value))
        return DeploymentRecord(key, service, 1, dict(digests), vip, dict(subnets), platforms=made_for, swaps=swaps)
    wanted = replace(known, service=service, digests=dict(digests), vip=vip, subnets=dict(subnets), wanted=Wanted.UP)
    wanted = carried_over(known, replace(wanted, platforms=made_for))
    if wanted == known:
        return tried_again(known)
    wanted = replace(wanted, revision=known.revision + 1, asked=0)
    return asked(wanted, canary=canary) if canary else wanted


def retried(intent: Intent, record: DeploymentRecord, now: float) -> tuple[InstanceRecord, ...]:
    """The deployment's instances that are not ready, each with another chance: what ``up`` said again is.

    Repair has stopped at some: it begins anew. At others it is at work, and goes on.
    """
    return tuple(
        replace(again(instance, timeout_s=role.ready.timeout_s, now=now), care=None if stopped else instance.care)
        if instance.timeline.rotation is None
        else replace(instance, care=None)
        for instance in intent.members(record.id)
        if instance.wanted is Wanted.UP
        and (role := record.service.role(instance.id.role)) is not None
        and ((stopped := _has_stopped(instance)) or instance.timeline.rotation is None)
    )


def _has_stopped(instance: InstanceRecord) -> bool:
    return instance.care is not None and bool(instance.care.verdict)


def resumed(record: DeploymentRecord, now: float) -> DeploymentRecord:
    """The deployment's record after ``resume``; the very same if it is not paused."""
    return record if record.paused is None else replace(record, paused=None, resumed=now)


def paused(record: DeploymentRecord, reason: str, now: float) -> DeploymentRecord:
    """The deployment's record after ``pause``; one that is paused stays so since then, for the reason said last."""
    since = record.paused.since if record.paused is not None else now
    return replace(record, paused=Pause(since, reason))


def withdrawn(record: DeploymentRecord, *, with_volumes: bool) -> DeploymentRecord:
    """The deployment's record after ``down``; once its volumes are to go, they go."""
    is_erased = with_volumes or record.wanted is Wanted.ERASED
    return replace(record, wanted=Wanted.ERASED if is_erased else Wanted.GONE)


def shrunk(
    intent: Intent, hosts: Iterable[HostSeen], record: DeploymentRecord
) -> list[tuple[tuple[str | int, ...], str]]:
    """(path in the service file, what is wrong) of each disk that would be smaller than it is now."""
    sizes = {file: size for host in hosts for file, size in host.sizes.items()}
    found: list[tuple[tuple[str | int, ...], str]] = []
    for role in record.service.roles:
        for disk in role.disks:
            now_mib = max([_recorded(intent, record.id, role.name, disk), *_made(sizes, record, role, disk)])
            if now_mib > disk.size_mib:
                section = "volumes" if disk.kind is DiskKind.VOLUME else "local_storage"
                path = ("roles", role.name, section, disk.name, "size")
                found.append((path, f"is {disk.size_mib} MiB, but the disk has {now_mib} MiB: disks never shrink"))
    return found


def _recorded(intent: Intent, key: DeploymentId, role: str, disk: Disk) -> int:
    known = intent.deployment(key)
    before = known.service.role(role) if known is not None else None
    disks = before.disks if before is not None else ()
    return max((old.size_mib for old in disks if (old.kind, old.name) == (disk.kind, disk.name)), default=0)


def _made(sizes: Mapping[str, int], record: DeploymentRecord, role: Role, disk: Disk) -> list[int]:
    """The sizes of this volume of each of the role's instances, in MiB: it may be left from an earlier deployment."""
    if disk.kind is not DiskKind.VOLUME:
        return []
    instances = [InstanceId(record.id, role.name, ordinal) for ordinal in record.ordinals(role.name)]
    ids = [VolumeId(instance, disk.name) for instance in instances]
    return [sizes[volume.file] // MIB for volume in ids if volume.file in sizes]


def after(intent: Intent, record: DeploymentRecord, instances: Iterable[InstanceRecord] = ()) -> Intent:
    """The intent with these records in place of what it had of them."""
    changed = {instance.id: instance for instance in instances}
    others = tuple(known for known in intent.deployments if known.id != record.id)
    members = tuple(changed.get(known.id, known) for known in intent.instances)
    return replace(intent, deployments=(*others, record), instances=members)


def free_subnets(
    pools: Mapping[str, IPv4Network], hosts: Mapping[str, HostSeen], intent: Intent
) -> dict[str, IPv4Network]:
    """One /24 of each host's pool, the same one counted from each pool's start, that nobody there has. Raises Refused.

    The same number on every host is what lets a lab's rules tell one deployment's instances from another's.
    """
    taken = {name: _taken(host, intent) for name, host in hosts.items()}
    for choice in zip(*(pool.subnets(new_prefix=SUBNET_BITS) for pool in pools.values()), strict=False):
        subnets = dict(zip(pools, choice, strict=True))
        if not any(subnet.overlaps(other) for name, subnet in subnets.items() for other in taken[name]):
            return subnets
    wanted = ", ".join(f"{pool} on {name}" for name, pool in pools.items())
    raise Refused(f"no network is free in {wanted}", "`vmrole ls` shows the deployments; take one down")


def _taken(host: HostSeen, intent: Intent) -> set[IPv4Network]:
    recorded = {record.subnets[host.name] for record in intent.deployments if host.name in record.subnets}
    return recorded | {network.subnet for network in host.networks.values() if network.subnet is not None}


def clashes(record: DeploymentRecord, listeners: Iterable[tuple[str, int]], own: Iterable[int]) -> dict[int, str]:
    """VIP ports that somebody else listens on already: port → the address there. ``own``: ports that are HAProxy's."""
    every = {"*", "0.0.0.0", "::", record.vip}  # noqa: S104 - compared with, not bound to
    wanted = {
        port
        for role in record.service.roles
        for endpoint in role.endpoints
        if endpoint.ports != (0, 0)
        for port in range(endpoint.ports[0], endpoint.ports[1] + 1)
    } - set(own)
    return {port: address for address, port in sorted(listeners) if port in wanted and address in every}
