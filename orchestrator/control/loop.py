"""The loop: look, plan, apply, wait. Everything that vmrole does to the world goes through ``Loop.tick``.

No turn waits long for what does not come to an end: such a track is left behind, and its object is not touched again
before it has ended.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.control.apply import Effects, StoreAction, apply
from orchestrator.control.tracks import BALANCER, Tracks, host_of, waits_for
from orchestrator.engine import layouts
from orchestrator.engine.plan import RETRY_S, Plan, Step, plan
from orchestrator.engine.rotation import layout
from orchestrator.engine.swap import is_swapped
from orchestrator.errors import NoRoom, Refused, TransientError, VmroleError
from orchestrator.model.action import (
    AddServer,
    ConfigureBalancer,
    DrainServer,
    RemoveServer,
    Route,
    SaveServers,
    SetFirewall,
)
from orchestrator.model.record import Event
from orchestrator.model.world import Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator.control.observe import Observer
    from orchestrator.model.action import Action
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import Intent
    from orchestrator.model.world import World
    from orchestrator.ports import Clock

log = logging.getLogger(__name__)

PATIENCE_S = 0.5  # so long a turn waits for its tracks
STUCK_S = 60.0  # a step that lasts longer than this is told as what stands in the way
FINISH_S = 5.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """A step that did not work: the error, and since when (Unix seconds) its track has had trouble without a break.

    ``host``: where it was to be done, "" if on no host.
    """

    error: VmroleError
    since: float
    host: str = ""


class Loop:
    """Ticks until somebody is content.

    Between ticks it remembers only what did not work, since when, and which tracks are still under way.
    """

    def __init__(self, observer: Observer, effects: Effects, clock: Clock) -> None:
        self._observer = observer
        self._effects = effects
        self._clock = clock
        self._trouble: dict[str, Trouble] = {}
        self._past: dict[str, Trouble] = {}
        self._stopped: set[object] = set()
        self._has_ticked = False
        self._seen: tuple[Intent, World] | None = None
        self._tracks = Tracks(self._take, clock.now, clock.wake)
        observer.watch(clock.wake)
        for host in effects.hosts.values():
            host.watch(clock.wake)

    def see(self) -> World:
        """One look at the world."""
        return self._see(self._effects.store.intent(), self._clock.now())

    def _see(self, intent: Intent, now: float) -> World:
        told = {track: trouble.error.message for track, trouble in self.trouble().items()}
        full = frozenset(t.host for t in self.trouble().values() if t.host and isinstance(t.error, NoRoom))
        return self._observer.look(intent, {**self._stuck(now), **told}, full, now)

    def _stuck(self, now: float) -> dict[str, str]:
        long = [run for run in self._tracks.under_way() if now - run.since > STUCK_S and run.rest]
        return {
            run.track: f"{type(run.rest[0]).__name__} has been under way for {now - run.since:.0f} s" for run in long
        }

    def look(self) -> tuple[Intent, Plan]:
        """What is wanted, and what a tick would do now; nothing is changed."""
        intent = self._effects.store.intent()
        now = self._clock.now()
        world = self._see(intent, now)
        self._seen = intent, world
        return intent, plan(intent, world, now)

    def tick(self) -> Plan:
        """One turn: look, plan, and take every step of the plan whose track is free.

        A track that was under way when the look began may have been seen in the middle of something.
        """
        self._has_ticked = True
        self._route_at_once()
        busy = self._tracks.busy()
        intent, made = self.look()
        log.debug("plan for %d deployments: %d steps", len(intent.deployments), len(made.steps))
        self._past, self._trouble = self._trouble, {t: v for t, v in self.trouble().items() if t in busy}
        self._stopped = set(self._trouble)
        taken = self._take_all(made, busy)
        self._effects.board.post(
            {track: _told(trouble) for track, trouble in self.trouble().items()}, self._clock.now()
        )
        return replace(made, requeue_s=self._requeue_s(made, taken))

    def _route_at_once(self) -> None:
        """Do a swap that was stored since the last look before anybody else is asked: it waits for no host or guest."""
        intent = self._effects.store.intent()
        if self._seen is None or not is_swapped(self._seen[0], intent) or BALANCER in self._tracks.busy():
            return
        try:
            world = replace(self._seen[1], balancer=self._effects.balancer.observe())
            made = plan(intent, world, self._clock.now())
        except VmroleError:
            return  # the turn itself will tell
        routing = [step for step in made.first if isinstance(step.action, SaveServers | Route)]
        if any(isinstance(step.action, Route) for step in routing):
            self._tracks.run(routing, PATIENCE_S)

    def _take_all(self, made: Plan, busy: frozenset[str]) -> int:
        """Take the steps that can be taken now; how many were begun."""
        free = [step for step in made.first if step.track not in busy]
        saves = [step for step in free if isinstance(step.action, StoreAction)]
        for step in saves:
            self._take(step)
        others = [step for step in free if not isinstance(step.action, StoreAction)]
        taken = len(saves)
        taken += self._tracks.run((step for step in others if step.track == BALANCER), PATIENCE_S)
        taken += self._tracks.run((step for step in others if step.track != BALANCER), PATIENCE_S)
        taken += self._tracks.run(self._standing([s for s in made.tracks if s.track not in busy]), PATIENCE_S)
        for step in made.last:
            taken += self._tracks.run([step], PATIENCE_S) if self._is_clear(step, busy) else 0
        return taken

    def _standing(self, steps: Sequence[Step]) -> list[Step]:
        """Those of instances whose hosts have what they stand on."""
        pending = [action for run in self._tracks.under_way() for action in run.rest]
        waiting = {step.track for step in steps if any(waits_for(step.action, other) for other in pending)}
        return [step for step in steps if step.track not in waiting]

    def _is_clear(self, step: Step, busy: frozenset[str]) -> bool:
        """Whether one of the last steps can be taken: nothing is under way on its deployment or on its host."""
        host, runs = host_of(step.action), self._tracks.under_way()
        names = {*busy, *(run.track for run in runs)}
        is_mine = any(name == step.track or name.startswith(f"{step.track}.") for name in names)
        return not is_mine and not any(host and host in run.hosts for run in runs)

    def _requeue_s(self, made: Plan, taken: int) -> float:
        """When to look again: at the plan's time, but what has to wait for others' end is not looked at for ever."""
        soon = max(made.requeue_s, RETRY_S) if made.steps and not taken else made.requeue_s
        return min(soon, RETRY_S) if self._observer.is_waiting(self._clock.now()) else soon

    def run(self, until: Callable[[Plan], bool]) -> Plan:
        """Tick until ``until`` says of a plan that it is enough, and return that plan."""
        self.stand_by()
        while True:
            made = self.tick()
            if until(made):
                self.finish()
                return made
            self._clock.wait(made.requeue_s)

    def stand_by(self) -> None:
        """From now on be woken by HAProxy's end and by what guests say, too: for whoever does not look once only."""
        self._effects.balancer.watch(self._clock.wake)  # only here: HAProxy's master takes ten connections at a time
        self._observer.stand_by()

    def finish(self, patience_s: float = FINISH_S) -> bool:
        """Let no track take another step, and wait until none is under way; whether that is so now.

        For whoever is about to let another process run the loop.
        """
        return self._tracks.finish(patience_s)

    def _take(self, step: Step) -> None:
        """Take a step, unless an earlier one that it stands on has failed in this turn."""
        stands_on = _stands_on(step)
        if stands_on in self._stopped:
            return
        begun, host = self._clock.now(), host_of(step.action)
        bereft, what, cause = self._bereft(step.action)
        try:
            apply(step.action, self._effects)
        except VmroleError as error:
            log.warning("%s: %s: %s", step.track, type(step.action).__name__, error.message)
            past = self._past.get(step.track)
            self._trouble[step.track] = Trouble(error, past.since if past is not None else begun, host)
            self._stopped.add(stands_on)
            self._note_refusal(step.action, error)
            return
        finally:
            self._observer.outdate(step.track, host)
        log.info("%s: %s, %.0f ms", step.track, type(step.action).__name__, (self._clock.now() - begun) * 1000)
        for key in bereft:
            with contextlib.suppress(VmroleError):  # the store is away: the next turn tells of that
                self._effects.store.note(Event(self._clock.now(), str(key), what, cause))

    def _note_refusal(self, action: Action, error: VmroleError) -> None:
        """Tell those that it may be about, the first time, that HAProxy does not take a configuration."""
        if self._seen is None or not isinstance(action, ConfigureBalancer) or not isinstance(error, Refused):
            return
        with contextlib.suppress(VmroleError):  # the next turn tells
            seen = self._effects.balancer.observe()
            for key in layouts.about(self._seen[0], action.frontends, seen):
                event = Event(
                    self._clock.now(), str(key), "fault: HAProxy refuses its new configuration", error.message
                )
                if seen.refused[layout(action.frontends)].tries == 1:
                    self._effects.store.note(event)

    def _bereft(self, action: Action) -> tuple[tuple[DeploymentId, ...], str, str]:
        """Who has lost what the action makes again, and the event of that; nobody if it is only made.

        Who was served before: HAProxy's file is still there.
        """
        if self._seen is None or not self._seen[1].balancer.saved:
            return (), "", ""
        served, balancer = tuple(record.id for record in self._seen[0].deployments), self._seen[1].balancer
        if isinstance(action, ConfigureBalancer) and balancer.refused:
            about = layouts.about(self._seen[0], action.frontends, balancer)
            return about, "HAProxy takes its new configuration", "it was asked to once more"
        if isinstance(action, ConfigureBalancer) and not balancer.running:
            return served, "fault: HAProxy did not run; it is started again", "nobody answered at its sockets"
        if isinstance(action, SetFirewall) and action.firewall is not None and not balancer.firewall:
            what = "fault: the rules in front of the VIPs were gone; they are made again"
            return served, what, "the kernel does not have them any more, as after `nft flush ruleset`"
        return (), "", ""

    def trouble(self) -> Mapping[str, Trouble]:
        """What did not work in the last turn, by track; of the loop that runs, as long as this one only looks."""
        if self._has_ticked:
            return dict(self._trouble)
        return {track: _read(told) for track, told in self._effects.board.read(self._clock.now()).items()}

    def close(self) -> None:
        self._tracks.close()
        self._observer.close()


def _stands_on(step: Step) -> object:
    """What the step's failure stops: its track; of a server that comes or goes, what else there is to do to that."""
    match step.action:
        case AddServer(server):
            return server.backend, server.name
        case DrainServer(backend, name) | RemoveServer(backend, name):
            return backend, name
        case _:
            return step.track


def _told(trouble: Trouble) -> Notice:
    """What other processes are told of it."""
    error = trouble.error
    is_lasting, is_room = isinstance(error, Refused), isinstance(error, NoRoom)
    return Notice(error.message, error.hint, trouble.since, trouble.host, is_lasting, is_room)


def _read(told: Notice) -> Trouble:
    kind = NoRoom if told.is_room else Refused if told.is_lasting else TransientError
    return Trouble(kind(told.message, told.hint), told.since, told.host)
