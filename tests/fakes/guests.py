"""Guests that go through boot, setup and services as fake time passes, each by its script."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine.runtime import read_revision
from orchestrator.errors import AgentSilent
from orchestrator.model.spec import LINUX, Ready, Via
from orchestrator.model.world import GuestSeen, Power

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from orchestrator.model.names import MachineId
    from orchestrator.model.record import Act
    from orchestrator.model.spec import Disk

    from .clock import FakeClock
    from .host import FakeHost
    from .pool import Domain


@dataclass(frozen=True)
class Script:
    """When each thing happens, in seconds since power on; ``None``: never. ``gate``: its agent hangs until it opens."""

    agent_s: float | None = 1.0
    setup_s: float | None = 1.5
    services_s: float | None = 2.0
    off_after_s: float | None = None
    shutdown_s: float | None = 0.5  # since it was asked
    setup_errors: tuple[str, ...] = ()
    startup: str = ""
    failed: tuple[str, ...] = ()
    busy: str = ""
    console: tuple[str, ...] = ("Linux version 6.1",)
    gate: threading.Event | None = None
    sick: tuple[str, ...] = ()  # what it says is wrong once it was ready
    mended_by: tuple[str, ...] = ()  # of restart, reboot, reimage: what ends that
    frozen: bool = False


class FakeGuests:
    """``script``: instance → how its guests behave."""

    def __init__(self, clock: FakeClock, script: Callable[[str], Script]) -> None:
        self._clock = clock
        self._script = script
        self._restarted: dict[str, list[tuple[str, ...]]] = {}
        self.files: dict[str, str] = {}  # machine → its runtime file; it is on the overlay, and outlives a boot
        self.hooks: dict[str, str] = {}  # machine → which of its programs ended badly when it was told last
        self._tell_after: dict[str, float] = {}

    def look(
        self,
        host: FakeHost,
        machine: MachineId,
        *,
        dip: str,
        ready: Ready,
        known_boot: str | None,
        system: str = "linux",
    ) -> GuestSeen:
        seen = self._stage(host, machine, dip=dip, ready=ready, known_boot=known_boot, system=system)
        if not seen.boot_id or ready.via is Via.NETWORK:
            return seen
        told = read_revision(self.files.get(str(machine), ""))
        seen = replace(seen, told=told, tell_after=self._tell_after.get(str(machine), 0.0))
        return replace(seen, hooks=self.hooks.get(str(machine), ""))

    def tell(
        self,
        host: FakeHost,
        machine: MachineId,
        text: str,
        *,
        dip: str,
        ready: Ready,
        system: str = "linux",  # noqa: ARG002 - its script says what it does
    ) -> None:
        host.effect("tell", machine.domain)
        if not self._stage(host, machine, dip=dip, ready=ready, known_boot=None).boot_id:
            raise AgentSilent(f"the guest agent of {machine} does not answer")
        assert read_revision(text)
        self.files[str(machine)] = text
        self._tell_after[str(machine)] = self._clock.now() + 1.0

    def _stage(  # noqa: PLR0911 - one return a stage
        self,
        host: FakeHost,
        machine: MachineId,
        *,
        dip: str,  # noqa: ARG002 - all of them are at the same
        ready: Ready,
        known_boot: str | None,
        system: str = "linux",  # noqa: ARG002 - its script says what it does
    ) -> GuestSeen:
        domain = host.domains.get(machine.domain)
        if domain is None or domain.power is not Power.RUNNING:
            return GuestSeen()
        age_s = self._clock.now() - domain.since
        script = self._script(str(machine.instance))
        if script.gate is not None:
            script.gate.wait()
        if not _is_reached(script.agent_s, age_s):
            return GuestSeen()
        boot = f"{machine}-boot-{domain.boots}"
        failed = script.failed if ready.services is None else tuple(f for f in script.failed if f in ready.services)
        if boot == known_boot:
            ills = (*failed, *self._ills(domain, machine, script))
            busy, frozen = script.busy, script.frozen
            return GuestSeen(boot, setup_done=True, settled=True, failed=ills, busy=busy, frozen=frozen, kept=True)
        if not _is_reached(script.setup_s, age_s):
            return GuestSeen(boot, setup_stage="init")
        if script.setup_errors:
            return GuestSeen(boot, setup_done=True, setup_errors=script.setup_errors)
        if script.startup:
            return GuestSeen(boot, setup_done=True, startup=script.startup)
        if not _is_reached(script.services_s, age_s):
            return GuestSeen(boot, setup_done=True, waiting=("nginx.service (activating)",))
        return GuestSeen(boot, setup_done=True, settled=True, failed=failed, busy=script.busy, kept=True)

    def is_busy(self, host: FakeHost, machine: MachineId) -> bool:
        return bool(self.look(host, machine, dip="", ready=Ready(), known_boot=None).busy)

    def shut_down(self, host: FakeHost, machine: MachineId, act: Act) -> None:  # noqa: ARG002 - a guest like any
        host.shut_down(machine)

    def _ills(self, domain: Domain, machine: MachineId, script: Script) -> tuple[str, ...]:
        had = {
            "restart": bool(self._restarted.get(f"{machine}-boot-{domain.boots}")),
            "reboot": domain.boots > 1,
            "reimage": machine.generation > 1,
        }
        return () if any(had[remedy] for remedy in script.mended_by) else script.sick

    def restart(
        self,
        host: FakeHost,
        machine: MachineId,
        services: tuple[str, ...],
        *,
        system: str = LINUX,  # noqa: ARG002
    ) -> None:
        host.effect("restart", machine.domain)
        domain = host.domains.get(machine.domain)
        script = self._script(str(machine.instance))
        if domain is None or domain.power is not Power.RUNNING or script.agent_s is None:
            raise AgentSilent(f"the guest agent of {machine} does not answer")
        self._restarted.setdefault(f"{machine}-boot-{domain.boots}", []).append(services)

    def grow(self, host: FakeHost, machine: MachineId, disk: Disk, *, system: str = LINUX) -> None:  # noqa: ARG002
        seen = self.look(host, machine, dip="", ready=Ready(), known_boot=None)
        if not seen.boot_id:
            raise AgentSilent(f"the guest agent of {machine} does not answer: {disk.name} is not grown")

    def is_ready(self, host: FakeHost, machine: MachineId) -> bool:
        """For invariants: the truth."""
        try:
            seen = self.look(host, machine, dip="", ready=Ready(), known_boot=None)
        except AgentSilent:
            return False
        return seen.settled and not (seen.failed and not self._script(str(machine.instance)).sick)


def _is_reached(mark_s: float | None, age_s: float) -> bool:
    return mark_s is not None and age_s >= mark_s
