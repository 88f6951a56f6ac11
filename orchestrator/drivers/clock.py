"""Real time. The only place that knows what o'clock it is, and the only one that sleeps."""

from __future__ import annotations

import threading
import time


class SystemClock:
    """The machine's clock. ``wake`` may be called from any thread; a wake between two waits is not lost."""

    def __init__(self) -> None:
        self._woken = threading.Event()

    def now(self) -> float:
        return time.time()

    def wait(self, seconds: float) -> bool:
        is_woken = self._woken.wait(seconds)
        self._woken.clear()
        return is_woken

    def wake(self) -> None:
        self._woken.set()
