"""How healthy a machine is that was ready before: healthy, unhealthy (it says so), unknown (nobody answers). Pure.

Unhealthy: the guest answers and says that something is wrong, or HAProxy's own check of it fails while the guest
answers, or a machine that used to become ready does not any more. Unknown: nobody in the guest answers. That alone is
no reason to do anything to a machine; with a network that does not answer either, it hangs, which is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.engine.pulse import is_well
from orchestrator.model.record import Failure, Remedy, Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.pulse import Pulse
    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.spec import Ready

# At an earlier stage it is the host that does not get on: another machine there would not either.
OF_THE_MACHINE = {Stage.AGENT, Stage.SETUP, Stage.SERVICES, Stage.ROTATION}

CHECK_FAILED = "HAProxy's check failed"


class Health(Enum):
    """A machine's health, as far as it is believed."""

    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a machine's health, and by what evidence (``reason``).

    ``first``: the lowest rung that could help, None if nothing may be done about it. ``services``: those that a
    restart could help. ``is_deaf``: nobody in the guest would hear us. ``is_sure``: it has failed to become ready,
    which needs no grace. ``is_doubtful``: something looks wrong that is not believed yet. ``is_well``: it has looked
    well often enough to be trusted again.
    """

    health: Health = Health.HEALTHY
    reason: str = ""
    first: Remedy | None = None
    services: tuple[str, ...] = ()
    is_deaf: bool = False
    is_sure: bool = False
    is_doubtful: bool = False
    is_well: bool = False


NOTHING = Finding()


def finding(
    record: InstanceRecord, pulse: Pulse | None, ready: Ready, *, console: Sequence[str], has_network: bool, now: float
) -> Finding:
    """What is known of a machine. ``pulse`` None: it is not judged by its looks now."""
    if record.failure is not None:
        return _failed(record, record.failure)
    if pulse is None:
        return NOTHING
    if pulse.silent.is_on:
        return _silent(pulse, console, has_network=has_network, now=now)
    return _answering(pulse, ready, now)


def _answering(pulse: Pulse, ready: Ready, now: float) -> Finding:
    if pulse.silent.is_wrong and (pulse.sick.is_on or pulse.down.is_on):
        return Finding(Health.UNKNOWN, "the guest agent did not answer", is_doubtful=True)
    if pulse.sick.is_on:
        first = Remedy.RESTART if pulse.services else Remedy.REBOOT
        return Finding(Health.UNHEALTHY, pulse.words, first, pulse.services)
    if pulse.down.is_on:
        told = f"HAProxy's check fails for {_for(pulse.down.since, now)}, though the guest answers"
        if pulse.sick.is_wrong and pulse.services:
            # Two ways of looking agree, and one of them says what could be restarted.
            return Finding(Health.UNHEALTHY, f"{pulse.words}; {told}", Remedy.RESTART, pulse.services)
        return Finding(Health.UNHEALTHY, told, Remedy.REBOOT)
    return _nearly_well(pulse, ready)


def _silent(pulse: Pulse, console: Sequence[str], *, has_network: bool, now: float) -> Finding:
    """Nobody in the guest answers: with HAProxy's check it hangs, without it nobody knows, whatever was known."""
    if pulse.down.is_on:
        return Finding(Health.UNKNOWN, _hung(pulse, console, now), Remedy.REBOOT, is_deaf=True)
    network = "the network does" if has_network else "no endpoint of it can be asked instead"
    told = f"the guest agent does not answer for {_for(pulse.silent.since, now)}; {network}"
    return Finding(Health.UNKNOWN, told, is_doubtful=pulse.down.is_wrong)


def _failed(record: InstanceRecord, failure: Failure) -> Finding:
    """A machine that did not become ready: repaired only if one of its make has been ready before."""
    if not record.proven or failure.stage not in OF_THE_MACHINE:
        return Finding(Health.UNHEALTHY, failure.reason, is_sure=True)
    first = Remedy.REIMAGE if failure.is_final else Remedy.REBOOT
    return Finding(Health.UNHEALTHY, f"failed at {failure.stage.value}: {failure.reason}", first, is_sure=True)


def _hung(pulse: Pulse, console: Sequence[str], now: float) -> str:
    told = (
        f"hung: the guest agent is silent for {_for(pulse.silent.since, now)}, "
        f"and HAProxy's check fails for {_for(pulse.down.since, now)}"
    )
    panic = next((line for line in console if "Kernel panic" in line), "")
    last = panic or (console[-1] if console else "")
    return f"{told}; its console says: {last}" if last else told


def _nearly_well(pulse: Pulse, ready: Ready) -> Finding:
    wrong = [
        (pulse.silent.is_wrong, "the guest agent did not answer"),
        (pulse.sick.is_wrong, pulse.words),
        (pulse.down.is_wrong, CHECK_FAILED),
    ]
    told = "; ".join(text for is_so, text in wrong if is_so)
    return Finding(reason=told, is_doubtful=bool(told), is_well=is_well(pulse, ready))


def _for(since: float | None, now: float) -> str:
    return f"{now - (since if since is not None else now):.0f} s"
