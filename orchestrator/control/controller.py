"""The loop for ever: it keeps every deployment of a home true until it is told to end.

It holds the lease, and lets go of it for as long as a command asks to be alone. It sleeps until an event, a change of
the intent by another process, or the time that the plan names.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.errors import Busy, VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.control.loop import Loop
    from orchestrator.engine.plan import Plan
    from orchestrator.ports import Clock, LoopLease, Store

log = logging.getLogger(__name__)

SLICE_S = 0.1  # so soon a command's wish, a changed intent and a signal are noticed
GAP_S = 0.1  # between two turns that only events ask for: a flapping guest is not followed faster
RETRY_S = 5.0  # after a turn that could not be taken at all: no store, no address left


class Teller(Protocol):
    """Who is told that the controller is ready, what it does, and that it still lives."""

    @property
    def watchdog_s(self) -> float: ...

    def tell(self, **state: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Controller:
    """Runs ``loop`` while it holds ``lease``, until ``is_over``.

    ``begin`` is called once, when it has the lease for the first time, ``after`` with the plan of each turn.
    """

    loop: Loop
    lease: LoopLease
    store: Store
    clock: Clock
    teller: Teller
    is_over: Callable[[], bool]
    begin: Callable[[], None]
    after: Callable[[Plan], None]

    def run(self) -> None:
        """Run until told to end. Raises Busy when another controller runs on this home."""
        is_announced = False
        self.loop.stand_by()
        while not self.is_over():
            with self.lease.try_hold(as_controller=True) as is_ours:
                if is_ours:
                    if not is_announced:
                        self.begin()
                        self.teller.tell(READY="1", STATUS="looks at its hosts")
                    is_announced = True
                    self._hold()
            if not is_ours:
                self._refuse_twin()
                self.teller.tell(STATUS="waits: a command runs the loop", WATCHDOG="1")
            self._make_room()
        self.teller.tell(STOPPING="1")

    def _refuse_twin(self) -> None:
        holder = self.lease.holder()
        if holder.startswith("the controller"):
            raise Busy(f"{holder} runs on this home already", "end that one first, or name another --home")

    def _make_room(self) -> None:
        """Leave the lease to whoever asked for it, until they have had it."""
        self.clock.wait(SLICE_S)
        while self.lease.is_asked() and not self.is_over():
            self.teller.tell(STATUS="waits: a command wants to be alone", WATCHDOG="1")
            self.clock.wait(SLICE_S)

    def _hold(self) -> None:
        while not self.is_over() and not self.lease.is_asked():
            begun, before = self.clock.now(), self._changes()
            self._rest(self._turn(), begun, before)
        self.loop.finish()  # who has the lease next must not meet a step of ours

    def _turn(self) -> float:
        """One turn of the loop, and after how many seconds the next one is due."""
        try:
            made = self.loop.tick()
        except VmroleError as error:
            log.warning("no turn: %s", error.message)
            self.teller.tell(STATUS=error.message, WATCHDOG="1")
            return RETRY_S
        self.after(made)
        states = ", ".join(f"{status.id}: {status.state}" for status in made.deployments)
        self.teller.tell(STATUS=states or "no deployments", WATCHDOG="1")
        return made.requeue_s

    def _rest(self, seconds: float, begun: float, before: int) -> None:
        """Wait ``seconds``, or until something asks for a turn: an event, a command, the intent, the end."""
        limit = min(seconds, self.teller.watchdog_s / 2) if self.teller.watchdog_s else seconds
        end = self.clock.now() + limit
        while (left := end - self.clock.now()) > 0 and not self._is_called(before):
            if self.clock.wait(min(left, SLICE_S)):
                self.clock.wait(max(0.0, begun + GAP_S - self.clock.now()))
                return

    def _is_called(self, before: int) -> bool:
        return self.is_over() or self.lease.is_asked() or self._changes() != before

    def _changes(self) -> int:
        try:
            return self.store.changes()
        except VmroleError:
            return 0  # the turn will tell
