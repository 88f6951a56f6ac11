"""Runs the loop of a home for a while, and prints one JSON line for each turn: what was seen, and what it cost.

    python -m tests.e2e.watcher SECONDS look|tick

``took``: the turn's seconds; ``up``: the boot in which each is taken to be ready, or 0; ``looks``: each guest's that
ended since the last line; ``events``: libvirt's, when; ``decided``: when a record that says ready was first stored.
Nothing is replaced: the real ports are called, with a stopwatch around.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

from orchestrator import wiring
from orchestrator.cli.context import cache_dir
from orchestrator.drivers.guest import AgentGuests
from orchestrator.drivers.sqlite import SqliteStore

PAUSE_S = 0.2


class Timed(AgentGuests):
    """Guests, and how long each look took."""

    looks: list = []  # noqa: RUF012 - one process, one list

    def look(self, host, machine, **options):
        begun = time.monotonic()
        try:
            return super().look(host, machine, **options)
        finally:
            Timed.looks.append((machine.instance.name, time.monotonic() - begun))


class Noted(SqliteStore):
    """A store, and when each boot of an instance was first stored as ready."""

    decided: dict = {}  # noqa: RUF012 - one process, one dictionary

    def save_instance(self, record, event=None):
        super().save_instance(record, event)
        if ready_boot(record):
            Noted.decided.setdefault((record.id.name, record.boot), time.time())

    @classmethod
    def at(cls, record):
        return cls.decided.get((record.id.name, record.boot))


def rss_kib():
    text = Path("/proc/self/status").read_text()
    return int(next(row.split()[1] for row in text.splitlines() if row.startswith("VmRSS")))


def ready_boot(record):
    return record.boot if record.timeline.services is not None else 0


def main():
    seconds, mode = float(sys.argv[1]), sys.argv[2]
    wiring.AgentGuests, wiring.SqliteStore = Timed, Noted
    with wiring.wired(Path(os.environ["VMROLE_HOME"]), None, cache_dir(), lambda _text: None) as made:
        events = []
        for host in made.hosts.values():
            host.watch(lambda: (events.append(time.time()), made.clock.wake()))
        over = time.monotonic() + seconds
        while time.monotonic() < over:
            at, begun = time.time(), time.monotonic()
            plan = made.loop.tick() if mode == "tick" else made.loop.look()[1]
            took = time.monotonic() - begun
            looks, Timed.looks = Timed.looks, []
            row = {
                "at": at,
                "took": took,
                "cpu": time.process_time(),
                "rss_kib": rss_kib(),
                "threads": threading.active_count(),
                "looks": looks,
                "events": [events.pop(0) for _event in tuple(events)],
                "decided": {
                    s.record.id.name: Noted.decided.get((s.record.id.name, s.record.boot)) for s in plan.instances
                },
                "states": {s.record.id.name: s.state.value for s in plan.instances},
                "up": {s.record.id.name: ready_boot(s.record) for s in plan.instances},
                "reasons": {s.record.id.name: s.reason for s in plan.instances},
            }
            print(json.dumps(row), flush=True)
            made.clock.wait(min(plan.requeue_s, 1.0) if mode == "tick" else PAUSE_S)


if __name__ == "__main__":
    main()
