"""HAProxy in memory: frontends, servers, addresses, and the file for its next start."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from orchestrator.engine.rotation import fingerprint, layout, routes, signature
from orchestrator.errors import BalancerAway, Refused
from orchestrator.model.action import Frontend, Server
from orchestrator.model.guard import Firewall
from orchestrator.model.world import BackendSeen, BalancerSeen, LayoutRefused, ServerSeen, ServerState

from .faults import Faults

Key = tuple[str, str]


class FakeBalancer:
    """``is_away``: its socket does not answer. ``kill`` ends it as ``kill -9`` would.

    ``sessions`` and, by backend, ``requests``: set by tests; a reload leaves sessions to a process that goes on beside
    the new one, and ``left`` says how many those are. ``down``, set by tests: names of servers of which HAProxy's own
    checks fail; ``own``: addresses that nobody has added; ``refuses``: backends that it does not take, and its words.
    """

    def __init__(self, faults: Faults | None = None, now: Callable[[], float] = time.time) -> None:
        self._faults = faults or Faults()
        self._now = now
        self.refuses: dict[str, str] = {}
        self.refused: dict[str, LayoutRefused] = {}
        self.is_away = False
        self.is_running = False
        self.vips: set[str] = set()
        self.own: set[str] = set()
        self.left = 0
        self.firewall: Firewall | None = None
        self.frontends: tuple[Frontend, ...] = ()
        self.servers: dict[Key, Server] = {}
        self.states: dict[Key, ServerState] = {}
        self.sessions: dict[Key, int] = {}
        self.requests: dict[str, int] = {}
        self.down: set[str] = set()
        self.unchecked: set[str] = set()
        self.wakes: set[Callable[[], None]] = set()
        self._file: tuple[tuple[Frontend, ...], tuple[Server, ...]] | None = None

    def kill(self) -> None:
        self.is_running, self.frontends, self.servers = False, (), {}
        self.states, self.sessions = {}, {}
        for wake in self.wakes:
            wake()

    def watch(self, wake: Callable[[], None]) -> None:
        self.wakes.add(wake)

    def observe(self) -> BalancerSeen:
        if self.is_away:
            raise BalancerAway("HAProxy does not answer")
        saved = fingerprint(*self._file) if self._file else ""
        wall = self.firewall.fingerprint if self.firewall is not None else ""
        if not self.is_running:
            own, added = frozenset(self.vips | self.own), frozenset(self.vips)
            return replace(BalancerSeen(saved=saved, vips=own, added=added, firewall=wall), **self._kept())
        servers = {
            key: ServerSeen("", 0, ServerState.DRAIN, True, count)
            for key, count in self.sessions.items()
            if count and key[0] in {front.name for front in self.frontends}
        }
        servers |= {
            key: ServerSeen(
                server.address,
                server.port,
                self.states[key],
                key[1] not in self.down,
                self.sessions.get(key, 0),
                is_checked=key[1] not in self.unchecked,
            )
            for key, server in self.servers.items()
        }
        turned = signature(routes(self.frontends))
        figures = {
            front.name: BackendSeen(
                sum(count for key, count in self.sessions.items() if key[0] == front.name),
                self.requests.get(front.name, 0),
            )
            for front in self.frontends
        }
        vips = frozenset(self.vips | self.own)
        known = BalancerSeen(True, layout(self.frontends), saved, servers, vips, routes=turned, backends=figures)
        return replace(known, added=frozenset(self.vips), left=self.left, firewall=wall, **self._kept())

    def _kept(self) -> dict:
        """What is in its folder."""
        return {"frontends": self._file[0] if self._file else (), "refused": dict(self.refused)}

    def _effect(self, name: str, subject: str = "") -> None:
        if self.is_away:
            raise BalancerAway("HAProxy does not answer")
        self._faults.effect(name, subject)

    def configure(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        self._effect("configure")
        before = self._file
        try:
            self._configure(frontends, servers)
        except Refused as error:
            self._file = before
            self._refuse(layout(frontends), error, [f.name for f in frontends if f"'{f.name}'" in error.message])
            raise
        self.refused.pop(layout(frontends), None)

    def _refuse(self, wanted: str, error: Refused, backends: Sequence[str]) -> None:
        now, before = self._now(), self.refused.get(wanted)
        since, tries = (before.since, before.tries + 1) if before else (now, 1)
        self.refused[wanted] = LayoutRefused(error.message, error.hint, tuple(backends), since, now, tries)

    def _configure(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        for front in frontends:
            if front.name in self.refuses:
                raise Refused(self.refuses[front.name])
        fronts = {front.name for front in frontends}
        if any(server.backend not in fronts for server in servers):
            raise Refused("a server without a backend")
        if any(front.vip not in self.vips | self.own for front in frontends):
            raise Refused("cannot bind")
        ports = [(front.vip, front.port) for front in frontends]
        if len(set(ports)) != len(ports):
            raise Refused("a port twice")
        self._file = (tuple(frontends), tuple(servers))
        self._effect("start")
        self.is_running, self.frontends = True, tuple(frontends)
        self.servers = {(server.backend, server.name): server for server in servers}
        self.states = dict.fromkeys(self.servers, ServerState.READY)

    def save(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        self._effect("save")
        self._file = (tuple(frontends), tuple(servers))

    def route(self, frontends: Sequence[Frontend]) -> None:
        self._effect("route")
        if not self.is_running:
            raise BalancerAway("HAProxy does not run")
        if layout(frontends) != layout(self.frontends):
            raise Refused("no such port or backend")
        self.frontends = tuple(frontends)

    def stop(self) -> None:
        self._effect("stop")
        self.kill()
        self._file = None
        self.refused = {}

    def set_firewall(self, firewall: Firewall | None) -> None:
        self._effect("set_firewall")
        self.firewall = firewall

    def add_vip(self, vip: str) -> None:
        self._effect("add_vip", vip)
        self.vips |= {vip} - self.own

    def remove_vip(self, vip: str) -> None:
        self._effect("remove_vip", vip)
        self.vips.discard(vip)

    def add_server(self, server: Server, frontend: Frontend) -> None:
        self._effect("add_server", server.name)
        if not self.is_running:
            raise BalancerAway("HAProxy does not run")
        if server.backend != frontend.name or frontend.name not in {front.name for front in self.frontends}:
            raise Refused(f"no backend {server.backend}")
        self.servers.setdefault((server.backend, server.name), server)
        self.states[server.backend, server.name] = ServerState.READY

    def drain_server(self, backend: str, name: str) -> None:
        self._effect("drain_server", name)
        if not self.is_running:
            raise BalancerAway("HAProxy does not run")
        if (backend, name) in self.servers:
            self.states[backend, name] = ServerState.DRAIN

    def remove_server(self, backend: str, name: str) -> None:
        self._effect("remove_server", name)
        if not self.is_running:
            raise BalancerAway("HAProxy does not run")
        for about in (self.servers, self.states, self.sessions):
            about.pop((backend, name), None)

    def listeners(self) -> frozenset[tuple[str, int]]:
        return frozenset()
