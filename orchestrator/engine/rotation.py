"""What HAProxy should serve: frontends from the deployments, servers from the instances that are ready. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from orchestrator.model.action import Frontend, Server
from orchestrator.model.names import DeploymentId, MachineId
from orchestrator.model.spec import Endpoint, Role, Visibility

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.model.record import DeploymentRecord, InstanceRecord

FORM = 2  # of HAProxy's file: it is written anew when what is in it beside frontends and servers has changed


def backend_name(deployment: DeploymentId, role: str, endpoint: Endpoint, ordinal: int) -> str:
    """The backend of an endpoint; an instance endpoint has one for each ordinal."""
    name = f"{deployment}.{role}.{endpoint.name}"
    return f"{name}.{ordinal}" if endpoint.visibility is Visibility.INSTANCE else name


def backends(deployment: DeploymentId, role: Role) -> tuple[str, ...]:
    """The names of the backends behind all that a role offers on the VIP."""
    return tuple(
        backend_name(deployment, role.name, endpoint, ordinal)
        for endpoint in role.endpoints
        if endpoint.visibility is not Visibility.INTERNAL
        for ordinal in range(endpoint.ports[1] - endpoint.ports[0] + 1)
    )


def frontends(deployments: Iterable[DeploymentRecord]) -> tuple[Frontend, ...]:
    """Every VIP port of these deployments, in a stable order."""
    found = [
        frontend
        for record in deployments
        for role in record.service.roles
        for endpoint in role.endpoints
        for frontend in _frontends(record, role, endpoint)
    ]
    return tuple(sorted(found, key=lambda frontend: frontend.name))


def _frontends(record: DeploymentRecord, role: Role, endpoint: Endpoint) -> list[Frontend]:
    if endpoint.visibility is Visibility.INTERNAL:
        return []
    first, last = endpoint.ports
    ordinals = range(last - first + 1)
    return [
        Frontend(
            backend_name(record.id, role.name, endpoint, ordinal),
            record.vip,
            first + ordinal,
            endpoint.protocol,
            endpoint.check_path,
            endpoint.traffic,
        )
        for ordinal in ordinals
    ]


def servers(record: InstanceRecord, role: Role, *, is_ready: bool = True) -> tuple[Server, ...]:
    """The servers that stand for this instance's current machine, one for each endpoint that the VIP offers.

    Without ``is_ready`` only those of endpoints that do not care for the instance's status.
    """
    name = MachineId(record.id, record.generation).server
    return tuple(
        Server(
            backend_name(record.id.deployment, role.name, endpoint, record.id.ordinal),
            name,
            record.dip,
            endpoint.target,
        )
        for endpoint in role.endpoints
        if _serves(endpoint, record.id.ordinal) and (is_ready or endpoint.ignore_instance_status)
    )


def _serves(endpoint: Endpoint, ordinal: int) -> bool:
    if endpoint.visibility is Visibility.INSTANCE:
        return ordinal <= endpoint.ports[1] - endpoint.ports[0]
    return endpoint.visibility is Visibility.INPUT


def layout(wanted: Iterable[Frontend]) -> str:
    """A short text that is the same for the same VIP ports and backends: HAProxy carries it, so that it can be asked.

    Which port leads to which backend is not in it: that can be changed while HAProxy runs.
    """
    every = tuple(wanted)
    doors = ((f.address, f.protocol, f.traffic.tls, f.traffic.max_connections, f.traffic.idle_s) for f in every)
    ports = sorted(repr(door) for door in doors)
    backends = sorted(repr((f.name, f.protocol, f.check_path, f.traffic)) for f in every)
    return _short((ports, backends))


def routes(wanted: Iterable[Frontend]) -> dict[str, str]:
    """Which backend each VIP port leads to."""
    return {front.address: front.name for front in wanted}


def signature(ways: Mapping[str, str]) -> str:
    """A short text that is the same for the same routes."""
    return _short(sorted(ways.items()))


def fingerprint(wanted: Iterable[Frontend], members: Iterable[Server]) -> str:
    """Identifies a whole file of HAProxy's: frontends and the servers that it starts with."""
    whole = (FORM, tuple(wanted), tuple(sorted(members, key=lambda s: (s.backend, s.name))))
    return _short(whole)


def _short(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]
