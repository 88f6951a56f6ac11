"""How far something is, for people: a bar, the rate, and the time that is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.ports import Clock, Progress

PAUSE_S = 2.0
WIDTH = 20
MIB = 1024**2


class Meter:
    """Tells of progress through ``total`` bytes (0: nobody knows), at most every two seconds."""

    def __init__(self, what: str, total: int, clock: Clock, report: Progress) -> None:
        self._what = what
        self._total = total
        self._clock = clock
        self._report = report
        self._begun = self._told = clock.now()

    def at(self, done: int) -> None:
        """``done`` bytes are behind us."""
        now = self._clock.now()
        if now - self._told >= PAUSE_S:
            self._told = now
            self._report(f"{self._what}: {progress_text(done, self._total, now - self._begun)}")


def progress_text(done: int, total: int, seconds: float) -> str:
    """``[#####…..] 25 % of 2048 MiB, 310 MiB/s, 5 s left``."""
    rate = done / seconds if seconds > 0 else 0.0
    speed = f"{rate / MIB:.0f} MiB/s"
    if not total:
        return f"{done // MIB} MiB, {speed}"
    share = min(1.0, done / total)
    bar = "#" * int(share * WIDTH)
    left = f", {(total - done) / rate:.0f} s left" if rate else ""
    return f"[{bar:.<{WIDTH}}] {share:.0%} of {total // MIB} MiB, {speed}{left}"
