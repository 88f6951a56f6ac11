"""What the store keeps: intent, and what nobody else knows. Never a copy of what libvirt or HAProxy can be asked."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from ipaddress import IPv4Network
from itertools import count as counted
from itertools import islice

from orchestrator.model.load import Scaled
from orchestrator.model.making import MachineSpec, machine_spec
from orchestrator.model.names import DeploymentCopy, DeploymentId, InstanceId, Slot
from orchestrator.model.rollout import Good, Rollout
from orchestrator.model.spec import Platform, Role, Service


class Wanted(Enum):
    """What is wanted of a deployment or an instance. STOPPED: an instance that holds its place, switched off.

    ERASED: a deployment that is to be gone with its volumes.
    """

    UP = "up"
    STOPPED = "stopped"
    GONE = "gone"
    ERASED = "erased"


class Act(Enum):
    """What can be done to an instance's machine, in the words of the command line."""

    REBOOT = "reboot"
    REIMAGE = "reimage"
    UNDO = "undo-reimage"
    RELOCATE = "relocate"
    STOP = "stop"
    START = "start"
    UPGRADE = "upgrade"
    DELETE = "delete"


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
class Successor:
    """The machine that takes over as soon as the current one is at rest; its disks are made before.

    ``act`` is why, ``cause`` says it in words. For UNDO it is an older machine, whose overlay has been kept.
    """

    act: Act
    generation: int
    machine: MachineSpec
    host: str
    dip: str
    place: int
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Kept:
    """The machine before the last reimage: its overlay is kept for a way back.

    ``until``: Unix seconds, None as long as the new machine has not been ready. ``is_set_up``: as of an instance.
    """

    generation: int
    machine: MachineSpec
    boot: int
    failure: Failure | None = None
    until: float | None = None
    is_set_up: bool = False


@dataclass(frozen=True, slots=True)
class Farewell:
    """A machine on its way to rest, in Unix seconds: drained since ``since``, then asked to shut down, then cut off."""

    act: Act
    since: float
    asked: float | None = None
    cut: float | None = None


class Remedy(Enum):
    """A rung of the repair ladder that does something; the order is the ladder's."""

    RESTART = "restart"
    REBOOT = "reboot"
    REIMAGE = "reimage"
    RELOCATE = "relocate"


@dataclass(frozen=True, slots=True)
class Care:
    """What repair has done about an instance since it was healthy, in Unix seconds.

    ``evidence``: what was found wrong last. ``out``: since when it is kept out of rotation, None if it is not.
    ``remedy``: the rung taken last, ``tries`` times, the last one ``at``. ``is_deaf``: nobody in the guest hears us,
    so nobody is asked. ``panics``: how often its kernel died since the last rung. ``verdict``: why repair has stopped,
    "" if it has not. ``well``: healthy again since then.
    """

    since: float
    evidence: str
    out: float | None = None
    remedy: Remedy | None = None
    tries: int = 0
    at: float = 0.0
    is_deaf: bool = False
    panics: int = 0
    verdict: str = ""
    well: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    """A deployment that is left alone for maintenance: since when (Unix seconds), and why, in words."""

    since: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DeploymentRecord:
    """A deployment as wanted. ``isolated``: its network leads nowhere but to its host.

    ``paused``: nothing is repaired or upgraded meanwhile; ``resumed``: when that ended last, in Unix seconds.
    ``digests``: role → image digest, pinned by ``up``, and ``platforms`` what that image asks for (a role without:
    the default). ``subnets``: host → its network there. ``version`` is the row's, for compare-and-swap; 0 is not
    stored yet. ``counts``: role → how many instances there should be, where that is not what the file says;
    ``left_out``: role → ordinals that none of them has. ``rollout``: the upgrade that is under way; ``good``: the last
    revisions that were healthy all through, the newest first. ``scaled``: role → when its number was
    changed last by its figures. ``swaps``: how often its VIP was exchanged with the other slot's. ``asked``: the
    revision in which somebody said last what machines are made of, if only their number was changed since; else 0.
    """

    id: DeploymentId
    service: Service
    revision: int
    digests: Mapping[str, str]
    vip: str
    subnets: Mapping[str, IPv4Network]
    wanted: Wanted = Wanted.UP
    isolated: bool = False
    paused: Pause | None = None
    resumed: float = 0.0
    version: int = 0
    platforms: Mapping[str, Platform] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    rollout: Rollout | None = None
    good: tuple[Good, ...] = ()
    scaled: Mapping[str, Scaled] = field(default_factory=dict)
    swaps: int = 0
    asked: int = 0

    @property
    def is_live(self) -> bool:
        """Whether it has the VIP that its service is known by: production's, or staging's after a swap."""
        return (self.id.slot == Slot.PRODUCTION.value) == (self.swaps % 2 == 0)

    @property
    def copy(self) -> DeploymentCopy:
        """What its copy on a host is called."""
        return DeploymentCopy(self.id, self.revision, self.swaps)

    def count(self, name: str) -> int:
        """How many instances of a role there should be; 0 of one that it does not have."""
        role = self.service.role(name)
        return 0 if role is None else self.counts.get(name, role.instances)

    def ordinals(self, name: str) -> tuple[int, ...]:
        """The ordinals that a role's instances should have: the lowest that are not left out."""
        left_out = self.left_out.get(name, ())
        return tuple(islice((ordinal for ordinal in counted() if ordinal not in left_out), self.count(name)))

    def machine(self, role: Role) -> MachineSpec:
        """What an instance of ``role`` is to be made of."""
        return machine_spec(role, self.digests[role.name], self.platforms.get(role.name, Platform()))

    def as_copied(self) -> DeploymentRecord:
        """What a copy of it on a host holds: all that a user wanted, nothing that the loop writes as it goes."""
        return replace(self, rollout=None, good=(), version=0)


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as wanted, and its current machine's progress.

    ``boot_id``: the guest kernel's own, of the boot whose readiness ``timeline`` tells; "" until the agent told it.
    ``has_run``: its overlay has been used, and is kept as long as the machine. ``starts``: how often it was seen to
    start without becoming ready since. ``deadline``: Unix seconds by which it has to be ready.
    ``newest``: the highest generation that any machine of it was given. ``place`` counts the places it has lived in.
    ``reboot``: when a reboot was asked for that is still to be done. ``volumes``: names of those that have been in
    use, of which none is ever made anew. ``held``: the deployment's revision at which it was given an older machine
    back: what is asked for since then is not asked of it again. ``busy``: since when the code in it wants to be out of
    rotation, in Unix seconds. ``proven``: a machine of this make has been ready here: one that fails now is repaired.
    ``fault``: when it went out of service by itself, None once it is back. ``stuck``: why its machine stands still and
    is not resumed, as it was told last. ``is_set_up``: the machine has been ready, and keeps its answer file itself.
    ``awaits``: roles that have not been ready yet, without which its machine is not started. ``hooks``: which programs
    in its guest ended badly when it was last told of its deployment.
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
    newest: int = 1
    place: int = 1
    reboot: float | None = None
    next: Successor | None = None
    kept: Kept | None = None
    farewell: Farewell | None = None
    volumes: tuple[str, ...] = ()
    held: int = 0
    busy: float | None = None
    proven: bool = False
    care: Care | None = None
    fault: float | None = None
    stuck: str = ""
    is_set_up: bool = False
    version: int = 0
    awaits: tuple[str, ...] = ()
    hooks: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed, for people: what (``subject``), what happened, why, and who did it."""

    at: float
    subject: str
    what: str
    cause: str = ""
    actor: str = "loop"


@dataclass(frozen=True)
class Intent:
    """The whole of the store at one moment, as the plan sees it. ``owner`` marks what is ours on a host.

    Without slots: who belongs to whom is sorted out once, when it is first asked for.
    """

    owner: str
    deployments: tuple[DeploymentRecord, ...] = ()
    instances: tuple[InstanceRecord, ...] = field(default=())

    def members(self, deployment: DeploymentId) -> tuple[InstanceRecord, ...]:
        return self._members.get(deployment, ())

    def deployment(self, key: DeploymentId) -> DeploymentRecord | None:
        return self._deployments.get(key)

    @cached_property
    def _members(self) -> Mapping[DeploymentId, tuple[InstanceRecord, ...]]:
        return by_deployment(self.instances)

    @cached_property
    def _deployments(self) -> Mapping[DeploymentId, DeploymentRecord]:
        return {record.id: record for record in self.deployments}


def by_deployment(records: Iterable[InstanceRecord]) -> Mapping[DeploymentId, tuple[InstanceRecord, ...]]:
    """The instances of each deployment that has any, in the order given."""
    found = defaultdict(list)
    for record in records:
        found[record.id.deployment].append(record)
    return {key: tuple(members) for key, members in found.items()}
