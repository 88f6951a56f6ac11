"""The right to run the loop of a home folder, as a lock on a file: the kernel takes it back when its holder ends.

A second lock beside it is a place to queue: who holds that one asks whoever runs the loop for ever to let go for a
while.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from orchestrator.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from orchestrator.ports import Clock

CONTROLLER = "the controller"
POLL_S = 0.05


class FileLease:
    """``path``'s lock is the lease; its text says who holds it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue = path.with_suffix(".queue")

    @contextlib.contextmanager
    def try_hold(self, *, as_controller: bool = False) -> Iterator[bool]:
        with _locked(self._path) as handle:
            if handle:
                who = f"{CONTROLLER}, process {os.getpid()}" if as_controller else f"process {os.getpid()}"
                os.ftruncate(handle, 0)
                os.pwrite(handle, who.encode(), 0)
            yield handle != 0

    def holder(self) -> str:
        with self.try_hold() as is_free:
            if is_free:
                return ""
        return self._path.read_text() or "another process"

    def is_asked(self) -> bool:
        """Whether somebody waits for the controller to let go."""
        with _locked(self._queue) as handle:
            return handle == 0

    @contextlib.contextmanager
    def turn(self, clock: Clock, timeout_s: float) -> Iterator[None]:
        """Hold the lease; a controller that has it lets go as soon as its turn is over, and waits.

        Raises Busy when it has not within ``timeout_s``, and at once when another command holds it.
        """
        deadline = clock.now() + timeout_s
        with self._kept(lambda: _locked(self._queue), clock, deadline), self._kept(self.try_hold, clock, deadline):
            yield

    @contextlib.contextmanager
    def _kept(
        self, attempt: Callable[[], AbstractContextManager[object]], clock: Clock, deadline: float
    ) -> Iterator[None]:
        """Attempt it until it gives something, and keep that."""
        while True:
            with attempt() as got:
                if got:
                    yield
                    return
            self._wait(clock, deadline)

    def _wait(self, clock: Clock, deadline: float) -> None:
        holder = self.holder()
        if holder and (not holder.startswith(CONTROLLER) or clock.now() > deadline):
            raise Busy(f"{holder} runs the loop of this home", "run the same command again")
        clock.wait(POLL_S)


@contextlib.contextmanager
def kept(path: Path, clock: Clock, timeout_s: float, who: str) -> Iterator[None]:
    """Hold the lock on a file; Busy, which names ``who``, when it is not to be had within ``timeout_s``."""
    deadline = clock.now() + timeout_s
    while True:
        with _locked(path) as handle:
            if handle:
                yield
                return
        if clock.now() > deadline:
            raise Busy(f"{who} is at work", "run the same command again")
        clock.wait(POLL_S)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """An open handle of ``path`` with the lock on it; 0 if another has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield 0
            return
        yield handle
    finally:
        os.close(handle)
