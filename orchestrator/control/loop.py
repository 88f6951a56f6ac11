"""The loop: look, plan, apply, wait. Everything that vmrole does to the world goes through ``Loop.tick``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from orchestrator.control.apply import Effects, apply
from orchestrator.control.workers import Workers
from orchestrator.engine.plan import Plan, Step, plan
from orchestrator.errors import NoRoom, VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from orchestrator.control.observe import Observer
    from orchestrator.model.record import Intent
    from orchestrator.model.world import World
    from orchestrator.ports import Clock

log = logging.getLogger(__name__)

PARALLEL = 4


@dataclass(frozen=True, slots=True)
class Trouble:
    """A step that did not work: the error, and since when (Unix seconds) its track has had trouble without a break.

    ``host``: where it was to be done, "" if on no host.
    """

    error: VmroleError
    since: float
    host: str = ""


class Loop:
    """Ticks until somebody is content. Between ticks it remembers only what did not work, and since when."""

    def __init__(self, observer: Observer, effects: Effects, clock: Clock) -> None:
        self._observer = observer
        self._effects = effects
        self._clock = clock
        self._trouble: dict[str, Trouble] = {}
        self._past: dict[str, Trouble] = {}
        self._workers = Workers(PARALLEL, name="track")
        for host in effects.hosts.values():
            host.watch(clock.wake)

    def see(self) -> World:
        """One look at the world."""
        return self._see(self._effects.store.intent(), self._clock.now())

    def _see(self, intent: Intent, now: float) -> World:
        told = {track: trouble.error.message for track, trouble in self._trouble.items()}
        full = frozenset(t.host for t in self._trouble.values() if t.host and isinstance(t.error, NoRoom))
        return self._observer.look(intent, told, full, now)

    def look(self) -> tuple[Intent, Plan]:
        """What is wanted, and what a tick would do now; nothing is changed."""
        intent = self._effects.store.intent()
        now = self._clock.now()
        return intent, plan(intent, self._see(intent, now), now)

    def tick(self) -> Plan:
        """One turn: look, plan, and take every step of the plan."""
        intent, made = self.look()
        log.debug("plan for %d deployments: %d steps", len(intent.deployments), len(made.steps))
        self._past, self._trouble = self._trouble, {}
        self._in_order(made.first)
        self._side_by_side(made.tracks)
        self._in_order(made.last)
        return made

    def run(self, until: Callable[[Plan], bool]) -> Plan:
        """Tick until ``until`` says of a plan that it is enough, and return that plan."""
        self._effects.balancer.watch(self._clock.wake)  # only here: HAProxy's master takes ten connections at a time
        while True:
            made = self.tick()
            if until(made):
                return made
            self._clock.wait(made.requeue_s)

    def _in_order(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self._take(step)

    def _side_by_side(self, steps: Iterable[Step]) -> None:
        tracks = [list(track) for _name, track in groupby(steps, key=lambda step: step.track)]
        for done in [self._workers.submit(self._in_order, track) for track in tracks]:
            done.result()

    def _take(self, step: Step) -> None:
        """Take a step, unless an earlier one of its track has failed in this turn."""
        if step.track in self._trouble:
            return
        begun = self._clock.now()
        try:
            apply(step.action, self._effects)
        except VmroleError as error:
            log.warning("%s: %s: %s", step.track, type(step.action).__name__, error.message)
            past = self._past.get(step.track)
            host = getattr(step.action, "host", "")
            self._trouble[step.track] = Trouble(error, past.since if past is not None else begun, host)
        else:
            log.info("%s: %s, %.0f ms", step.track, type(step.action).__name__, (self._clock.now() - begun) * 1000)

    def trouble(self) -> Mapping[str, Trouble]:
        """What did not work in the last turn, by track."""
        return dict(self._trouble)

    def close(self) -> None:
        self._workers.close()
        self._observer.close()
