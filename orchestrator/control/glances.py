"""Between two looks: whether the code in a guest has said that it is busy, or that it is not any more.

A look is a whole turn of the loop; a glance is one call to one agent. What it finds is believed by nobody: it only
brings the next look forward.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from orchestrator.control.workers import Workers
from orchestrator.errors import AgentSilent, VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from orchestrator.model.names import MachineId
    from orchestrator.ports import Guests, Host

GLANCE_S = 1.0
AT_ONCE = 2  # one that hangs does not keep the others waiting; libvirtd serves more, but a look needs some of that


class Glances:
    """A few threads for each host, from ``begin`` on, which glance at the guests there that serve.

    Whoever did not answer is left to the looks until one of them has heard it.
    """

    def __init__(self, hosts: Mapping[str, Host], guests: Guests, wake: Callable[[], None]) -> None:
        self._hosts = hosts
        self._guests = guests
        self._wake = wake
        self._seen: Mapping[str, Mapping[MachineId, bool]] = {}
        self._told: dict[MachineId, bool] = {}
        self._silent: set[MachineId] = set()
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
        self._silent.clear()

    def close(self) -> None:
        self._over.set()

    def _run(self, host: str) -> None:
        workers = Workers(AT_ONCE, name=f"glance-{host}")
        under_way: dict[MachineId, Future[None]] = {}
        while not self._over.wait(GLANCE_S):
            under_way = {machine: future for machine, future in under_way.items() if not future.done()}
            for machine in tuple(self._seen.get(host, {})):
                if machine not in under_way and machine not in self._silent:
                    under_way[machine] = workers.submit(partial(self._glance, host, machine))
        workers.close()

    def _glance(self, host: str, machine: MachineId) -> None:
        if self._over.is_set():
            return
        try:
            now = self._guests.is_busy(self._hosts[host], machine)
        except AgentSilent:
            self._silent.add(machine)
            return
        except VmroleError:  # the next look has more to say of it
            return
        was = self._seen.get(host, {}).get(machine, now)  # as of now: a look may have ended meanwhile
        if now != self._told.get(machine, was):
            self._told[machine] = now
            self._wake()
