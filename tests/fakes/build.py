"""Short ways to say the values that tests need."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network

from orchestrator.engine.rotation import fingerprint, layout, routes, signature
from orchestrator.model.action import Frontend, Server
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import DeploymentId, InstanceId, MachineId
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Timeline
from orchestrator.model.setup import Setup
from orchestrator.model.spec import Endpoint, Protocol, Role, Service, Size, Visibility
from orchestrator.model.world import BalancerSeen, ServerSeen, ServerState

from .small import digest_of

OWNER = "0badcafe"
NOW = 1_700_000_000.0
HELLO = DeploymentId("hello")
WEB = InstanceId(HELLO, "web", 0)
DIGEST = digest_of("debian-12")
HTTP = Endpoint("http", (80, 80), 8080, Protocol.HTTP, check_path="/healthz")
SSH = Endpoint("ssh", (9100, 9109), 22, visibility=Visibility.INSTANCE)
GOSSIP = Endpoint("gossip", (0, 0), 9000, visibility=Visibility.INTERNAL)


def role(name: str = "web", instances: int = 1, **changes: object) -> Role:
    fields: dict = {"image": "debian-12", "endpoints": (HTTP,), **changes}
    return Role(name, fields.pop("image"), instances, **fields)


def service(*roles: Role, name: str = "hello") -> Service:
    return Service(name, roles or (role(),))


def deployment(what: Service | None = None, **changes: object) -> DeploymentRecord:
    wanted = what or service()
    fields: dict = {
        "id": DeploymentId(wanted.name),
        "service": wanted,
        "revision": 1,
        "digests": {r.name: digest_of(r.image) for r in wanted.roles},
        "vip": "198.51.100.1",
        "subnets": {"local": IPv4Network("198.18.0.0/24")},
    }
    return DeploymentRecord(**{**fields, **changes})


def record(key: InstanceId = WEB, *, timeline: Mapping[str, float] | None = None, **changes: object) -> InstanceRecord:
    fields: dict = {
        "id": key,
        "host": "local",
        "dip": f"198.18.0.{10 + key.ordinal}",
        "generation": 1,
        "machine": MachineSpec(DIGEST, Size(), Setup()),
        "timeline": Timeline(NOW, **(timeline or {})),
        "deadline": NOW + 300,
        "version": 1,
    }
    return InstanceRecord(**{**fields, **changes})


def web(ordinal: int, generation: int = 1, *, key: DeploymentId = HELLO) -> MachineId:
    return MachineId(InstanceId(key, "web", ordinal), generation)


READY = {"defined": NOW, "started": NOW, "agent": NOW, "setup": NOW, "services": NOW, "rotation": NOW}


def balanced(fronts: Sequence[Frontend], members: Sequence[Server], **changes: object) -> BalancerSeen:
    """An HAProxy that runs with these frontends, and sends to these members."""
    seen = {(s.backend, s.name): ServerSeen(s.address, s.port, ServerState.READY, True) for s in members}
    vips, ways = frozenset(front.vip for front in fronts), signature(routes(fronts))
    known = BalancerSeen(True, layout(fronts), fingerprint(fronts, members), seen, vips, routes=ways)
    return replace(known, **changes)
