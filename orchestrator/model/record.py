"""What the store keeps: intent, and what nobody else knows. Never a copy of what libvirt or HAProxy can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network

from orchestrator.model.names import DeploymentId, InstanceId
from orchestrator.model.spec import MachineSpec, Service


class Wanted(Enum):
    """What is wanted of a deployment or an instance."""

    UP = "up"
    GONE = "gone"


class Stage(Enum):
    """How far a machine has got; each names what it is waiting for next. The order is the road to rotation."""

    NETWORK = "network"
    IMAGE = "image"
    DEFINE = "define"
    START = "start"
    AGENT = "agent"
    SETUP = "setup"
    SERVICES = "services"
    ROTATION = "rotation"


@dataclass(frozen=True, slots=True)
class Timeline:
    """When the current machine reached each stage, in Unix seconds; None until then."""

    requested: float
    defined: float | None = None
    started: float | None = None
    agent: float | None = None
    setup: float | None = None
    services: float | None = None
    rotation: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why the current machine will not become ready: at which stage, why, and the last console lines.

    ``is_final``: setup itself failed; no later boot of this machine runs it again.
    """

    stage: Stage
    reason: str
    at: float
    console: tuple[str, ...] = ()
    is_final: bool = False


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment as wanted.

    ``digests``: role → image digest, pinned by ``up``. ``subnets``: host → its network there. ``version`` is the
    row's, for compare-and-swap; 0 is not stored yet.
    """

    id: DeploymentId
    service: Service
    revision: int
    digests: Mapping[str, str]
    vip: str
    subnets: Mapping[str, IPv4Network]
    wanted: Wanted = Wanted.UP
    version: int = 0


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as wanted, and its current machine's progress.

    ``boot_id``: the guest kernel's own, of the boot whose readiness ``timeline`` tells; "" until the agent told it.
    ``has_run``: its overlay has been used, and is kept as long as the machine. ``starts``: how often it was seen to
    start without becoming ready since. ``deadline``: Unix seconds by which it has to be ready.
    """

    id: InstanceId
    host: str
    dip: str
    generation: int
    machine: MachineSpec
    timeline: Timeline
    deadline: float
    boot: int = 1
    boot_id: str = ""
    has_run: bool = False
    starts: int = 0
    failure: Failure | None = None
    wanted: Wanted = Wanted.UP
    version: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed, for people: what (``subject``), what happened, why, and who did it."""

    at: float
    subject: str
    what: str
    cause: str = ""
    actor: str = "loop"


@dataclass(frozen=True, slots=True)
class Intent:
    """The whole of the store at one moment, as the plan sees it. ``owner`` marks what is ours on a host."""

    owner: str
    deployments: tuple[DeploymentRecord, ...] = ()
    instances: tuple[InstanceRecord, ...] = field(default=())

    def members(self, deployment: DeploymentId) -> tuple[InstanceRecord, ...]:
        return tuple(record for record in self.instances if record.id.deployment == deployment)

    def deployment(self, key: DeploymentId) -> DeploymentRecord | None:
        return next((record for record in self.deployments if record.id == key), None)
