"""A libvirt host in memory. It does what its port promises, and turns what must never happen into Harm."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

from orchestrator.errors import AgentSilent, HostAway, NotFound, Refused
from orchestrator.model.names import (
    DeploymentId,
    MachineId,
    base_marker,
    base_volume,
    digest_of_volume,
    parse_machine,
)
from orchestrator.model.spec import Size
from orchestrator.model.world import DomainSeen, HostName, HostSeen, Lease, NetworkSeen, Power

from .clock import FakeClock
from .faults import Faults, Harm
from .guests import Script

FREE_BYTES = 100 * 1024**3


@dataclass(frozen=True)
class Domain:
    """A domain: ``boots`` counts its starts, ``since`` is when the last one was."""

    owner: str
    digest: str
    power: Power = Power.OFF
    boots: int = 0
    since: float = 0.0


@dataclass(frozen=True)
class Volume:
    """A file. ``base``: the digest below an overlay. ``has_run``: a guest has written into it."""

    base: str = ""
    has_run: bool = False


class FakeHost:
    """``peers`` are all hosts of the world, this one too: one instance may run on one of them only."""

    def __init__(
        self, name: str, owner: str, clock: FakeClock, faults: Faults, script: Callable[[str], Script]
    ) -> None:
        self._name = name
        self._owner = owner
        self._clock = clock
        self._faults = faults
        self._script = script
        self._wake: Callable[[], None] = lambda: None
        self.peers: tuple[FakeHost, ...] = (self,)
        self.is_away = False
        self.has_pool = False
        self.free_bytes = FREE_BYTES
        self.domains: dict[str, Domain] = {}
        self.networks: dict[str, NetworkSeen] = {}
        self.volumes: dict[str, Volume] = {}

    @property
    def name(self) -> str:
        return self._name

    def watch(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def observe(self) -> HostSeen:
        self._answer()
        self._let_time_act()
        seen = {n: DomainSeen(n, d.power, d.owner) for n, d in self.domains.items() if parse_machine(n) is not None}
        volumes = frozenset(self.volumes) if self.has_pool else frozenset()
        return HostSeen(self._name, "", seen, dict(self.networks), volumes, self.has_pool, self.free_bytes)

    def _answer(self) -> None:
        if self.is_away:
            raise HostAway(f"host {self._name} does not answer")

    def _effect(self, name: str, subject: str = "") -> None:
        self._answer()
        self._faults.effect(name, subject)

    def _let_time_act(self) -> None:
        for name, domain in self.domains.items():
            machine = parse_machine(name)
            limit = self._script(str(machine.instance)).off_after_s if machine is not None else None
            if limit is not None and domain.power is Power.RUNNING and self._clock.now() - domain.since >= limit:
                self.domains[name] = replace(domain, power=Power.OFF)

    def _owned(self, name: str) -> Domain | None:
        domain = self.domains.get(name)
        if domain is not None and domain.owner != self._owner:
            raise Harm(f"{name} on {self._name} does not carry our mark")
        return domain

    def _need_pool(self, what: str) -> None:
        if not self.has_pool:
            raise NotFound(f"host {self._name}: {what}: no storage pool")

    def create_pool(self) -> None:
        self._effect("create_pool")
        self.has_pool = True

    def delete_pool(self) -> None:
        self._effect("delete_pool")
        if any(domain.owner == self._owner for domain in self.domains.values()):
            raise Harm(f"the pool of {self._name} is deleted under a domain")
        self.volumes.clear()
        self.has_pool = False

    def place_image(self, digest: str, source: Path, report: Callable[[str], None]) -> None:
        self._effect("place_image", digest)
        self._need_pool("uploading")
        self._free(base_volume(digest))
        report(f"uploading {source}")
        self.volumes.pop(base_marker(digest), None)
        self.volumes[base_volume(digest)] = Volume()
        self._effect("mark_image", digest)
        self.volumes[base_marker(digest)] = Volume()

    def create_network(
        self, deployment: DeploymentId, subnet: IPv4Network, leases: frozenset[Lease], names: frozenset[HostName]
    ) -> None:
        self._effect("create_network", deployment.network)
        known = self.networks.get(deployment.network)
        if known is not None and known.owner != self._owner:
            raise Refused(f"network {known.name} exists already")
        self.networks[deployment.network] = NetworkSeen(deployment.network, True, self._owner, subnet, leases, names)

    def change_leases(self, network: str, leases: frozenset[Lease], names: frozenset[HostName]) -> None:
        self._effect("change_leases", network)
        if network not in self.networks:
            raise NotFound(f"no network {network}")
        self.networks[network] = replace(self.networks[network], leases=leases, names=names)

    def delete_network(self, network: str) -> None:
        self._effect("delete_network", network)
        known = self.networks.get(network)
        if known is not None and known.owner != self._owner:
            raise Harm(f"network {network} does not carry our mark")
        self.networks.pop(network, None)

    def create_overlay(self, machine: MachineId, digest: str, size_bytes: int) -> None:
        self._effect("create_overlay", machine.overlay)
        self._need_pool(machine.overlay)
        if base_marker(digest) not in self.volumes:
            raise Refused(f"the base {digest} is not there whole on {self._name}")
        if self.free_bytes < size_bytes:
            raise Refused(f"host {self._name}: no room for {machine.overlay}")
        if machine.domain in self.domains or self.volumes.get(machine.overlay, Volume()).has_run:
            raise Harm(f"{machine.overlay} is made anew over one that has been used")
        self.volumes[machine.overlay] = Volume(base=digest)

    def create_seed(self, machine: MachineId, disc: bytes) -> None:
        self._effect("create_seed", machine.seed)
        self._need_pool(machine.seed)
        if not disc:
            raise Refused("an empty disc")
        self.volumes[machine.seed] = Volume()

    def define_domain(self, machine: MachineId, digest: str, size: Size) -> None:
        self._effect("define_domain", machine.domain)
        self._need_pool(machine.domain)
        if size.vcpus < 1:
            raise Refused("no processors")
        known = self.domains.get(machine.domain, Domain(self._owner, digest))
        if known.owner != self._owner:
            raise Refused(f"domain {machine.domain} exists already")
        self.volumes.setdefault(machine.console, Volume())
        self.domains[machine.domain] = known

    def start_domain(self, machine: MachineId) -> None:
        self._effect("start_domain", machine.domain)
        domain = self._owned(machine.domain)
        if domain is None:
            raise NotFound(f"no domain {machine.domain}")
        network = self.networks.get(machine.instance.deployment.network)
        if network is None or not network.active:
            raise Refused(f"network {machine.instance.deployment.network} is not active")
        lost = [v for v in (machine.overlay, machine.seed) if v not in self.volumes]
        if lost:
            raise Refused(f"{machine.domain}: no such file: {lost}")
        self._refuse_a_second(machine)
        if domain.power is not Power.RUNNING:
            overlay = self.volumes[machine.overlay]
            self.volumes[machine.overlay] = replace(overlay, has_run=True)
            now = self._clock.now()
            self.domains[machine.domain] = replace(domain, power=Power.RUNNING, boots=domain.boots + 1, since=now)
            self._wake()

    def _refuse_a_second(self, machine: MachineId) -> None:
        for host in self.peers:
            for name, other in host.domains.items():
                parsed = parse_machine(name)
                is_same = parsed == machine and host is self
                is_ours = parsed is not None and parsed.instance == machine.instance and other.owner == self._owner
                if is_ours and not is_same and other.power is not Power.OFF:
                    raise Harm(f"{machine} is started while {name} runs on {host.name}")

    def destroy_domain(self, domain: str) -> None:
        self._effect("destroy_domain", domain)
        found = self._owned(domain)
        if found is not None:
            self.domains[domain] = replace(found, power=Power.OFF)
            self._wake()

    def resume_domain(self, domain: str) -> None:
        self._effect("resume_domain", domain)
        found = self._owned(domain)
        if found is None:
            raise NotFound(f"no domain {domain}")
        if found.power is not Power.PAUSED:
            raise Refused(f"{domain} is not paused")
        self.domains[domain] = replace(found, power=Power.RUNNING)

    def undefine_domain(self, domain: str) -> None:
        self._effect("undefine_domain", domain)
        found = self._owned(domain)
        if found is not None and found.power is not Power.OFF:
            raise Harm(f"{domain} is undefined while it runs")
        self.domains.pop(domain, None)

    def delete_volume(self, volume: str) -> None:
        self._effect("delete_volume", volume)
        self._free(volume)
        self.volumes.pop(volume, None)

    def _free(self, volume: str) -> None:
        """Nothing that is stood upon may be taken away."""
        users = [n for n in self.domains if (m := parse_machine(n)) is not None and volume in (m.overlay, m.seed)]
        digest = digest_of_volume(volume)
        above = [n for n, v in self.volumes.items() if digest and v.base == digest and volume == base_volume(digest)]
        if users or above:
            raise Harm(f"{volume} is deleted under {users or above}")

    def console(self, machine: MachineId) -> tuple[str, ...]:
        self._answer()
        return self._script(str(machine.instance)).console if machine.console in self.volumes else ()

    def agent(self, domain: str, command: str, arguments: dict[str, object], timeout_s: float) -> object:
        self._answer()
        raise AgentSilent(f"the guest agent of {domain} does not answer {command} {arguments} in {timeout_s} s")
