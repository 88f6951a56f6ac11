"""Runs a vmrole command with every port instrumented, and kills it with SIGKILL at an effect that is new.

    python -m tests.e2e.cut POINTS after|both -- up FILE

A point is just before or just after one effect: a call of a port that changes something, on one object. ``POINTS`` is
a file of the points at which some process has died already; this one dies at the first other, and adds it. So a chain
of such processes dies just before and just after every effect of a change, and then gets through. Nothing is
replaced: the real port is called.

With ``after`` it dies before the very first effect and after each. Before any other it would find the world as it is
after the one before that: in between a process only looks and thinks.
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
from orchestrator.model.record import Event

# What only looks, or has no effect outside of this process.
LOOKS = {
    "observe", "console", "agent", "watch", "look", "listeners", "resolve", "blob", "disc", "intent", "events", "name",
    "export_volume", "disk_usage", "versions",
}  # fmt: skip


class Cut:
    """A port, with a death at its effects."""

    def __init__(self, port, cutter):
        self._port = port
        self._cutter = cutter

    def __getattr__(self, name):
        found = getattr(self._port, name)
        if name in LOOKS or not callable(found):
            return found

        def call(*args, **kwargs):
            effect = " ".join([name, *filter(None, map(subject, args))])
            self._cutter.before(f"before {effect}")
            result = found(*args, **kwargs)
            self._cutter.at(f"after {effect}")
            return result

        return call


def subject(value):
    """What an argument says of which effect this is; an event says what of a record is stored."""
    if isinstance(value, Event):
        return f"({value.what})"
    if isinstance(value, str):
        return value.partition("\n")[0]  # of a whole document that it begins: each point is a line
    return str(getattr(value, "id", "") or getattr(value, "domain", ""))


class Cutter:
    """Knows at which points somebody died, and dies at the next."""

    def __init__(self, points, sides):
        self._points = points
        self._sides = sides
        self._seen = set(points.read_text().splitlines())
        self._lock = threading.Lock()

    def before(self, point):
        if self._sides == "both" or not self._seen:
            self.at(point)

    def at(self, point):
        with self._lock:
            if point not in self._seen:
                with self._points.open("a") as file:
                    file.write(f"{point}\n")
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()


def cut_effects(points, sides):
    """From now on every loop that is wired in this process has instrumented ports."""
    cutter = Cutter(points, sides)

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
    file, wanted, _dashes, *argv = sys.argv[1:]
    cut_effects(Path(file), wanted)
    sys.argv = ["vmrole", *argv]
    main()
