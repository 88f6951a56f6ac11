"""Guests that go through boot, setup and services as fake time passes, each by its script."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import AgentSilent
from orchestrator.model.world import GuestSeen, Power

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.model.names import MachineId
    from orchestrator.model.record import Act
    from orchestrator.model.spec import Disk

    from .clock import FakeClock
    from .host import FakeHost


@dataclass(frozen=True)
class Script:
    """When each thing happens, in seconds since power on; ``None``: never."""

    agent_s: float | None = 1.0
    setup_s: float | None = 1.5
    services_s: float | None = 2.0
    off_after_s: float | None = None
    shutdown_s: float | None = 0.5  # since it was asked
    setup_errors: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    console: tuple[str, ...] = ("Linux version 6.1",)


class FakeGuests:
    """``script``: instance → how its guests behave."""

    def __init__(self, clock: FakeClock, script: Callable[[str], Script]) -> None:
        self._clock = clock
        self._script = script

    def look(  # noqa: PLR0911 - one return a stage
        self,
        host: FakeHost,
        machine: MachineId,
        *,
        known_boot: str,
        services: tuple[str, ...] | None,
        system: str = "linux",  # noqa: ARG002 - its script says what it does
    ) -> GuestSeen:
        domain = host.domains.get(machine.domain)
        if domain is None or domain.power is not Power.RUNNING:
            return GuestSeen()
        age_s = self._clock.now() - domain.since
        script = self._script(str(machine.instance))
        if not _is_reached(script.agent_s, age_s):
            return GuestSeen()
        boot = f"{machine}-boot-{domain.boots}"
        if boot == known_boot:
            return GuestSeen(boot)
        if not _is_reached(script.setup_s, age_s):
            return GuestSeen(boot, setup_stage="init")
        if script.setup_errors:
            return GuestSeen(boot, setup_done=True, setup_errors=script.setup_errors)
        if not _is_reached(script.services_s, age_s):
            return GuestSeen(boot, setup_done=True, waiting=("nginx.service (activating)",))
        failed = script.failed if services is None else tuple(f for f in script.failed if f in services)
        return GuestSeen(boot, setup_done=True, settled=True, failed=failed)

    def shut_down(self, host: FakeHost, machine: MachineId, act: Act) -> None:  # noqa: ARG002 - a guest like any
        host.shut_down(machine)

    def grow(self, host: FakeHost, machine: MachineId, disk: Disk) -> None:
        seen = self.look(host, machine, known_boot="", services=None)
        if not seen.boot_id:
            raise AgentSilent(f"the guest agent of {machine} does not answer: {disk.name} is not grown")

    def is_ready(self, host: FakeHost, machine: MachineId) -> bool:
        """For invariants: the truth."""
        try:
            seen = self.look(host, machine, known_boot="", services=None)
        except AgentSilent:
            return False
        return seen.settled and not seen.failed


def _is_reached(mark_s: float | None, age_s: float) -> bool:
    return mark_s is not None and age_s >= mark_s
