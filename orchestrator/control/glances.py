"""Between two looks: whether the code in a guest has said that it is busy, or that it is not any more.

A look is a whole turn of the loop; a glance is one call to one agent. What it finds is believed by nobody: it only
brings the next look forward.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from orchestrator.errors import VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from orchestrator.model.names import MachineId
    from orchestrator.ports import Guests, Host

GLANCE_S = 1.0


class Glances:
    """A thread for each host, from ``begin`` on: it glances at the guests there that serve, one after the other."""

    def __init__(self, hosts: Mapping[str, Host], guests: Guests, wake: Callable[[], None]) -> None:
        self._hosts = hosts
        self._guests = guests
        self._wake = wake
        self._seen: Mapping[str, Mapping[MachineId, bool]] = {}
        self._told: dict[MachineId, bool] = {}
        self._over = threading.Event()
        self._has_begun = False

    def begin(self) -> None:
        """Glance from now on, again and again; once is enough."""
        if self._has_begun:
            return
        self._has_begun = True
        for host in self._hosts:
            threading.Thread(target=self._run, args=(host,), name=f"glance-{host}", daemon=True).start()

    def expect(self, seen: Mapping[str, Mapping[MachineId, bool]]) -> None:
        """Host → its guests that answer and serve → whether the last look found it busy."""
        self._seen = seen
        self._told.clear()

    def close(self) -> None:
        self._over.set()

    def _run(self, host: str) -> None:
        while not self._over.wait(GLANCE_S):
            for machine, was in dict(self._seen.get(host, {})).items():
                with contextlib.suppress(VmroleError):  # the next look has more to say of it
                    self._glance(host, machine, was=was)

    def _glance(self, host: str, machine: MachineId, *, was: bool) -> None:
        if self._over.is_set():
            return
        now = self._guests.is_busy(self._hosts[host], machine)
        if now != self._told.get(machine, was):
            self._told[machine] = now
            self._wake()
