"""What instances stand on: a pool, images and networks on each host; and its removal when nobody stands there. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.engine.rollout import current
from orchestrator.model.action import (
    Action,
    ChangeLeases,
    CreateNetwork,
    CreatePool,
    DeleteNetwork,
    DeletePool,
    DeleteVolume,
    DestroyDomain,
    PlaceImage,
    SaveCopy,
    UndefineDomain,
)
from orchestrator.model.making import images_of
from orchestrator.model.names import (
    DeploymentId,
    base_marker,
    base_volume,
    digest_of_volume,
    machine_of_volume,
    parse_copy,
    parse_disk,
    parse_machine,
)
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Wanted, by_deployment
from orchestrator.model.world import HostName, HostSeen, Lease, Power

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from orchestrator.model.names import InstanceId


def prepare(
    host: HostSeen,
    deployments: Sequence[DeploymentRecord],
    instances: Sequence[InstanceRecord],
    arriving: Sequence[InstanceRecord],
    owner: str,
    offered: Collection[InstanceId] = frozenset(),
) -> tuple[Action, ...]:
    """The steps that a host needs before its instances' machines can be made there.

    ``arriving``: instances as they will be with their next machine; their disks are made beforehand. ``offered``:
    those that their role's name stands for, too.
    """
    local = [r for r in (*instances, *arriving) if r.host == host.name and r.wanted is not Wanted.GONE]
    coming = _coming(host, deployments)
    if host.problem or not (local or coming):
        return ()
    pool: list[Action] = [] if host.has_pool else [CreatePool(host.name)]
    digests = sorted({digest for record in local for digest in record.machine.images} | coming)
    images = [PlaceImage(host.name, digest) for digest in digests if not has_base(host, digest)]
    return (
        *pool,
        *images,
        *_networks(host, deployments, instances, arriving, owner, offered),
        *_copies(host, deployments, local),
    )


def _coming(host: HostSeen, deployments: Sequence[DeploymentRecord]) -> set[str]:
    """Images of upgrades under way, wherever their instances are: each may have to move before it is over."""
    return {
        digest
        for record in deployments
        if host.name in record.subnets and record.wanted is Wanted.UP and (under_way := current(record)) is not None
        for role in under_way.roles
        for digest in images_of(record.digests, record.platforms, role)
    }


def has_base(host: HostSeen, digest: str) -> bool:
    """Whether an image is on a host as it came."""
    return {base_marker(digest), base_volume(digest)} <= host.volumes and digest not in host.altered


def _networks(
    host: HostSeen,
    deployments: Sequence[DeploymentRecord],
    instances: Sequence[InstanceRecord],
    arriving: Sequence[InstanceRecord],
    owner: str,
    offered: Collection[InstanceId],
) -> list[Action]:
    steps: list[Action] = []
    staying, moving = by_deployment(instances), by_deployment(arriving)
    for record in deployments:
        own = [r for r in staying.get(record.id, ()) if r.wanted is not Wanted.GONE]
        local = [r for r in (*own, *moving.get(record.id, ())) if r.host == host.name]
        seen = host.networks.get(record.id.network)
        if not local or (seen is not None and seen.owner != owner):
            continue
        leases, names = _leases(local), _host_names(own, offered)
        if seen is None or not seen.active:
            subnet = record.subnets[host.name]
            steps.append(CreateNetwork(host.name, record.id, subnet, leases, names, record.isolated))
        elif (seen.leases, seen.names) != (leases, names) or not seen.is_ruled:
            steps.append(ChangeLeases(host.name, record.id.network, leases, names))
    return steps


def _copies(host: HostSeen, deployments: Sequence[DeploymentRecord], local: Sequence[InstanceRecord]) -> list[Action]:
    """Keep each deployment's record beside its machines, and drop what it was before once that is done."""
    steps: list[Action] = []
    here = {record.id.deployment for record in local}
    for record in deployments:
        wanted = record.copy
        if record.id not in here or record.wanted is not Wanted.UP:
            continue
        if wanted.marker not in host.volumes:
            steps.append(SaveCopy(host.name, record))
        else:
            # The marker goes first ("ok" sorts after "json"): a file without one is not taken for whole.
            files = reversed(host.copies.get(record.id, ()))
            steps += [DeleteVolume(host.name, file) for file in files if file not in {wanted.file, wanted.marker}]
    return steps


def _leases(records: Iterable[InstanceRecord]) -> frozenset[Lease]:
    return frozenset(Lease(record.id.mac, record.dip, record.id.name) for record in records)


def _host_names(records: Iterable[InstanceRecord], offered: Collection[InstanceId]) -> frozenset[HostName]:
    """Each instance's own name, and its role's, which leads to all of them that are ready.

    The role's with its domain as well: resolvers ask for that first, and a short name has few ranks.
    """
    known = tuple(records)
    own = {HostName(record.dip, record.id.name) for record in known}
    shared = {
        HostName(record.dip, name, 1 + record.id.ordinal)
        for record in known
        if record.id in offered
        for name in (record.id.role, f"{record.id.role}.{record.id.deployment.domain}")
    }
    return frozenset(own | {name for name in shared if name.fits})


def sweep(host: HostSeen, deployment: DeploymentId, owner: str, *, is_erased: bool) -> tuple[Action, ...]:
    """The steps that leave nothing of a deployment on a host, recorded or not; only what carries our mark.

    Volumes, with their snapshots, stay unless ``is_erased``.
    """
    steps: list[Action] = []
    for name, domain in sorted(host.domains.items()):
        machine = domain.machine or parse_machine(name)
        if machine is not None and machine.instance.deployment == deployment and domain.owner == owner:
            steps += [] if domain.power is Power.OFF else [DestroyDomain(host.name, name)]
            steps += [UndefineDomain(host.name, name)] if domain.is_persistent else []
    for volume in sorted(host.volumes):
        if _belongs(volume, deployment, with_volumes=is_erased) and not _users(host, volume, deployment):
            steps.append(DeleteVolume(host.name, volume))
    network = host.networks.get(deployment.network)
    if network is not None and network.owner == owner:
        steps.append(DeleteNetwork(host.name, network.name))
    return tuple(steps)


def is_in_use(host: HostSeen, deployment: DeploymentId) -> bool:
    """Whether somebody else's machine runs on a file of a deployment."""
    mine = (file for file in host.volumes if _belongs(file, deployment, with_volumes=True))
    return any(_users(host, file, deployment) for file in mine)


def _users(host: HostSeen, file: str, deployment: DeploymentId) -> list[str]:
    """Domains that are on, have a file open, and are none of the deployment's machines."""
    on = host.users.get(file, ())
    return [d.name for d in on if d.machine is None or d.machine.instance.deployment != deployment]


def _belongs(volume: str, deployment: DeploymentId, *, with_volumes: bool) -> bool:
    machine, disk, copy = machine_of_volume(volume), parse_disk(volume), parse_copy(volume)
    if machine is not None:
        return machine.instance.deployment == deployment
    if disk is not None:
        return disk.volume.instance.deployment == deployment and (with_volumes or disk.place > 0)
    return copy is not None and copy.deployment == deployment


def tidy(host: HostSeen, needed: Iterable[str]) -> tuple[Action, ...]:
    """The steps that free a host of images that nobody needs there, and of the pool if nothing else is in it.

    ``needed``: digests that some instance or deployment stands on. While any machine's file is in the pool nothing
    is freed, as its base is known only to the file itself. Volumes stand on nothing, but keep the pool.
    """
    if host.problem or not host.has_pool or any(machine_of_volume(volume) for volume in host.volumes):
        return ()
    wanted = {name for digest in needed for name in (base_volume(digest), base_marker(digest))}
    # The marker goes first ("ok" > "qcow2" is not alphabetical luck): a base without it is never built upon.
    unused = sorted(
        (v for v in host.volumes if digest_of_volume(v) is not None and v not in wanted),
        key=lambda v: (not v.endswith(".ok"), v),
    )
    is_kept = bool(wanted) or any(parse_disk(volume) or parse_copy(volume) for volume in host.volumes)
    return (*(DeleteVolume(host.name, volume) for volume in unused), *(() if is_kept else (DeletePool(host.name),)))
