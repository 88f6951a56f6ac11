"""What was seen in one look at the world. A world is old the moment it is made; plans are made from it, not kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Network

    from orchestrator.model.names import MachineId


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


@dataclass(frozen=True, slots=True)
class Lease:
    """A DHCP reservation in a network: this MAC gets this address and this host name."""

    mac: str
    ip: str
    name: str


@dataclass(frozen=True, slots=True)
class HostName:
    """A name that a network's DNS answers for; also of instances that live on another host."""

    ip: str
    name: str


@dataclass(frozen=True, slots=True)
class NetworkSeen:
    """A libvirt network; ``subnet`` None if it has none or it cannot be read."""

    name: str
    active: bool
    owner: str
    subnet: IPv4Network | None
    leases: frozenset[Lease] = frozenset()
    names: frozenset[HostName] = frozenset()


@dataclass(frozen=True, slots=True)
class HostSeen:
    """One host. ``problem`` not "": it could not be asked, and all else is unknown, not absent.

    ``volumes``: names in our pool there (``has_pool``: whether that exists). ``free_bytes``: room in the pool.
    ``sizes``: of disks among them, in bytes. ``altered``: bases that somebody has written into since they came.
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


@dataclass(frozen=True, slots=True)
class GuestSeen:
    """What the guest agent told, all of it the guest's own word.

    ``boot_id`` "" : the agent did not answer. ``setup_done``: setup has ended; ``setup_errors`` as cloud-init put
    them. ``settled``: the service manager has nothing left to start; ``waiting``/``failed``: services that are not
    up yet, or have failed, each with its reason (also after it was ready, if services are looked at again then).

    ``busy``: why the code in the guest wants to be out of rotation now; "" if it does not. ``frozen``: its file
    systems are frozen, for a backup. ``reached``: it answered by some way other than the agent (SSH). ``startup``:
    which command of this boot failed, and how (a start-up task, or one of every boot); "" if none.
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
    reached: bool = False
    startup: str = ""


class ServerState(Enum):
    """A server's administrative state in HAProxy."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """A server in an HAProxy backend; ``up`` is what HAProxy's own checks say."""

    address: str
    port: int
    state: ServerState
    up: bool
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class BalancerSeen:
    """HAProxy.

    ``layout`` identifies the frontends that it runs with ("" when it does not run), ``saved`` the whole file that
    its next start would read. ``problem``: why it could not be asked, "" if it could.
    """

    running: bool = False
    layout: str = ""
    saved: str = ""
    servers: Mapping[tuple[str, str], ServerSeen] = field(default_factory=dict)
    vips: frozenset[str] = frozenset()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class World:
    """Everything that was seen.

    ``guests``: of running machines. ``consoles``: last lines of machines that keep us waiting. ``trouble``: track →
    why its last action failed. ``full``: hosts on which something had no room.
    """

    hosts: Mapping[str, HostSeen] = field(default_factory=dict)
    guests: Mapping[MachineId, GuestSeen] = field(default_factory=dict)
    consoles: Mapping[MachineId, tuple[str, ...]] = field(default_factory=dict)
    balancer: BalancerSeen = field(default_factory=BalancerSeen)
    trouble: Mapping[str, str] = field(default_factory=dict)
    full: frozenset[str] = frozenset()
