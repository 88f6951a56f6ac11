"""Folding looks at a machine into its pulse: n of m looks before anything is believed. Pure.

Kept in memory only: a process that begins anew has to look n times again before it believes that something is wrong,
and as often as ``successes`` says before it believes that all is well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine import rotation
from orchestrator.model.names import MachineId
from orchestrator.model.pulse import Pulse, Signal
from orchestrator.model.spec import Via
from orchestrator.model.world import Power, ServerState, World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.model.record import InstanceRecord, Intent
    from orchestrator.model.spec import Ready, Role

_SERVICE = re.compile(r"([A-Za-z0-9][A-Za-z0-9@_.:\\+-]{0,254}) \(")  # as engine.readiness says it: NAME (why)
SLACK = 0.9  # a look that is taken a little early counts: timers are not exact


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look told. ``is_up``: what HAProxy's checks say of all its servers; None if there are none to say it."""

    at: float
    answers: bool
    words: str = ""
    services: tuple[str, ...] = ()
    is_up: bool | None = None


def beat(pulse: Pulse | None, sample: Sample, ready: Ready) -> Pulse:
    """The pulse with one more look, which counts if the last one that did is ``ready.interval_s`` ago."""
    if pulse is not None and sample.at - pulse.at < ready.interval_s * SLACK:
        return pulse
    last = pulse or Pulse(sample.at)
    # Nobody was there to say whether the application is sick: what was known of that stands.
    sick = _look(last.sick, bool(sample.words), sample.at, ready) if sample.answers else last.sick
    return Pulse(
        sample.at,
        _look(last.silent, not sample.answers, sample.at, ready),
        sick,
        last.down if sample.is_up is None else _look(last.down, not sample.is_up, sample.at, ready),
        sample.words or (last.words if sick.since is not None else ""),
        sample.services or (last.services if sick.since is not None else ()),
    )


def _look(signal: Signal, is_wrong: bool, at: float, ready: Ready) -> Signal:
    looks = (*signal.looks, is_wrong)[-max(ready.window, ready.successes) :]
    good = looks[-ready.successes :]
    if len(good) == ready.successes and not any(good):
        return Signal(good)  # well again: what was before is over
    is_on = signal.is_on or sum(looks[-ready.window :]) >= ready.failures
    since = signal.since if signal.since is not None or not is_wrong else at
    return Signal(looks, since, is_on)


def is_well(pulse: Pulse, ready: Ready) -> bool:
    """Whether all has been well for as many looks in a row as readiness asks for."""
    signals = [pulse.silent, pulse.sick, *([pulse.down] if pulse.down.looks else [])]
    return all(s.since is None and len(s.looks) >= ready.successes for s in signals)


def pulses(old: Mapping[MachineId, Pulse], intent: Intent, world: World, now: float) -> dict[MachineId, Pulse]:
    """The pulses after this look, of every machine that is to be judged by it; all others have none, and begin anew."""
    found = {}
    for record in intent.instances:
        deployment = intent.deployment(record.id.deployment)
        role = deployment.service.role(record.id.role) if deployment is not None else None
        machine = MachineId(record.id, record.generation)
        if role is not None and _is_judged(record, machine, world):
            found[machine] = beat(old.get(machine), sample(record, role, world, now), role.ready)
    return found


def _is_judged(record: InstanceRecord, machine: MachineId, world: World) -> bool:
    """Whether silence would mean anything: not of a machine that boots, leaves, stands still or cannot be seen."""
    host = world.hosts.get(record.host)
    domain = host.domains.get(machine.domain) if host is not None and not host.problem else None
    guest = world.guests.get(machine)
    is_same_boot = guest is None or guest.boot_id in {"", record.boot_id}
    is_frozen = guest is not None and guest.frozen
    is_running = domain is not None and domain.power is Power.RUNNING
    is_ready = record.timeline.services is not None and record.failure is None
    return is_ready and is_running and is_same_boot and not is_frozen and record.farewell is None


def sample(record: InstanceRecord, role: Role, world: World, now: float) -> Sample:
    """One look at a machine that is ready. A guest that is busy by its own word is not sick."""
    guest = world.guests.get(MachineId(record.id, record.generation))
    is_up = None if record.timeline.rotation is None else _is_up(record, role, world)
    if guest is None or not (guest.boot_id or guest.reached):
        # An agent that refuses (it may do so while file systems are frozen) is there, and says nothing else.
        refuses = guest is not None and bool(guest.waiting)
        return Sample(now, answers=refuses or role.ready.via is Via.NETWORK, is_up=None if refuses else is_up)
    if guest.busy:
        return Sample(now, answers=True)
    wrong = (*guest.failed, *guest.waiting)
    services = tuple(match.group(1) for text in wrong if (match := _SERVICE.match(text)))
    return Sample(now, answers=True, words="; ".join(wrong), services=services, is_up=is_up)


def _is_up(record: InstanceRecord, role: Role, world: World) -> bool | None:
    keys = [(server.backend, server.name) for server in rotation.servers(record, role)]
    seen = [world.balancer.servers[key] for key in keys if key in world.balancer.servers]
    told = [found.up for found in seen if found.state is not ServerState.MAINT]
    return all(told) if told else None
