"""Tracks under way: the steps of one plan on one object, in their order, each track in a thread of its host.

A track that takes long is left behind: it ends with the step that it is at. Whatever is still to be done is planned
anew from what is then seen, as if the process had died there.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from orchestrator.control.workers import Workers
from orchestrator.model.action import (
    ChangeLeases,
    CreateNetwork,
    CreateOverlay,
    CreatePool,
    DefineDomain,
    DefineFilter,
    PlaceImage,
    PlugFilter,
    StartDomain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.engine.plan import Step
    from orchestrator.model.action import Action

PARALLEL = 4  # tracks on one host: libvirtd serves five calls of one connection at a time
BALANCER = "balancer"


@dataclass
class Run:
    """A track that a thread is at. ``at``: the step, ``since`` when (Unix seconds); ``is_left``: no other follows."""

    track: str
    steps: Sequence[Step]
    hosts: frozenset[str]
    at: int = 0
    since: float = 0.0
    is_left: bool = False
    future: Future[None] = field(default_factory=Future)

    @property
    def rest(self) -> list[Action]:
        return [step.action for step in self.steps[self.at :]]


class Tracks:
    """Runs tracks. ``take`` is called with each step, ``wake`` when a track that was left behind has ended."""

    def __init__(self, take: Callable[[Step], None], now: Callable[[], float], wake: Callable[[], None]) -> None:
        self._take = take
        self._now = now
        self._wake = wake
        self._workers: dict[str, Workers] = {}
        self._runs: dict[str, Run] = {}

    def busy(self) -> frozenset[str]:
        """The tracks that are under way. Raises what went wrong in one that has ended, unless it was foreseen."""
        for track in [track for track, run in self._runs.items() if run.future.done()]:
            self._runs.pop(track).future.result()
        return frozenset(self._runs)

    def under_way(self) -> tuple[Run, ...]:
        return tuple(self._runs.values())

    def run(self, steps: Iterable[Step], patience_s: float) -> int:
        """Take these steps, the tracks side by side, and wait for them so long; how many steps were begun."""
        runs = [self._begin(track, list(own)) for track, own in groupby(steps, key=lambda step: step.track)]
        wait([run.future for run in runs], timeout=patience_s)
        return sum(self._leave(run) for run in runs)

    def _begin(self, track: str, steps: Sequence[Step]) -> Run:
        hosts = [host for step in steps if (host := host_of(step.action))]
        run = Run(track, steps, frozenset(hosts), since=self._now())
        where = hosts[0] if hosts else track if track == BALANCER else ""
        workers = self._workers.setdefault(where, Workers(PARALLEL, name=f"track-{where}"))
        run.future = workers.submit(self._through, run)
        self._runs[track] = run
        return run

    def _through(self, run: Run) -> None:
        for number, step in enumerate(run.steps):
            if run.is_left:
                return
            run.at, run.since = number, self._now()
            self._take(step)

    def _leave(self, run: Run) -> int:
        """Wait for it no longer: one that nobody has come to is not begun at all. How many steps it has begun."""
        if run.future.cancel():
            del self._runs[run.track]
            return 0
        if not run.future.done():
            run.is_left = True
            run.future.add_done_callback(lambda _done: self._wake())
        else:
            self._runs.pop(run.track).future.result()
        return run.at + 1

    def finish(self, patience_s: float) -> bool:
        """Let no track take another step, and wait until none is under way; whether that is so now."""
        for run in self._runs.values():
            run.is_left = True
        return not wait([run.future for run in self._runs.values()], timeout=patience_s).not_done

    def close(self) -> None:
        for workers in self._workers.values():
            workers.close()


def host_of(action: Action) -> str:
    """The host that an action is done on; "" if on none."""
    return str(getattr(action, "host", ""))


def waits_for(action: Action, other: Action) -> bool:  # noqa: PLR0911 - one case an action
    """Whether an instance's step stands on a host's step, and has to wait until that is done."""
    if host_of(action) != host_of(other):
        return False
    match other:
        case CreatePool():
            return True
        case PlaceImage():
            is_disc = isinstance(action, DefineDomain) and other.digest == action.spec.platform.drivers
            return is_disc or (isinstance(action, CreateOverlay) and action.digest == other.digest)
        case CreateNetwork():
            return isinstance(action, StartDomain) and action.machine.instance.deployment == other.deployment
        case DefineFilter():
            return isinstance(action, StartDomain | PlugFilter) and other.guard.is_of(action.machine.instance)
        case ChangeLeases():
            return isinstance(action, StartDomain) and action.machine.instance.deployment.network == other.network
        case _:
            return False
