"""Runs a vmrole command with every port instrumented, and kills it with SIGKILL at a chosen effect.

    python -m tests.e2e.cut before|after NUMBER COUNTER -- up FILE

The effects are counted from 1 in this process: each call of a port that changes something. ``COUNTER`` is a file to
which a line is added for every effect, so that a test can tell how many points there are. Nothing is replaced: the
real port is called, and the process dies just before or just after it.
"""

import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

from orchestrator import wiring
from orchestrator.cli import main
from orchestrator.control.apply import Effects

# What only looks, or has no effect outside of this process.
LOOKS = {
    "observe", "console", "agent", "watch", "look", "listeners", "resolve", "blob", "disc", "intent", "events", "name",
    "export_volume", "disk_usage", "versions",
}  # fmt: skip


class Cut:
    """A port, with a death at one of its effects."""

    def __init__(self, port, cutter):
        self._port = port
        self._cutter = cutter

    def __getattr__(self, name):
        found = getattr(self._port, name)
        if name in LOOKS or not callable(found):
            return found

        def call(*args, **kwargs):
            self._cutter.at("before", name)
            result = found(*args, **kwargs)
            self._cutter.at("after", name)
            return result

        return call


class Cutter:
    """Counts effects, and dies."""

    def __init__(self, side, number, counter):
        self._side = side
        self._number = number
        self._counter = counter
        self._seen = 0
        self._lock = threading.Lock()

    def at(self, side, name):
        with self._lock:
            self._seen += side == "before"
            if side == self._side and self._seen >= self._number:
                with self._counter.open("a") as file:
                    file.write(f"{side} {name}\n")
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


def cut_effects(side, number, counter):
    """From now on every loop that is wired in this process has instrumented ports."""
    cutter = Cutter(side, number, Path(counter))

    def made(*ports):
        real = Effects(*ports)
        return replace(
            real,
            hosts={name: Cut(host, cutter) for name, host in real.hosts.items()},
            guests=Cut(real.guests, cutter),
            balancer=Cut(real.balancer, cutter),
            store=Cut(real.store, cutter),
        )

    wiring.Effects = made


if __name__ == "__main__":
    side, number, counter, _dashes, *argv = sys.argv[1:]
    cut_effects(side, int(number), counter)
    sys.argv = ["vmrole", *argv]
    main()
