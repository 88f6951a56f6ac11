"""One libvirt host: what is seen there, and every effect on it. Decides nothing."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import libvirt
import libvirt_qemu

from orchestrator.config.site import DIP_POOL, VIP_POOL
from orchestrator.drivers._enforced import Enforced
from orchestrator.drivers._filters import Filters
from orchestrator.drivers._libvirt import Connection, Lines, agent_error
from orchestrator.drivers._netrules import NetworkRules
from orchestrator.drivers._networks import Networks
from orchestrator.drivers._pool import Pool
from orchestrator.drivers._power import power_of, reason_of
from orchestrator.drivers._starting import start
from orchestrator.drivers._volumes import Volumes
from orchestrator.errors import AgentRefused, NotFound
from orchestrator.model.guard import Reach
from orchestrator.model.names import parse_machine
from orchestrator.model.text import lines
from orchestrator.model.world import (
    CONSOLE_LINES,
    DomainSeen,
    HostName,
    HostSeen,
    Lease,
    Power,
)
from orchestrator.render import domain as domains
from orchestrator.render import network as networks
from orchestrator.render.volume import pool_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from ipaddress import IPv4Network
    from pathlib import Path

    from orchestrator.config.site import HostSite
    from orchestrator.model.guard import Guard
    from orchestrator.model.making import MachineSpec
    from orchestrator.model.names import DeploymentCopy, DeploymentId, MachineId, VolumeId
    from orchestrator.ports import Progress

NANO = 10**9
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)
# The guest's answers come from an untrusted place: a reply over this is not parsed.
AGENT_BYTES = 4 * 1024**2


class LibvirtHost:
    """A host behind a libvirt URI; ``owner`` marks what is ours there."""

    def __init__(self, site: HostSite, owner: str, vips: IPv4Network = VIP_POOL) -> None:
        self._site = site
        self._owner = owner
        self._connection = Connection(site.name, site.uri)
        self._pool = Pool(self._connection, owner)
        self._volumes = Volumes(self._pool)
        self._filters = Filters(self._connection, owner)
        self._reach = Reach(site.forward == "nat", site.callers, str(vips), str(DIP_POOL), site.outside)
        # What waits for a guest or reads a console waits on a connection of its own: nothing else is behind it there.
        # So does what only looks, behind nothing that is done; but the world of a test driver is its connection's own.
        is_real = not site.uri.startswith("test:")
        self._watched = Pool(Connection(site.name, site.uri) if is_real else self._connection, owner)
        self._seen_filters = Filters(self._watched.connection, owner)
        self._enforced = Enforced(site.inside)
        rules = NetworkRules(site.inside, site.rules)
        self._networks = Networks(self._connection, owner, rules)
        self._seen_networks = Networks(self._watched.connection, owner, rules)
        self._agents = Lines(site.name, site.uri)
        self._consoles = Pool(Connection(site.name, site.uri), owner)

    @property
    def name(self) -> str:
        return self._site.name

    def watch(self, wake: Callable[[], None]) -> None:
        self._watched.connection.watch(wake)

    def versions(self) -> str:
        """What runs there, in words: ``libvirt 9.0.0, QEMU 7.2.22``. Raises HostAway."""
        connection = self._connection.get()
        with self._connection.errors("asking for versions"):
            return f"libvirt {_version(connection.getLibVersion())}, QEMU {_version(connection.getVersion())}"

    def has_filters(self) -> bool:
        """Whether guests' traffic can be filtered there."""
        return self._filters.are_possible()

    def observe(self) -> HostSeen:
        connection = self._watched.connection.get()
        with self._watched.connection.errors("listing domains and networks"):
            self._enforced.known(connection.getLibVersion)
            seen = [self._domain_seen(domain) for domain in connection.listAllDomains()]
            nets = self._seen_networks.observe()
            filters = self._seen_filters.observe()
        pool = self._watched.observe()
        found = HostSeen(
            self.name,
            domains={domain.name: domain for domain in seen if domain is not None},
            networks=nets,
            filters=filters,
            reach=self._reach,
        )
        if pool is None:
            return found
        return replace(
            found,
            has_pool=True,
            volumes=pool.volumes,
            free_bytes=pool.free_bytes,
            sizes=pool.sizes,
            altered=pool.altered,
        )

    def processor_times(self, domains: Sequence[str]) -> dict[str, float]:
        connection, found = self._connection.get(), {}
        for name in domains:
            with contextlib.suppress(NotFound), self._connection.errors(f"asking for the time that {name} has used"):
                domain = connection.lookupByName(name)
                if domain.isActive():
                    found[name] = domain.info()[4] / NANO  # of its whole QEMU, from /proc: no agent is asked
        return found

    def _domain_seen(self, domain: libvirt.virDomain) -> DomainSeen | None:
        """What libvirt says of a domain; None if it does not concern us, or vanished while we asked."""
        try:
            name, (state, reason), is_persistent = domain.name(), domain.state(), bool(domain.isPersistent())
            xml = domain.XMLDesc()
            said = domains.describe(xml, self._owner, pool_path(self._owner))
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
        if not said.is_marked and not said.files and parse_machine(name) is None:
            return None
        power, why = power_of(state, reason), reason_of(state, reason)
        seen = DomainSeen(name, power, said.owner, said.machine, why, is_persistent, said.files, said.place, said.spec)
        is_open = power is Power.RUNNING and said.is_marked and bool(self._enforced.lacks(domains.cards(xml)))
        return replace(seen, is_guarded=said.is_guarded and not is_open)

    def create_pool(self) -> None:
        self._pool.create()

    def delete_pool(self) -> None:
        self._pool.delete()

    def place_image(self, digest: str, source: Path, report: Progress) -> None:
        self._pool.place_image(digest, source, report)

    def create_network(
        self,
        deployment: DeploymentId,
        subnet: IPv4Network,
        leases: frozenset[Lease],
        names: frozenset[HostName],
        *,
        isolated: bool = False,
    ) -> None:
        forward = "" if isolated else self._site.forward
        wish = networks.NetworkWish(
            deployment, self._owner, forward, subnet, leases, names, upstream=self._site.upstream
        )
        self._networks.create(wish)

    def change_leases(self, network: str, leases: frozenset[Lease], names: frozenset[HostName]) -> None:
        self._networks.change(network, leases, names)

    def delete_network(self, network: str) -> None:
        self._networks.delete(network)

    def create_overlay(self, machine: MachineId, digest: str, size_bytes: int) -> None:
        self._pool.create_overlay(machine, digest, size_bytes)

    def base_of(self, overlay: str) -> str:
        """The digest of the image below an overlay; "" if it cannot be told."""
        return self._pool.base_of(overlay)

    def create_seed(self, machine: MachineId, disc: bytes) -> None:
        self._pool.put(machine.seed, disc, "0600")

    def create_disk(self, file: str, size_bytes: int) -> None:
        self._volumes.create(file, size_bytes)

    def grow_disk(self, file: str, size_bytes: int, domain: str) -> None:
        self._volumes.grow(file, size_bytes, domain)

    def export_volume(self, file: str) -> AbstractContextManager[Iterator[bytes]]:
        return self._volumes.export(file)

    def import_volume(self, volume: VolumeId, size_bytes: int, pieces: Iterator[bytes], report: Progress) -> None:
        self._volumes.bring(volume, size_bytes, pieces, report)

    def disk_usage(self) -> dict[str, tuple[int, int]]:
        return self._pool.usage()

    def snapshot_volume(self, volume: VolumeId, name: str, domain: str) -> None:
        self._volumes.snapshot(volume, name, domain)

    def restore_volume(self, volume: VolumeId, name: str) -> None:
        self._volumes.restore(volume, name)

    def flatten_overlay(self, machine: MachineId) -> None:
        self._volumes.flatten(machine)

    def put_copy(self, copy: DeploymentCopy, content: bytes) -> None:
        self._pool.remove(copy.marker)
        self._pool.put(copy.file, content, "0600")
        self._pool.mark(copy.marker)

    def define_domain(self, machine: MachineId, spec: MachineSpec, place: int, *, has_seed: bool = True) -> None:
        if not self._pool.has(machine.console):
            self._pool.put(machine.console, b"", "0600")
        around = domains.Surroundings(self._owner, pool_path(self._owner), self._site.accelerator)
        with self._connection.errors(f"defining domain {machine.domain}"):
            self._connection.get().defineXMLFlags(domains.domain_xml(machine, spec, place, around, has_seed=has_seed))

    def define_filter(self, guard: Guard) -> None:
        self._filters.define(guard)

    def delete_filter(self, name: str) -> None:
        self._filters.delete(name)

    def plug_filter(self, machine: MachineId) -> None:
        self._filters.plug(machine, self._enforced)

    def eject_seed(self, machine: MachineId) -> None:
        path = f"{pool_path(self._owner)}/{machine.seed}"
        with contextlib.suppress(NotFound), self._connection.errors(f"ejecting the answer file of {machine.domain}"):
            domain = self._connection.get().lookupByName(machine.domain)
            flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            for drive in domains.emptied_drives(domain.XMLDesc(), path):
                # By force: a guest's udev locks the tray of every disc that it finds.
                domain.updateDeviceFlags(drive, flags | libvirt.VIR_DOMAIN_DEVICE_MODIFY_FORCE)

    def start_domain(self, machine: MachineId) -> None:
        with self._connection.errors(f"starting domain {machine.domain}"):
            domain = self._connection.get().lookupByName(machine.domain)
            _end_crashed(domain)
            if not domain.isActive():
                start(self._connection.get(), domain)

    def shut_down(self, machine: MachineId) -> None:
        with contextlib.suppress(NotFound), self._connection.errors(f"shutting down domain {machine.domain}"):
            _press(self._connection.get().lookupByName(machine.domain))

    def destroy_domain(self, domain: str) -> None:
        with contextlib.suppress(NotFound), self._connection.errors(f"switching off domain {domain}"):
            found = self._connection.get().lookupByName(domain)
            if found.isActive():
                _destroy(found)

    def resume_domain(self, domain: str) -> None:
        with self._connection.errors(f"resuming domain {domain}"):
            self._connection.get().lookupByName(domain).resume()

    def undefine_domain(self, domain: str) -> None:
        with contextlib.suppress(NotFound), self._connection.errors(f"undefining domain {domain}"):
            found = self._connection.get().lookupByName(domain)
            _end_crashed(found)
            found.undefineFlags(_UNDEFINE)

    def delete_volume(self, volume: str) -> None:
        self._pool.remove(volume)

    def console(self, machine: MachineId, *, last: int = CONSOLE_LINES) -> tuple[str, ...]:
        return lines(self._consoles.tail(machine.console).decode(errors="replace"))[-last:]

    def agent(self, domain: str, command: str, arguments: dict[str, object], timeout_s: float) -> object:
        request = json.dumps({"execute": command, "arguments": arguments})
        with self._agents.line(timeout_s) as connection:
            try:
                found = connection.get().lookupByName(domain)
                answer = libvirt_qemu.qemuAgentCommand(found, request, max(1, round(timeout_s)), 0)
            except libvirt.libvirtError as error:
                connection.drop()
                raise agent_error(error, domain) from error
            except (SystemError, UnicodeDecodeError) as error:
                # libvirt-python makes a text of the answer, and fails like this when it is none.
                raise AgentRefused(
                    f"the guest agent of {domain} answered {command} with bytes that are no text"
                ) from error
        if len(answer) > AGENT_BYTES:
            raise AgentRefused(f"the guest agent of {domain} answered with {len(answer)} bytes to {command}")
        try:
            return dict(json.loads(answer))["return"]
        except (ValueError, RecursionError, TypeError, KeyError) as error:
            raise AgentRefused(f"the guest agent of {domain} answered {command} with something else") from error


def _destroy(domain: libvirt.virDomain) -> None:
    """Power off. A daemon that was just restarted may end the guest and then say that there was none to end."""
    try:
        domain.destroy()
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


def _press(domain: libvirt.virDomain) -> None:
    """Press the power button. A machine that is off or paused takes no notice; the latter is cut off in time."""
    try:
        if domain.isActive():
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:
            raise


def _end_crashed(domain: libvirt.virDomain) -> None:
    """End what is left of a guest that panicked: libvirt keeps its QEMU, and its files open, until somebody does."""
    if domain.state()[0] == libvirt.VIR_DOMAIN_CRASHED and domain.isActive():
        _destroy(domain)


def _version(number: int) -> str:
    """Libvirt packs a version as major * 1000000 + minor * 1000 + release."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
