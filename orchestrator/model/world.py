"""What was seen in one look at the world. A world is old the moment it is made; plans are made from it, not kept."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from orchestrator.model.guard import Reach
from orchestrator.model.names import instance_of_file, parse_copy, parse_machine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network

    from orchestrator.model.action import Frontend
    from orchestrator.model.load import Load
    from orchestrator.model.names import DeploymentId, InstanceId, MachineId
    from orchestrator.model.pulse import Pulse


CONSOLE_LINES = 20  # of what a machine printed, so many explain a reason
PANIC = "kernel panic"  # why a domain is off: its guest's kernel has told that it is dead


class Power(Enum):
    """A domain's state, as far as it matters to us. UNSETTLED: libvirt is in the middle of a change."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    UNSETTLED = "unsettled"


@dataclass(frozen=True, slots=True)
class DomainSeen:
    """A libvirt domain that is ours by its mark or by its name, or that has a file of our pool open.

    ``owner`` is our mark in its metadata ("" without one), ``machine`` the machine that the mark speaks of. ``why``:
    libvirt's reason for its power. ``is_persistent``: libvirt knows it also when it is off. ``files``: names in our
    pool that it uses. ``place`` and ``spec`` (a fingerprint) are what the mark says of how the machine was made.
    ``is_guarded``: every interface of it is behind its instance's filter.
    """

    name: str
    power: Power
    owner: str
    machine: MachineId | None = None
    why: str = ""
    is_persistent: bool = True
    files: frozenset[str] = frozenset()
    place: int = 1
    spec: str = ""
    is_guarded: bool = True

    @property
    def instance(self) -> InstanceId | None:
        """Whose machine it is: by its mark, else by its name."""
        machine = self.machine or parse_machine(self.name)
        return machine.instance if machine is not None else None


@dataclass(frozen=True, slots=True)
class Lease:
    """A DHCP reservation in a network: this MAC gets this address and this host name."""

    mac: str
    ip: str
    name: str


@dataclass(frozen=True, slots=True)
class HostName:
    """A name that a network's DNS answers for; also of instances that live on another host.

    ``rank``: 0 for a name of one address; a name that several addresses have is each one's by a rank of its own.
    libvirt gives no name to two addresses, but compares letter by letter, and DNS does not: so a rank is told by
    which letters are capitals.
    """

    ip: str
    name: str
    rank: int = 0

    @property
    def fits(self) -> bool:
        """Whether the name has letters enough to tell this rank."""
        return self.rank < 1 << sum(map(str.islower, self.name))

    @property
    def spelt(self) -> str:
        """The name with its rank."""
        left, spelt = self.rank, []
        for char in self.name:
            is_one = char.islower() and left & 1
            left >>= char.islower()
            spelt.append(char.upper() if is_one else char)
        return "".join(spelt)

    @staticmethod
    def read(ip: str, spelt: str) -> HostName:
        """What ``spelt`` says."""
        letters = [char for char in spelt if char.isalpha()]
        return HostName(ip, spelt.lower(), sum(char.isupper() << place for place, char in enumerate(letters)))


@dataclass(frozen=True, slots=True)
class NetworkSeen:
    """A libvirt network; ``subnet`` None if it has none or it cannot be read.

    ``is_ruled``: what its host's kernel should look at its guests' traffic with is there, as far as that can be seen.
    ``held``: address → the MAC that its DHCP server has let it to, and gives it to nobody else before that is over.
    """

    name: str
    active: bool
    owner: str
    subnet: IPv4Network | None
    leases: frozenset[Lease] = frozenset()
    names: frozenset[HostName] = frozenset()
    is_ruled: bool = True
    held: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HostSeen:
    """One host. ``problem`` not "": it could not be asked, and all else is unknown, not absent.

    ``volumes``: names in our pool there (``has_pool``: whether that exists). ``free_bytes``: room in the pool.
    ``sizes``: of disks among them, in bytes. ``altered``: bases that somebody has written into since they came.
    ``filters``: name → fingerprint of those that are ours. ``reach``: what the site says of its guests.

    Without slots: what belongs to whom is sorted out once, when it is first asked for, and not for each instance.
    """

    name: str
    problem: str = ""
    domains: Mapping[str, DomainSeen] = field(default_factory=dict)
    networks: Mapping[str, NetworkSeen] = field(default_factory=dict)
    volumes: frozenset[str] = frozenset()
    has_pool: bool = False
    free_bytes: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    altered: frozenset[str] = frozenset()
    filters: Mapping[str, str] = field(default_factory=dict)
    reach: Reach = field(default_factory=Reach)

    def held_by_others(self, key: InstanceId) -> set[str]:
        """Addresses in the network of an instance's deployment that another machine's MAC still has there."""
        network = self.networks.get(key.deployment.network)
        return {ip for ip, mac in network.held.items() if mac != key.mac} if network is not None else set()

    @cached_property
    def machines(self) -> Mapping[InstanceId, tuple[DomainSeen, ...]]:
        """The domains that are an instance's by mark or name, whoever owns them; by name."""
        found = defaultdict(list)
        for _name, domain in sorted(self.domains.items()):
            if domain.instance is not None:
                found[domain.instance].append(domain)
        return {key: tuple(domains) for key, domains in found.items()}

    @cached_property
    def users(self) -> Mapping[str, tuple[DomainSeen, ...]]:
        """File → the domains that are on and have it open, by name."""
        found = defaultdict(list)
        for _name, domain in sorted(self.domains.items()):
            for file in domain.files if domain.power is not Power.OFF else ():
                found[file].append(domain)
        return {file: tuple(domains) for file, domains in found.items()}

    @cached_property
    def tenants(self) -> Mapping[InstanceId, tuple[DomainSeen, ...]]:
        """The domains that are on and have a file of an instance open, by name."""
        found: dict[InstanceId, dict[str, DomainSeen]] = defaultdict(dict)
        for file, domains in self.users.items():
            key = instance_of_file(file)
            if key is not None:
                found[key].update((domain.name, domain) for domain in domains)
        return {key: tuple(domains[name] for name in sorted(domains)) for key, domains in found.items()}

    @cached_property
    def files(self) -> Mapping[InstanceId, tuple[str, ...]]:
        """The files in our pool that are an instance's, in order."""
        found = defaultdict(list)
        for file in sorted(self.volumes):
            key = instance_of_file(file)
            if key is not None:
                found[key].append(file)
        return {key: tuple(files) for key, files in found.items()}

    @cached_property
    def copies(self) -> Mapping[DeploymentId, tuple[str, ...]]:
        """The files of the copies of a deployment's record, whole or not, in order."""
        found = defaultdict(list)
        for file in sorted(self.volumes):
            copy = parse_copy(file)
            if copy is not None:
                found[copy.deployment].append(file)
        return {key: tuple(files) for key, files in found.items()}


@dataclass(frozen=True, slots=True)
class GuestSeen:
    """What was learnt of a guest, all of it the guest's own word.

    ``boot_id`` "" : the guest did not answer, or nobody in it can be asked. ``setup_done``: setup has ended;
    ``setup_errors`` as cloud-init put them. ``settled``: the service manager has nothing left to start;
    ``waiting``/``failed``: services that are not up yet, or have failed, each with its reason; probes that fail are
    among those that wait. Of a guest that has been ready these three are what the last whole look at its services
    found, ``settled`` only once there was one.

    ``busy``: why the code in the guest wants to be out of rotation now; "" if it does not. ``frozen``: its file
    systems are frozen, for a backup. ``reached``: it answered by some way other than the agent (SSH, network).
    ``kept``: it has its own copy of the answer file. ``startup``: which command of this boot failed, and how (a
    start-up task, or one of every boot); "" if none. ``told``: the revision of the runtime file that it has, "" if none
    or if nobody can look; it is not told of another before ``tell_after``, in Unix seconds. ``hooks``: which of the
    programs that are run for a new version of it ended badly; "" if none.
    """

    boot_id: str = ""
    setup_done: bool = False
    setup_stage: str = ""
    setup_errors: tuple[str, ...] = ()
    settled: bool = False
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    busy: str = ""
    frozen: bool = False
    kept: bool = False
    reached: bool = False
    startup: str = ""
    told: str = ""
    tell_after: float = 0.0
    hooks: str = ""

    @property
    def is_heard(self) -> bool:
        """Whether there is a sign of life."""
        return bool(self.boot_id) or self.reached or self.frozen


class ServerState(Enum):
    """A server's administrative state in HAProxy."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """A server in an HAProxy backend; ``up`` is what HAProxy's own checks say.

    One that is new, to HAProxy or to the process that a reload has begun, is up until they have said otherwise;
    ``is_checked``: they have said something.
    """

    address: str
    port: int
    state: ServerState
    up: bool
    sessions: int = 0
    is_checked: bool = True


@dataclass(frozen=True, slots=True)
class BackendSeen:
    """A backend's figures: connections now, those that wait too, and ``requests`` since HAProxy began to count.

    Over TCP ``requests`` are connections. A reload begins to count anew.
    """

    sessions: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class CpuSeen:
    """How much of the processors' time machines have used, in seconds since each began: domain → time, ``at`` a time.

    A machine that is not there was off, or is not known.
    """

    at: float
    used_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LayoutRefused:
    """What HAProxy said against frontends that it was asked to run with, in ``words``; ``hint``: what may help.

    ``backends``: those that its words are about, none if they name none. ``since``, ``at``: the first and the last of
    ``tries``, in Unix seconds.
    """

    words: str
    hint: str
    backends: tuple[str, ...]
    since: float
    at: float
    tries: int = 1


@dataclass(frozen=True, slots=True)
class BalancerSeen:
    """HAProxy.

    ``layout`` identifies the VIP ports and backends that it runs with ("" when it does not run), ``routes`` which port
    leads to which backend, ``saved`` the whole file that its next start would read. ``problem``: why it could not be
    asked, "" if it could.
    ``vips``: every address of the interface, ``added``: those that are there by us. ``left``: connections of processes
    that a reload has replaced.
    ``firewall``: the fingerprint of the one in front of the VIPs, "" if there is none. ``frontends``: those of the
    file. ``refused``: layouts that it did not take when it was asked to the last time.
    """

    running: bool = False
    layout: str = ""
    saved: str = ""
    servers: Mapping[tuple[str, str], ServerSeen] = field(default_factory=dict)
    vips: frozenset[str] = frozenset()
    problem: str = ""
    routes: str = ""
    backends: Mapping[str, BackendSeen] = field(default_factory=dict)
    added: frozenset[str] = frozenset()
    left: int = 0
    firewall: str = ""
    frontends: tuple[Frontend, ...] = ()
    refused: Mapping[str, LayoutRefused] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """A step that did not work, as other processes are told of it.

    ``since``: Unix seconds since when its track has had trouble without a break. ``host``: where it was to be done, ""
    if on no host. ``is_lasting``: the world said no, and will again; ``is_room``: as there is no room.
    """

    message: str
    hint: str
    since: float
    host: str = ""
    is_lasting: bool = False
    is_room: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything that was seen.

    ``guests``: of running machines. ``consoles``: last lines of machines that keep us waiting. ``trouble``: track →
    why its last action failed. ``full``: hosts on which something had no room. ``pulses``: how machines that are
    ready have looked of late, and ``loads``, by deployment and role, how much there was to do: these alone are older
    than this look. ``processors``: host → the time that machines there have used, where somebody wants to know.
    """

    hosts: Mapping[str, HostSeen] = field(default_factory=dict)
    guests: Mapping[MachineId, GuestSeen] = field(default_factory=dict)
    consoles: Mapping[MachineId, tuple[str, ...]] = field(default_factory=dict)
    balancer: BalancerSeen = field(default_factory=BalancerSeen)
    trouble: Mapping[str, str] = field(default_factory=dict)
    full: frozenset[str] = frozenset()
    pulses: Mapping[MachineId, Pulse] = field(default_factory=dict)
    processors: Mapping[str, CpuSeen] = field(default_factory=dict)
    loads: Mapping[tuple[DeploymentId, str], Load] = field(default_factory=dict)
