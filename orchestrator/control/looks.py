"""Looks that may hang: each is under way at most once, is waited for shortly, and holds up no other."""

from __future__ import annotations

from concurrent.futures import wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from orchestrator.control.workers import Workers

T = TypeVar("T")

STALE_S = 10.0  # an answer that nobody has asked for since is not used any more


class Look(Generic[T]):
    """One thing that is looked at again and again.

    ``future``: the look under way, or its answer until it is taken. ``last``: the last answer, None if there is none
    that still stands. ``is_slow``: a look at it was waited for in vain; until somebody says otherwise it is not
    waited for again. An answer that comes late is the next one's.
    """

    def __init__(self) -> None:
        self.future: Future[T] | None = None
        self._begun = 0.0
        self._asked = 0.0
        self._is_void = False
        self._is_told = False
        self._is_fresh = False
        self.last: T | None = None
        self.is_slow = False

    def ask(self, workers: Workers, call: Callable[[], T], now: float) -> None:
        """Have it looked at, unless a look is under way or has ended since this was last called."""
        self._is_fresh = False
        if self.is_pending:
            self._asked = now
            return
        if self.future is not None and not self._is_void and now - self._asked <= STALE_S:
            return
        self._begun = self._asked = now
        self._is_void = self._is_told = False
        self._is_fresh = True
        self.future = workers.submit(call)

    def again(self, workers: Workers, call: Callable[[], T], now: float) -> bool:
        """Ask other workers, if those who were asked have not come to it; whether that was so."""
        if self.future is None or not self.future.cancel():
            return False
        self.future = None
        self.ask(workers, call, now)
        return True

    @property
    def is_pending(self) -> bool:
        return self.future is not None and not self.future.done()

    def age(self, now: float) -> float:
        """Since when, in seconds, the answer has been waited for."""
        return now - self._begun

    @property
    def is_hung(self) -> bool:
        """Whether somebody is at it and does not come back."""
        return self.future is not None and self.future.running()

    def take(self, wake: Callable[[], None]) -> T | None:
        """The answer; None if there is none yet, and ``wake`` is called when it comes. Raises what the look raised."""
        future = self.future
        if future is None:
            return None
        if not future.done() and not self._is_told:
            self._is_told = True
            future.add_done_callback(lambda _done: wake())
        # What was outdated in the turn that asked is of no harm: who did it is left alone in that turn.
        if not future.done() or (self._is_void and not self._is_fresh):
            return None
        self.future, self.last = None, None
        answer = future.result()
        self.last = None if self._is_void else answer
        return answer

    def void(self) -> None:
        """What has been seen, or is being looked at, is about to be another: neither is to be used."""
        self._is_void = True
        self.last = None


def await_all(looks: Iterable[Look[Any]], patience_s: float) -> list[Look[Any]]:
    """Wait until all that is worth it has answered, or the patience is over.

    Those that somebody has been at for half of it, at least, and has not come back from, are slow from now on, and
    returned.
    """
    awaited = [look for look in looks if not look.is_slow]
    _wait(awaited, patience_s / 2)
    begun = [look for look in awaited if look.is_hung]
    _wait(awaited, patience_s / 2)
    slow = [look for look in begun if look.is_hung]
    for look in slow:
        look.is_slow = True
    return slow


def _wait(looks: Iterable[Look[Any]], patience_s: float) -> None:
    futures = [look.future for look in looks]
    wait([future for future in futures if future is not None], timeout=patience_s)
