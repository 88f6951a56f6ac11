"""Every effect that vmrole can have, as a closed union of values: a plan can be printed, compared and cut anywhere.

Each action is idempotent or refuses: applying it twice, or after a crash half-way through it, does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network

from orchestrator.model.guard import Firewall, Guard
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import DeploymentId, InstanceId, MachineId, VolumeId
from orchestrator.model.record import Act, DeploymentRecord, Event, InstanceRecord
from orchestrator.model.spec import LINUX, Disk, Protocol, Ready, Traffic
from orchestrator.model.vicinity import Vicinity
from orchestrator.model.world import HostName, Lease


@dataclass(frozen=True, slots=True)
class CreatePool:
    """Make our storage pool on a host."""

    host: str


@dataclass(frozen=True, slots=True)
class DeletePool:
    """Remove our storage pool from a host, with stray files of ours in it."""

    host: str


@dataclass(frozen=True, slots=True)
class PlaceImage:
    """Upload an image from the repository to a host's pool."""

    host: str
    digest: str


@dataclass(frozen=True, slots=True)
class CreateNetwork:
    """Define and start a deployment's network on a host (start only, if it is defined).

    ``isolated``: it leads nowhere but to the host.
    """

    host: str
    deployment: DeploymentId
    subnet: IPv4Network
    leases: frozenset[Lease]
    names: frozenset[HostName]
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class ChangeLeases:
    """Give a running network these DHCP reservations and host names, without disturbing those that stay."""

    host: str
    network: str
    leases: frozenset[Lease]
    names: frozenset[HostName]


@dataclass(frozen=True, slots=True)
class DeleteNetwork:
    """Stop and undefine a network."""

    host: str
    network: str


@dataclass(frozen=True, slots=True)
class CreateOverlay:
    """Make a machine's writable disk on its base."""

    host: str
    machine: MachineId
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CreateSeed:
    """Make a machine's answer file disc. ``around``: what its templates may speak of beside the record."""

    host: str
    machine: MachineId
    record: InstanceRecord
    around: Vicinity = field(default_factory=Vicinity)


@dataclass(frozen=True, slots=True)
class DefineDomain:
    """Make a machine known to libvirt, with its console log."""

    host: str
    machine: MachineId
    spec: MachineSpec
    place: int
    has_seed: bool = True


@dataclass(frozen=True, slots=True)
class DefineFilter:
    """Give an instance's interface these rules, now if its machine runs; no connection that they allow is cut."""

    host: str
    guard: Guard


@dataclass(frozen=True, slots=True)
class DeleteFilter:
    """Remove the filter of an instance that is not on the host any more."""

    host: str
    name: str


@dataclass(frozen=True, slots=True)
class PlugFilter:
    """Put a machine that was made without its filter behind it, now and for its next starts."""

    host: str
    machine: MachineId


@dataclass(frozen=True, slots=True)
class EjectSeed:
    """Take a machine's answer file out of its disc drive: it has kept what it needs of it."""

    host: str
    machine: MachineId


@dataclass(frozen=True, slots=True)
class CreateDisk:
    """Make an empty disk beside the overlay; one that is there stays as it is."""

    host: str
    file: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class GrowDisk:
    """Enlarge a disk, and its file system if the machine runs. ``machine`` None: nobody has it open.

    ``system``: the guest's.
    """

    host: str
    file: str
    size_bytes: int
    machine: MachineId | None
    disk: Disk
    system: str = LINUX


@dataclass(frozen=True, slots=True)
class MoveVolume:
    """Copy a volume that nobody has open to another host; the old one stays until that is done."""

    source: str
    host: str
    volume: VolumeId
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SaveCopy:
    """Keep a deployment's record on a host, beside its machines."""

    host: str
    record: DeploymentRecord


@dataclass(frozen=True, slots=True)
class ShutDown:
    """Give a guest notice of what is done to it, and ask it to shut down."""

    host: str
    machine: MachineId
    act: Act


@dataclass(frozen=True, slots=True)
class RestartServices:
    """Have the guest's service manager restart these services."""

    host: str
    machine: MachineId
    services: tuple[str, ...]
    system: str = LINUX


@dataclass(frozen=True, slots=True)
class Tell:
    """Give a running guest its runtime file anew. ``dip``, ``ready``: how it is reached; ``system``: as of Platform."""

    host: str
    machine: MachineId
    text: str
    dip: str
    ready: Ready
    system: str


@dataclass(frozen=True, slots=True)
class StartDomain:
    """Power a machine on."""

    host: str
    machine: MachineId


@dataclass(frozen=True, slots=True)
class DestroyDomain:
    """Power a machine off, at once."""

    host: str
    domain: str


@dataclass(frozen=True, slots=True)
class ResumeDomain:
    """Let a paused machine run on."""

    host: str
    domain: str


@dataclass(frozen=True, slots=True)
class UndefineDomain:
    """Make libvirt forget a machine that is off."""

    host: str
    domain: str


@dataclass(frozen=True, slots=True)
class DeleteVolume:
    """Delete a file of our pool."""

    host: str
    volume: str


@dataclass(frozen=True, slots=True)
class Server:
    """One instance's port behind a backend."""

    backend: str
    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Frontend:
    """A VIP port and the backend behind it, which has the name ``name``; HAProxy calls the port by its ``address``.

    So a port can lead to another backend while HAProxy runs.

    A certificate is in it as a reference only: this value is printed and compared.
    """

    name: str
    vip: str
    port: int
    protocol: Protocol
    check_path: str = ""
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def address(self) -> str:
        """``198.51.100.1:80``."""
        return f"{self.vip}:{self.port}"


@dataclass(frozen=True, slots=True)
class ConfigureBalancer:
    """Write HAProxy's file and make it run with these frontends: start it, reload it, or neither is needed."""

    frontends: tuple[Frontend, ...]
    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class SaveServers:
    """Write HAProxy's file anew, for its next start, without touching the running one."""

    frontends: tuple[Frontend, ...]
    servers: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """Have every VIP port lead to the backend that it has in these frontends: all of them at once, without a reload."""

    frontends: tuple[Frontend, ...]


@dataclass(frozen=True, slots=True)
class StopBalancer:
    """End HAProxy."""


@dataclass(frozen=True, slots=True)
class SetFirewall:
    """Let in to the VIPs what the deployments declare, and nothing else. None: there is nothing to guard any more."""

    firewall: Firewall | None


@dataclass(frozen=True, slots=True)
class AddVip:
    """Give the balancer's interface a VIP."""

    vip: str


@dataclass(frozen=True, slots=True)
class RemoveVip:
    """Take a VIP from the balancer's interface."""

    vip: str


@dataclass(frozen=True, slots=True)
class AddServer:
    """Put a server into rotation: add it in maintenance, then enable it. ``frontend``: the one that it is behind."""

    server: Server
    frontend: Frontend


@dataclass(frozen=True, slots=True)
class DrainServer:
    """Let a server finish its connections, and give it no new ones."""

    backend: str
    name: str


@dataclass(frozen=True, slots=True)
class RemoveServer:
    """Take a server out of rotation, ending what connections it still has."""

    backend: str
    name: str


@dataclass(frozen=True, slots=True)
class SaveInstance:
    """Store an instance's record (compare-and-swap on its version) and say why, if there is something to say."""

    record: InstanceRecord
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class SaveDeployment:
    """Store a deployment's record (compare-and-swap on its version) as the loop has changed it, and say why.

    What the loop writes is what only it knows (how far an upgrade has got); never a new revision.
    """

    record: DeploymentRecord
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class ForgetInstance:
    """Remove an instance's record: nothing of it is left anywhere."""

    id: InstanceId
    event: Event


@dataclass(frozen=True, slots=True)
class ForgetDeployment:
    """Remove a deployment's record: nothing of it is left anywhere."""

    id: DeploymentId
    event: Event


Action = (
    CreatePool | DeletePool | PlaceImage | CreateNetwork | ChangeLeases | DeleteNetwork
    | CreateOverlay | CreateSeed | CreateDisk | GrowDisk | MoveVolume | SaveCopy
    | DefineDomain | EjectSeed | StartDomain | ShutDown | RestartServices | Tell | DestroyDomain | ResumeDomain
    | DefineFilter | DeleteFilter | PlugFilter
    | UndefineDomain | DeleteVolume
    | ConfigureBalancer | SaveServers | Route | StopBalancer | SetFirewall | AddVip | RemoveVip
    | AddServer | DrainServer | RemoveServer
    | SaveInstance | SaveDeployment | ForgetInstance | ForgetDeployment
)  # fmt: skip
