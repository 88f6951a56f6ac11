"""What the user wants, as values: the service file after validation, with nothing left to interpret."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from orchestrator.model.load import Autoscale
from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Setup
from orchestrator.model.traffic import Balance, Check, Sticky
from orchestrator.model.upgrade import Upgrade


class Protocol(Enum):
    """How HAProxy treats an endpoint's traffic. HTTPS: handed on as it is; TLS is between client and instance.

    UDP: between instances only; HAProxy carries none.
    """

    HTTP = "http"
    HTTPS = "https"
    TCP = "tcp"
    UDP = "udp"


class Visibility(Enum):
    """Who reaches an endpoint: the outside, by the VIP; the deployment's own instances; or the outside, one by one."""

    INPUT = "input"
    INTERNAL = "internal"
    INSTANCE = "instance"


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS that ends at the VIP. ``certificate``: PEM, the certificate with its chain and its key."""

    certificate: SecretRef
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True)
class Traffic:
    """How HAProxy treats an endpoint's connections.

    ``max_connections`` of the endpoint and ``max_per_instance``: more than these wait (0: no limit of ours).
    ``idle_s``: a connection on which nothing is sent for so long is closed.
    """

    check: Check = field(default_factory=Check)
    balance: Balance = Balance.ROUNDROBIN
    sticky: Sticky = Sticky.NONE
    proxy_protocol: bool = False
    max_connections: int = 0
    max_per_instance: int = 0
    idle_s: float = 60.0
    tls: Tls | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A port of a role.

    ``ports``: VIP ports, first and last: equal for an input endpoint, a range (by ordinal) for an instance
    endpoint, (0, 0) for an internal one. ``target``: the port inside the instance. ``check_path``: what HAProxy
    asks for by HTTP GET ("" : it only connects). ``ignore_instance_status``: once ready, an instance stays in this
    endpoint's rotation for as long as its machine runs; then only HAProxy's own check counts. ``last_target``: of an
    internal endpoint that is a range of ports, its last one; else 0.
    """

    name: str
    ports: tuple[int, int]
    target: int
    protocol: Protocol = Protocol.TCP
    visibility: Visibility = Visibility.INPUT
    check_path: str = ""
    traffic: Traffic = field(default_factory=Traffic)
    ignore_instance_status: bool = False
    last_target: int = 0

    @property
    def targets(self) -> tuple[int, int]:
        """First and last port inside the instance."""
        return self.target, self.last_target or self.target


@dataclass(frozen=True, slots=True)
class TrafficRule:
    """Only instances of ``sources`` reach the internal endpoint ``endpoint`` of role ``role``.

    Several rules of one endpoint add up; one without any is open to the whole deployment.
    """

    role: str
    endpoint: str
    sources: tuple[str, ...]


LINUX, WINDOWS = "linux", "windows"
BIOS, UEFI = "bios", "uefi"


@dataclass(frozen=True, slots=True)
class Platform:
    """What a machine made of an image has to be like, as the image's traits say.

    ``os``: linux or windows. ``firmware``: bios or uefi. Without ``virtio`` it gets a SATA disk and an e1000e card.
    ``drivers``: the digest of a disc with virtio's drivers and the agent, in a second drive until it is set up; "" for
    none. It is no part of what domains are marked with, so that those from before are known by their mark.
    """

    os: str = "linux"
    firmware: str = "bios"
    secure_boot: bool = False
    tpm: bool = False
    virtio: bool = True
    drivers: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Size:
    """An instance's hardware; ``disk_gib`` is the overlay's size (0: the image's own)."""

    vcpus: int = 1
    memory_mib: int = 512
    disk_gib: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """A check of the role's own. ``kind``: http, tcp (both from where HAProxy is) or exec (in the guest).

    ``path``: what is asked for by HTTP. ``words``: what is run, a shell line or an argv; exit code 0 is good.
    """

    kind: str
    port: int = 0
    path: str = ""
    words: str | tuple[str, ...] = ()
    timeout_s: float = 5.0

    @property
    def name(self) -> str:
        """How messages speak of it."""
        if self.kind == "exec":
            words = self.words if isinstance(self.words, str) else " ".join(self.words)
            return f"probe exec {words:.60}"
        return f"probe {self.kind} :{self.port}{self.path}"


class Via(Enum):
    """How it is found out how far a guest is: by its agent, by SSH, or only by what the network sees."""

    AGENT = "agent"
    SSH = "ssh"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class Ready:
    """When an instance counts as ready, and as healthy afterwards.

    ``services`` None means every auto-start service. ``successes``: good looks in a row before rotation. After that
    a look is taken every ``interval_s``; ``failures`` bad ones of the last ``window`` make it unhealthy or unknown.
    ``ssh_user``, ``ssh_key`` (a private key): for SSH only.
    """

    services: tuple[str, ...] | None = None
    timeout_s: float = 300.0
    via: Via = Via.AGENT
    probes: tuple[Probe, ...] = ()
    successes: int = 2
    interval_s: float = 5.0
    failures: int = 3
    window: int = 5
    ssh_user: str = ""
    ssh_key: SecretRef | None = None


@dataclass(frozen=True, slots=True)
class Rung:
    """One rung of the repair ladder: how often it is tried, and how long its effect is waited for."""

    tries: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Repair:
    """What is done about an instance that is not healthy, rung by rung.

    ``grace_s``: how long after a change of its state nothing below a boot is blamed on it. ``max_percent``: of the
    role's instances, at least one, that may be disturbed at once.
    """

    is_on: bool = True
    grace_s: float = 600.0
    max_percent: int = 20
    restart: Rung = Rung(1, 30.0)
    reboot: Rung = Rung(1, 60.0)
    reimage: Rung = Rung(3, 60.0)
    relocate: Rung = Rung(1, 60.0)


class DiskKind(Enum):
    """Whether a disk beside the overlay may be lost on relocation (local) or survives everything (volume)."""

    LOCAL = "local"
    VOLUME = "volume"


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk beside the overlay, with an ext4 file system mounted at ``mount``.

    ``owner`` (``user:group``) and ``mode`` (octal text) are the file system's root folder's. ``is_clean``: local
    storage that every generation gets new and empty.
    """

    name: str
    kind: DiskKind
    size_mib: int
    mount: str
    owner: str = "root:root"
    mode: str = "0755"
    is_clean: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """How an instance's machine is brought to rest, all in seconds.

    ``drain_s``: how long connections may take to finish. ``timeout_s``: how long the guest may take to shut down.
    ``keep_s``: how long after a reimage the old overlay is kept.
    """

    drain_s: float = 30.0
    timeout_s: float = 60.0
    keep_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Role:
    """A named kind of instance. ``image`` is as written in the file; what it resolved to is in the record.

    ``after``: roles whose instances have to be ready before one of this role is started for the first time.
    ``autoscale`` None: nobody but the user changes how many there are.
    ``egress``: whether its instances reach what is outside; None: as the host has it.
    """

    name: str
    image: str
    instances: int
    size: Size = field(default_factory=Size)
    endpoints: tuple[Endpoint, ...] = ()
    setup: Setup = field(default_factory=Setup)
    ready: Ready = field(default_factory=Ready)
    upgrade: Upgrade = field(default_factory=Upgrade)
    disks: tuple[Disk, ...] = ()
    stop: Stop = field(default_factory=Stop)
    repair: Repair = field(default_factory=Repair)
    after: tuple[str, ...] = ()
    autoscale: Autoscale | None = None
    egress: bool | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """What one service file describes. ``vip``: the one that is asked for, "" if any will do."""

    name: str
    roles: tuple[Role, ...]
    vip: str = ""
    traffic: tuple[TrafficRule, ...] = ()

    def role(self, name: str) -> Role | None:
        return next((role for role in self.roles if role.name == name), None)
