"""What instances stand on: a pool, images and networks on each host; and its removal when nobody stands there. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    UndefineDomain,
)
from orchestrator.model.names import (
    DeploymentId,
    base_marker,
    base_volume,
    digest_of_volume,
    machine_of_volume,
    parse_machine,
)
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Wanted
from orchestrator.model.world import HostName, HostSeen, Lease, Power

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def prepare(
    host: HostSeen,
    deployments: Sequence[DeploymentRecord],
    instances: Sequence[InstanceRecord],
    owner: str,
) -> tuple[Action, ...]:
    """The steps that a host needs before its instances' machines can be made there."""
    local = [r for r in instances if r.host == host.name and r.wanted is Wanted.UP]
    if host.problem or not local:
        return ()
    pool: list[Action] = [] if host.has_pool else [CreatePool(host.name)]
    digests = sorted({record.machine.digest for record in local})
    images = [PlaceImage(host.name, digest) for digest in digests if base_marker(digest) not in host.volumes]
    return (*pool, *images, *_networks(host, deployments, instances, owner))


def _networks(
    host: HostSeen, deployments: Sequence[DeploymentRecord], instances: Sequence[InstanceRecord], owner: str
) -> list[Action]:
    steps: list[Action] = []
    for record in deployments:
        own = [r for r in instances if r.id.deployment == record.id and r.wanted is Wanted.UP]
        local = [r for r in own if r.host == host.name]
        seen = host.networks.get(record.id.network)
        if not local or (seen is not None and seen.owner != owner):
            continue
        leases, names = _leases(local), _host_names(own)
        if seen is None or not seen.active:
            steps.append(CreateNetwork(host.name, record.id, record.subnets[host.name], leases, names))
        elif (seen.leases, seen.names) != (leases, names):
            steps.append(ChangeLeases(host.name, record.id.network, leases, names))
    return steps


def _leases(records: Iterable[InstanceRecord]) -> frozenset[Lease]:
    return frozenset(Lease(record.id.mac, record.dip, record.id.name) for record in records)


def _host_names(records: Iterable[InstanceRecord]) -> frozenset[HostName]:
    return frozenset(HostName(record.dip, record.id.name) for record in records)


def sweep(host: HostSeen, deployment: DeploymentId, owner: str) -> tuple[Action, ...]:
    """The steps that leave nothing of a deployment on a host, recorded or not; only what carries our mark."""
    steps: list[Action] = []
    for name, domain in sorted(host.domains.items()):
        machine = parse_machine(name)
        if machine is not None and machine.instance.deployment == deployment and domain.owner == owner:
            steps += [] if domain.power is Power.OFF else [DestroyDomain(host.name, name)]
            steps.append(UndefineDomain(host.name, name))
    for volume in sorted(host.volumes):
        of_machine = machine_of_volume(volume)
        if of_machine is not None and of_machine.instance.deployment == deployment:
            steps.append(DeleteVolume(host.name, volume))
    network = host.networks.get(deployment.network)
    if network is not None and network.owner == owner:
        steps.append(DeleteNetwork(host.name, network.name))
    return tuple(steps)


def tidy(host: HostSeen, needed: Iterable[str]) -> tuple[Action, ...]:
    """The steps that free a host of images that nobody needs there, and of the pool if nothing else is in it.

    ``needed``: digests that some instance or deployment stands on. While any machine's file is in the pool nothing
    is freed, as its base is known only to the file itself.
    """
    if host.problem or not host.has_pool or any(machine_of_volume(volume) for volume in host.volumes):
        return ()
    wanted = {name for digest in needed for name in (base_volume(digest), base_marker(digest))}
    # The marker goes first ("ok" > "qcow2" is not alphabetical luck): a base without it is never built upon.
    unused = sorted(
        (v for v in host.volumes if digest_of_volume(v) is not None and v not in wanted),
        key=lambda v: (not v.endswith(".ok"), v),
    )
    if wanted:
        return tuple(DeleteVolume(host.name, volume) for volume in unused)
    return (*(DeleteVolume(host.name, volume) for volume in unused), DeletePool(host.name))
