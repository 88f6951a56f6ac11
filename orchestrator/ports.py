"""What the control loop needs of the world. Each docstring is the contract that every implementation is held to.

Every method may raise the TransientErrors of ``errors``; what else is named. All of them have deadlines of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from orchestrator.model.spec import LINUX
from orchestrator.model.world import CONSOLE_LINES

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from ipaddress import IPv4Network
    from pathlib import Path

    from orchestrator.model.action import Frontend, Server
    from orchestrator.model.guard import Firewall, Guard
    from orchestrator.model.making import MachineSpec
    from orchestrator.model.names import DeploymentCopy, DeploymentId, InstanceId, MachineId, VolumeId
    from orchestrator.model.record import Act, DeploymentRecord, Event, InstanceRecord, Intent
    from orchestrator.model.secret import Secret, SecretRef
    from orchestrator.model.spec import Disk, Ready
    from orchestrator.model.world import BalancerSeen, GuestSeen, HostName, HostSeen, Lease, Notice

Progress = Callable[[str], None]


class Clock(Protocol):
    """Time. ``now`` is in Unix seconds; ``wait`` ends after ``seconds``, or (True) when somebody calls ``wake``."""

    def now(self) -> float: ...

    def wait(self, seconds: float) -> bool: ...

    def wake(self) -> None: ...


class Host(Protocol):
    """One libvirt host. Every effect may be repeated: what is there already is taken as done."""

    @property
    def name(self) -> str: ...

    def observe(self) -> HostSeen:
        """Everything on the host that could concern us. Raises HostAway."""

    def create_pool(self) -> None: ...

    def delete_pool(self) -> None:
        """Remove the pool, stray files of ours in it and its folder."""

    def place_image(self, digest: str, source: Path, report: Progress) -> None:
        """Upload a base; whatever lies there without its marker is replaced. Raises Refused when there is no room."""

    def create_network(
        self,
        deployment: DeploymentId,
        subnet: IPv4Network,
        leases: frozenset[Lease],
        names: frozenset[HostName],
        *,
        isolated: bool = False,
    ) -> None:
        """Define and start a network. ``isolated``: nothing beyond the host is reached from it."""

    def change_leases(self, network: str, leases: frozenset[Lease], names: frozenset[HostName]) -> None: ...

    def delete_network(self, network: str) -> None: ...

    def create_overlay(self, machine: MachineId, digest: str, size_bytes: int) -> None:
        """Replace the machine's overlay by a fresh one (``size_bytes`` 0: as large as the base).

        Raises Refused when there is no room, or when the base is not there whole.
        """

    def create_seed(self, machine: MachineId, disc: bytes) -> None: ...

    def create_disk(self, file: str, size_bytes: int) -> None:
        """Make an empty sparse disk unless there is one of that name. Raises NoRoom when there is no room."""

    def grow_disk(self, file: str, size_bytes: int, domain: str) -> None:
        """Enlarge a disk; never makes it smaller. ``domain``: who has it open now, "" if nobody."""

    def export_volume(self, file: str) -> AbstractContextManager[Iterator[bytes]]:
        """A file of the pool, in pieces."""

    def import_volume(self, volume: VolumeId, size_bytes: int, pieces: Iterator[bytes], report: Progress) -> None:
        """Store a volume from elsewhere; its ``coming`` exists from before the first byte until after the last."""

    def disk_usage(self) -> dict[str, tuple[int, int]]:
        """File → capacity and allocation in bytes, of local storage, volumes and their snapshots."""

    def snapshot_volume(self, volume: VolumeId, name: str, domain: str) -> None:
        """Copy a volume as it is at this moment; the copy's marker is made last. One that is whole stays as it is.

        ``domain``: who has it open now, "" if nobody. Raises NoRoom, and Refused when the volume is not whole.
        """

    def restore_volume(self, volume: VolumeId, name: str) -> None:
        """Put a volume that nobody has open back to a snapshot; its ``coming`` exists meanwhile, and after a failure.

        Raises NoRoom, and Refused when there is no whole snapshot of that name.
        """

    def flatten_overlay(self, machine: MachineId) -> None:
        """Make ``machine.flat`` of a machine that is off: its whole disk as one raw file. Raises NoRoom."""

    def put_copy(self, copy: DeploymentCopy, content: bytes) -> None:
        """Store a deployment's record, then its marker."""

    def shut_down(self, machine: MachineId) -> None:
        """Press the power button: ask the guest's kernel to shut down, without its agent."""

    def define_domain(self, machine: MachineId, spec: MachineSpec, place: int, *, has_seed: bool = True) -> None:
        """Make a machine known. ``has_seed``: its answer file is in its disc drive, which else is empty."""

    def define_filter(self, guard: Guard) -> None:
        """Give an instance's filter these rules; a machine that is behind it has them at once.

        No machine starts without its filter being there.
        """

    def delete_filter(self, name: str) -> None:
        """Raises Refused while a machine is behind it."""

    def plug_filter(self, machine: MachineId) -> None:
        """Put a machine behind its instance's filter, now and for its next starts. Raises Refused without one."""

    def eject_seed(self, machine: MachineId) -> None:
        """Empty the machine's disc drives, now and for its next starts. Nothing to do if there is no such machine."""

    def start_domain(self, machine: MachineId) -> None: ...

    def destroy_domain(self, domain: str) -> None: ...

    def resume_domain(self, domain: str) -> None: ...

    def undefine_domain(self, domain: str) -> None: ...

    def delete_volume(self, volume: str) -> None: ...

    def console(self, machine: MachineId, *, last: int = CONSOLE_LINES) -> tuple[str, ...]:
        """The ``last`` lines of the machine's serial console, made safe to print; () if there is none."""

    def agent(self, domain: str, command: str, arguments: dict[str, object], timeout_s: float) -> object:
        """One guest agent command and its answer's ``return``. Raises AgentSilent, AgentRefused."""

    def processor_times(self, domains: Sequence[str]) -> dict[str, float]:
        """Seconds of processor time that each of these has used since it was started; not of one that is off."""

    def watch(self, wake: Callable[[], None]) -> None:
        """From now on call ``wake`` (from any thread) when a domain or an agent changes its state."""


class Guests(Protocol):
    """Guests, by their agents. What they answer is their own word: capped, checked, made safe to print."""

    def look(
        self,
        host: Host,
        machine: MachineId,
        *,
        dip: str,
        ready: Ready,
        known_boot: str | None,
        system: str = LINUX,
    ) -> GuestSeen:
        """How far the guest is, and how well once it is ready; in the way, and by the probes, that ``ready`` says.

        ``known_boot``: the boot in which it became ready ("" if that has no id), None until it has. In that boot every
        look asks only for signs of life and whether it is busy; services and probes are asked anew each interval, and
        what they said last is told until then: not ``settled`` as long as they have not. ``system``: linux or windows.
        """

    def is_busy(self, host: Host, machine: MachineId) -> bool:
        """Whether the code in a Linux guest says that it is busy: one quick question. Raises AgentSilent."""

    def shut_down(self, host: Host, machine: MachineId, act: Act) -> None:
        """Give notice of ``act`` and ask the guest to shut down: by its agent, else by the power button.

        Returns at once; the machine goes off later, or never. Asking again does no harm.
        """

    def restart(self, host: Host, machine: MachineId, services: tuple[str, ...], *, system: str = LINUX) -> None:
        """Have services restarted, by the names that ``look`` gave them; a name that can be none is left out.

        Returns at once: whether it helped is seen in the next looks. A guest that refuses is one that it did not
        help. Raises AgentSilent.
        """

    def tell(self, host: Host, machine: MachineId, text: str, *, dip: str, ready: Ready, system: str = LINUX) -> None:
        """Give the guest its runtime file, whole or not at all, and have its hooks run; those are not waited for.

        A guest that has this revision already is left as it is. ``dip``, ``ready``, ``system``: as for ``look``.
        Raises AgentSilent, AgentRefused.
        """

    def grow(self, host: Host, machine: MachineId, disk: Disk, *, system: str = LINUX) -> None:
        """Enlarge a mounted disk's file system to the disk. ``system``: as for ``look``.

        Raises AgentSilent, AgentRefused.
        """


class Balancer(Protocol):
    """HAProxy and the addresses that it serves."""

    def watch(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called, from any thread, when HAProxy ends or starts anew; the same one but once."""

    def observe(self) -> BalancerSeen: ...

    def configure(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        """Make it run with these frontends. Raises Refused when it does not accept them; the old ones then go on."""

    def save(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None: ...

    def route(self, frontends: Sequence[Frontend]) -> None:
        """Have new connections to each VIP port go to the backend that it has here: to all of them at one moment.

        Connections that are there stay where they are. Only for ports and backends that it runs with; ``save`` first,
        or its next start knows nothing of it.
        """

    def stop(self) -> None: ...

    def set_firewall(self, firewall: Firewall | None) -> None:
        """Guard the VIPs; None takes the guard away. Connections that are allowed before and after go on."""

    def add_vip(self, vip: str) -> None:
        """Raises Refused when another machine has it, or when it should be there by itself and is not."""

    def remove_vip(self, vip: str) -> None:
        """One that is not there by us stays."""

    def add_server(self, server: Server, frontend: Frontend) -> None: ...

    def drain_server(self, backend: str, name: str) -> None:
        """No new connections for it but of clients that stick to it; returns at once.

        Nothing to do if there is no such server.
        """

    def remove_server(self, backend: str, name: str) -> None:
        """Maintenance, end what connections are left, delete. Raises BalancerAway if it cannot be deleted yet."""

    def listeners(self) -> frozenset[tuple[str, int]]:
        """(address, port) of every TCP listener where the VIPs live , HAProxy's own too; ``*`` is any address."""


class Images(Protocol):
    """The image repository."""

    def resolve(self, reference: str) -> str:
        """The digest that a name, ``name:version`` or ``name@sha256:…`` stands for now. Raises NotFound."""

    def blob(self, digest: str) -> Path:
        """The image's file. Raises NotFound."""


class Seeds(Protocol):
    """Makes answer file discs."""

    def disc(self, label: str, files: dict[str, bytes]) -> bytes: ...


class Secrets(Protocol):
    """The values that records refer to by a key."""

    def reveal(self, ref: SecretRef) -> Secret:
        """The value under ``ref.key``. Raises Refused when it is not there."""


class Store(Protocol):
    """Intent, with compare-and-swap: a record is stored only over the version that it was read with."""

    def intent(self) -> Intent: ...

    def save_deployment(self, record: DeploymentRecord, event: Event | None = None) -> None:
        """Raises StoreConflict when another version is there."""

    def save_deployments(self, records: Sequence[DeploymentRecord], events: Sequence[Event]) -> None:
        """All of them in one go, or none. Raises StoreConflict when another version is there of any."""

    def save_instance(self, record: InstanceRecord, event: Event | None = None) -> None:
        """Raises StoreConflict when another version is there."""

    def forget_instance(self, key: InstanceId, event: Event) -> None: ...

    def forget_deployment(self, key: DeploymentId, event: Event) -> None: ...

    def events(self, subject: str, after: int = 0) -> Iterable[tuple[int, Event]]:
        """Events of ``subject`` ("" : of all) and below, oldest first, each with its number, after number ``after``."""

    def note(self, event: Event) -> None: ...

    def changes(self) -> int:
        """A number that is another one after anybody else has changed what is stored."""


class Board(Protocol):
    """Where the loop says what did not work, for other processes of the same home."""

    def post(self, told: Mapping[str, Notice], now: float) -> None:
        """Put this in place of what was said before, by track."""

    def read(self, now: float) -> dict[str, Notice]:
        """What was said last, if that was not long ago."""


class LoopLease(Protocol):
    """The right to run the loop. It ends with its holder's process, however that ends."""

    def try_hold(self, *, as_controller: bool = False) -> AbstractContextManager[bool]:
        """While the context lasts, and if it gives True, nobody else on this home runs the loop."""

    def holder(self) -> str:
        """Who holds it, in words; "" if nobody does."""

    def is_asked(self) -> bool:
        """Whether a command wants a controller to let go of it for a while."""
