"""A libvirt host in memory. It does what its port promises, and turns what must never happen into Harm."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Network

from orchestrator.errors import AgentSilent, NotFound, Refused
from orchestrator.model import disks
from orchestrator.model.guard import Guard, guard_name, guarded
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import (
    DeploymentId,
    InstanceId,
    MachineId,
    base_marker,
    base_volume,
    digest_of_volume,
    parse_disk,
    parse_machine,
)
from orchestrator.model.world import CONSOLE_LINES, DomainSeen, HostName, HostSeen, Lease, NetworkSeen, Power

from .clock import FakeClock
from .faults import Faults, Harm
from .guests import Script
from .pool import Domain, FakePool, Volume, is_disk


class FakeHost(FakePool):
    """``peers`` are all hosts of the world, this one too: one instance may run on one of them only.

    ``percent``: what each machine has used of one processor, on average; set by tests.
    """

    def __init__(
        self, name: str, owner: str, clock: FakeClock, faults: Faults, script: Callable[[str], Script]
    ) -> None:
        super().__init__(name, owner, clock, faults)
        self._script = script
        self._wake: Callable[[], None] = lambda: None
        self.peers: tuple[FakeHost, ...] = (self,)
        self.networks: dict[str, NetworkSeen] = {}
        self.percent = 0.0
        self.filters: dict[str, Guard] = {}

    def watch(self, wake: Callable[[], None]) -> None:
        self._wake = wake

    def observe(self) -> HostSeen:
        self._answer()
        self._let_time_act()
        seen = {
            n: DomainSeen(
                n, d.power, d.owner, d.machine, d.why, d.is_persistent, d.files, d.place, d.spec, d.is_guarded
            )
            for n, d in self.domains.items()
            if d.owner or d.files or parse_machine(n) is not None
        }
        files = dict(self.volumes) if self.has_pool else {}
        return HostSeen(
            self._name,
            "",
            seen,
            dict(self.networks),
            frozenset(files),
            self.has_pool,
            self.free_bytes,
            {n: v.size_bytes for n, v in files.items() if is_disk(n)},
            frozenset(d for d in self.altered if base_volume(d) in files and base_marker(d) in files),
            {name: guard.fingerprint for name, guard in self.filters.items() if guarded(name, self._owner)},
        )

    def processor_times(self, domains: Sequence[str]) -> dict[str, float]:
        self._answer()
        running = {name: d for name, d in self.domains.items() if d.power is Power.RUNNING and name in domains}
        return {name: self.percent * (self._clock.now() - d.since) / 100 for name, d in running.items()}

    def _let_time_act(self) -> None:
        for name, domain in list(self.domains.items()):
            machine = parse_machine(name)
            if machine is None or domain.power is not Power.RUNNING:
                continue
            script, now = self._script(str(machine.instance)), self._clock.now()
            is_spent = script.off_after_s is not None and now - domain.since >= script.off_after_s
            obeys = domain.asked is not None and script.shutdown_s is not None
            if is_spent or (obeys and now - (domain.asked or 0.0) >= (script.shutdown_s or 0.0)):
                self._off(name, "shutdown")

    def _off(self, name: str, why: str) -> None:
        """A domain's end; nobody remembers one that is not persistent."""
        domain = self.domains[name]
        self.domains[name] = replace(domain, power=Power.OFF, why=why, asked=None)
        if not domain.is_persistent:
            del self.domains[name]

    def _owned(self, name: str) -> Domain | None:
        domain = self.domains.get(name)
        if domain is not None and domain.owner != self._owner:
            raise Harm(f"{name} on {self._name} does not carry our mark")
        return domain

    def create_network(
        self,
        deployment: DeploymentId,
        subnet: IPv4Network,
        leases: frozenset[Lease],
        names: frozenset[HostName],
        *,
        isolated: bool = False,  # noqa: ARG002 - nobody outside of a fake host could be reached
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
        self.networks[network] = replace(self.networks[network], leases=leases, names=names, is_ruled=True)

    def delete_network(self, network: str) -> None:
        self._effect("delete_network", network)
        known = self.networks.get(network)
        if known is not None and known.owner != self._owner:
            raise Harm(f"network {network} does not carry our mark")
        self.networks.pop(network, None)

    def define_domain(self, machine: MachineId, spec: MachineSpec, place: int, *, has_seed: bool = True) -> None:
        self._effect("define_domain", machine.domain)
        self._need_pool(machine.domain)
        if spec.size.vcpus < 1:
            raise Refused("no processors")
        known = self.domains.get(machine.domain, Domain(self._owner, spec.digest))
        if known.owner != self._owner:
            raise Refused(f"domain {machine.domain} exists already")
        self.volumes.setdefault(machine.console, Volume())
        if known.power is Power.OFF:  # one that runs is changed no more before its next start
            beside = {file for _disk, file in disks.files(machine, spec, place)}
            seed = {machine.seed} if has_seed else set()
            discs = {base_volume(spec.platform.drivers)} if has_seed and spec.platform.drivers else set()
            files = frozenset({machine.overlay, base_volume(spec.digest), *seed, *discs, *beside})
            make = disks.fingerprint(spec)
            known = replace(known, machine=machine, digest=spec.digest, files=files, place=place, spec=make)
        self.domains[machine.domain] = replace(known, is_persistent=True)

    def define_filter(self, guard: Guard) -> None:
        self._effect("define_filter", guard.fingerprint)
        self.filters[guard.name] = guard

    def delete_filter(self, name: str) -> None:
        self._effect("delete_filter", name)
        if guarded(name, self._owner) is None:
            raise Harm(f"filter {name} does not carry our mark")
        behind = [d for d in self.domains.values() if d.machine is not None and self._filter_of(d.machine) == name]
        if any(domain.is_guarded for domain in behind):
            raise Refused(f"filter {name} is in use")
        self.filters.pop(name, None)

    def plug_filter(self, machine: MachineId) -> None:
        self._effect("plug_filter", machine.domain)
        domain = self._owned(machine.domain)
        if domain is None:
            raise NotFound(f"no domain {machine.domain}")
        if self._filter_of(machine) not in self.filters:
            raise Refused(f"no filter {self._filter_of(machine)}")
        self.domains[machine.domain] = replace(domain, is_guarded=True)

    def _filter_of(self, machine: MachineId) -> str:
        return guard_name(self._owner, machine.instance)

    def eject_seed(self, machine: MachineId) -> None:
        self._effect("eject_seed", machine.domain)
        domain = self._owned(machine.domain)
        if domain is not None:
            discs = {f for f in domain.files if digest_of_volume(f) and f != base_volume(domain.digest)}
            self.domains[machine.domain] = replace(domain, files=domain.files - {machine.seed} - discs)

    def start_domain(self, machine: MachineId) -> None:
        self._effect("start_domain", machine.domain)
        domain = self._owned(machine.domain)
        if domain is None:
            raise NotFound(f"no domain {machine.domain}")
        network = self.networks.get(machine.instance.deployment.network)
        if network is None or not network.active:
            raise Refused(f"network {machine.instance.deployment.network} is not active")
        if not domain.is_guarded:
            raise Harm(f"{machine.domain} is started without a filter")
        if self._filter_of(machine) not in self.filters:
            raise Refused(f"no filter {self._filter_of(machine)}")
        needed = {machine.overlay, machine.seed} & domain.files
        lost = [v for v in sorted(needed) if v not in self.volumes]
        if lost:
            raise Refused(f"{machine.domain}: no such file: {lost}")
        self._refuse_a_second(machine)
        self._let(network, machine.instance)
        if domain.power is not Power.RUNNING:
            self._refuse_its_disks(machine.domain, domain)
            overlay = self.volumes[machine.overlay]
            if machine.seed not in domain.files and not overlay.has_run:
                raise Harm(f"{machine.domain} is started for the first time without its answer file")
            self.volumes[machine.overlay] = replace(overlay, has_run=True)
            now = self._clock.now()
            self.domains[machine.domain] = replace(
                domain, power=Power.RUNNING, boots=domain.boots + 1, since=now, why="", asked=None
            )
            self._wake()

    def _let(self, network: NetworkSeen, key: InstanceId) -> None:
        """Its DHCP server lets an instance its address, and does not learn that a machine has gone."""
        ips = {lease.ip for lease in network.leases if lease.mac == key.mac}
        others = {ip: mac for ip, mac in network.held.items() if mac != key.mac}
        if taken := ips & {*others}:
            raise Harm(f"{key} was to have {taken}, which another one still has by DHCP")
        self.networks[network.name] = replace(network, held={**others, **dict.fromkeys(ips, key.mac)})

    def _refuse_its_disks(self, name: str, domain: Domain) -> None:
        for file in sorted(domain.files):
            if digest_of_volume(file):
                continue  # a base is everybody's
            if file not in self.volumes:
                raise Harm(f"{name} is started without {file}")
            disk = parse_disk(file)
            if disk is not None and not disk.place and disk.volume.coming in self.volumes:
                raise Harm(f"{name} is started while {file} is not whole")
            if others := [other for other in self._users(file) if other != name]:
                raise Harm(f"{name} is started while {others} have {file} open")

    def _refuse_a_second(self, machine: MachineId) -> None:
        for host in self.peers:
            for name, other in list(host.domains.items()):
                parsed = parse_machine(name)
                is_same = parsed == machine and host is self
                is_ours = parsed is not None and parsed.instance == machine.instance and other.owner == self._owner
                if is_ours and not is_same and other.power is not Power.OFF:
                    raise Harm(f"{machine} is started while {name} runs on {host.name}")

    def shut_down(self, machine: MachineId) -> None:
        self._effect("shut_down", machine.domain)
        domain = self._owned(machine.domain)
        if domain is not None and domain.power is not Power.OFF and domain.asked is None:
            self.domains[machine.domain] = replace(domain, asked=self._clock.now())

    def destroy_domain(self, domain: str) -> None:
        self._effect("destroy_domain", domain)
        found = self._owned(domain)
        if found is not None and found.power is not Power.OFF:
            self._off(domain, "destroyed")
            self._wake()

    def resume_domain(self, domain: str) -> None:
        self._effect("resume_domain", domain)
        found = self._owned(domain)
        if found is None:
            raise NotFound(f"no domain {domain}")
        if found.power is not Power.PAUSED:
            raise Refused(f"{domain} is not paused")
        self.domains[domain] = replace(found, power=Power.RUNNING, why="")

    def undefine_domain(self, domain: str) -> None:
        self._effect("undefine_domain", domain)
        found = self._owned(domain)
        if found is not None and found.power is not Power.OFF:
            raise Harm(f"{domain} is undefined while it runs")
        self.domains.pop(domain, None)

    def console(self, machine: MachineId, *, last: int = CONSOLE_LINES) -> tuple[str, ...]:
        self._answer()
        return self._script(str(machine.instance)).console[-last:] if machine.console in self.volumes else ()

    def agent(self, domain: str, command: str, arguments: dict[str, object], timeout_s: float) -> object:
        self._answer()
        raise AgentSilent(f"the guest agent of {domain} does not answer {command} {arguments} in {timeout_s} s")
