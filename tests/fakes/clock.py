"""Time that passes only when somebody waits for it."""

import threading


class FakeClock:
    """Starts at ``begin``; a wait moves it on, unless somebody woke it before."""

    def __init__(self, begin: float = 1_700_000_000.0) -> None:
        self._now = begin
        self._lock = threading.Lock()
        self._is_woken = False

    def now(self) -> float:
        with self._lock:
            return self._now

    def wait(self, seconds: float) -> bool:
        with self._lock:
            is_woken, self._is_woken = self._is_woken, False
            self._now += 0.0 if is_woken else seconds
            return is_woken

    def wake(self) -> None:
        with self._lock:
            self._is_woken = True

    def pass_by(self, seconds: float) -> None:
        """For tests: time goes on whatever anybody waits for."""
        with self._lock:
            self._now += seconds
