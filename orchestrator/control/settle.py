"""Running the loop until a deployment has come to rest, or watching while somebody else runs it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.control.loop import Loop
    from orchestrator.engine.plan import Plan
    from orchestrator.model.names import DeploymentId
    from orchestrator.ports import Clock, LoopLease

    Enough = Callable[[Plan, DeploymentId], bool]

WATCH_S = 0.5
PATIENCE_S = 5.0  # the world may refuse something once (a daemon that just restarts); after this it means it


class End(Enum):
    """How it came to rest."""

    READY = "ready"
    FAILED = "failed"
    GONE = "gone"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    ENOUGH = "enough"


@dataclass(frozen=True, slots=True)
class Rest:
    """A deployment at rest: ``error`` is what the world refused, if it did; ``has_changed``: steps were taken."""

    end: End
    plan: Plan
    error: Refused | None = None
    has_changed: bool = False


@dataclass(frozen=True, slots=True)
class _Goal:
    key: DeploymentId
    deadline: float
    is_enough: Enough


@dataclass(frozen=True, slots=True)
class Settler:
    """Brings one deployment to rest. ``show`` is given every plan, ``say`` what is worth a word."""

    loop: Loop
    lease: LoopLease
    clock: Clock
    show: Callable[[Plan], None]
    say: Callable[[str], None]

    def settle(self, key: DeploymentId, timeout_s: float, *, is_enough: Enough | None = None) -> Rest:
        """Run the loop, or watch the one who runs it, until the deployment rests or the time is over.

        ``is_enough``: ends it earlier, when it is true of a plan.
        """
        goal = _Goal(key, self.clock.now() + timeout_s, is_enough or (lambda _plan, _key: False))
        told = ""
        while True:
            with self.lease.try_hold() as is_ours:
                if is_ours:
                    return self._run(goal)
            holder = self.lease.holder()
            if holder and holder != told:
                self.say(f"{holder} runs the loop of this home: watching it")
                told = holder
            rest = self._watch(goal)
            if rest is not None:
                return rest

    def _run(self, goal: _Goal) -> Rest:
        rests: list[Rest] = []
        steps = 0

        def until(plan: Plan) -> bool:
            nonlocal steps
            self.show(plan)
            steps += len(plan.steps)
            rest = self._judged(goal, plan)
            rests.extend([rest] if rest is not None else [])
            return rest is not None

        self.loop.run(until)
        return replace(rests[-1], has_changed=steps > 0)

    def _watch(self, goal: _Goal) -> Rest | None:
        _intent, plan = self.loop.look()
        self.show(plan)
        rest = self._judged(goal, plan)
        if rest is None:
            self.clock.wait(WATCH_S)
        return replace(rest, has_changed=True) if rest is not None else None

    def _judged(self, goal: _Goal, plan: Plan) -> Rest | None:
        status = next((found for found in plan.deployments if found.id == goal.key), None)
        if status is None:
            # Its last steps may still be under way: it is gone when nothing is left to be done about it.
            return None if plan.steps else Rest(End.GONE, plan)
        if status.settled and not plan.steps:
            return Rest(End.FAILED if status.state == "failed" else End.READY, plan)
        if goal.is_enough(plan, goal.key):
            return Rest(End.ENOUGH, plan)
        refused = self._refused(goal.key)
        if refused is not None:
            return Rest(End.REFUSED, plan, refused)
        return Rest(End.TIMEOUT, plan) if self.clock.now() >= goal.deadline else None

    def _refused(self, key: DeploymentId) -> Refused | None:
        """What the world refuses for good of what this deployment needs; another's trouble is its own."""
        for track, trouble in self.loop.trouble().items():
            is_ours = track in {"balancer", str(key)} or track.startswith(("host ", f"{key}."))
            is_lasting = self.clock.now() - trouble.since > PATIENCE_S
            if is_ours and is_lasting and isinstance(trouble.error, Refused):
                return trouble.error
        return None
