"""HAProxy as a process of its own, and the addresses that it serves. Membership goes through its runtime socket only.

It is started in master-worker mode and outlives us. It is asked for everything by socket, never by a pid file: a pid
would be of another namespace, or of another process by now.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING

from orchestrator.drivers._files import write_durably
from orchestrator.drivers.process import ProgramFailed, plain_env, run
from orchestrator.engine.rotation import layout
from orchestrator.errors import BalancerAway, Refused
from orchestrator.model.world import BalancerSeen, ServerSeen, ServerState
from orchestrator.render import haproxy as text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from orchestrator.config.site import Site
    from orchestrator.model.action import Frontend, Server

SOCKET_S = 5.0
RELOAD_S = 10.0
REMOVE_S = 5.0


class HaproxyBalancer:
    """The HAProxy of one home folder; ``folder`` holds its file and sockets, 0700."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._prefix = site.balancer
        self._device = site.vip_device
        self._pool = site.vip_pool
        self._folder = folder
        self._config = folder / "haproxy.cfg"
        self._admin = folder / text.ADMIN_SOCKET
        self._master = folder / text.MASTER_SOCKET

    def observe(self) -> BalancerSeen:
        saved = text.saved_fingerprint(self._config.read_text()) if self._config.exists() else ""
        vips = self._vips()
        try:
            info, servers = self._ask("show info"), self._ask("show servers state")
            sessions = parse_sessions(self._ask(text.sessions_command()))
        except BalancerAway as away:
            # Nobody listens: it does not run. A socket that is there but silent is another matter.
            problem = "" if _is_refused(away) else str(away)
            return BalancerSeen(saved=saved, vips=vips, problem=problem)
        return BalancerSeen(True, _field(info, "description"), saved, parse_servers(servers, sessions), vips)

    def configure(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        candidate = self._folder / "candidate.cfg"
        write_durably(candidate, text.config_text(frontends, servers))
        try:
            run([*self._prefix, "haproxy", "-c", "-C", str(self._folder), "-f", candidate.name])
        except ProgramFailed as error:
            raise Refused(f"HAProxy does not accept its configuration: {error}") from error
        if self._is_up():
            before = self._config.read_text() if self._config.exists() else ""
            candidate.replace(self._config)
            self._reload(layout(frontends), before)
        else:
            candidate.replace(self._config)
            self._start(layout(frontends))

    def save(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        write_durably(self._config, text.config_text(frontends, servers))

    def _start(self, wanted: str) -> None:
        where = ["-C", str(self._folder), "-f", self._config.name]
        argv = ["haproxy", "-W", "-D", *where, "-S", f"unix@{text.MASTER_SOCKET},mode,600"]
        try:
            run([*self._prefix, *argv], env=plain_env())
        except ProgramFailed as error:
            raise Refused(
                f"HAProxy did not start: {error}", "is one of the ports taken by another program on the VIP?"
            ) from error
        # It has gone into the background before its master answers: who asked now would take it for not running.
        if not self._answers(wanted):
            raise BalancerAway("HAProxy was started, but does not answer")

    def _reload(self, wanted: str, before: str) -> None:
        """Have the master start a new worker that takes the sockets over; the old one finishes its connections."""
        with contextlib.suppress(BalancerAway):  # the master ends this very connection as it starts anew
            _talk(self._master, "reload")
        if not self._answers(wanted):
            write_durably(self._config, before)  # what it runs with is what it should start with, too
            raise Refused(
                f"HAProxy did not take its new configuration {self._config}; the old one goes on",
                "is one of the ports taken by another program on the VIP?",
            )

    def _answers(self, wanted: str) -> bool:
        """Wait until master and worker answer, the worker with these frontends; whether they did in time."""
        deadline = time.monotonic() + RELOAD_S
        while time.monotonic() < deadline:
            with contextlib.suppress(BalancerAway):
                if self._is_up() and _field(self._ask("show info"), "description") == wanted:
                    return True
            _pause()
        return False

    def stop(self) -> None:
        """End it, and remove its file. Nothing to do if it does not run."""
        if self._is_up():
            for pid in _master_pids(_talk(self._master, "show proc")):
                run([*self._prefix, "kill", "-TERM", str(pid)], check=False)
        deadline = time.monotonic() + RELOAD_S
        while not self._has_ended():
            if time.monotonic() > deadline:
                raise BalancerAway("HAProxy does not end when asked to")
            _pause()
        for path in (self._config, self._admin, self._master):
            path.unlink(missing_ok=True)

    def add_vip(self, vip: str) -> None:
        if vip not in self._vips():
            run([*self._prefix, "ip", "address", "add", f"{vip}/32", "dev", self._device])

    def remove_vip(self, vip: str) -> None:
        if vip in self._vips():
            run([*self._prefix, "ip", "address", "del", f"{vip}/32", "dev", self._device])

    def add_server(self, server: Server) -> None:
        add, *enable = text.add_commands(server)
        answer = self._ask(add)
        if "Already exists" not in answer and "New server registered" not in answer:
            raise Refused(f"HAProxy does not take the server {server.name} into {server.backend}: {answer.strip()}")
        for command in enable:
            self._order(command)

    def drain_server(self, backend: str, name: str) -> None:
        self._order(text.state_command(backend, name, "drain"))

    def remove_server(self, backend: str, name: str) -> None:
        self._order(text.state_command(backend, name, "maint"))
        deadline = time.monotonic() + REMOVE_S
        answer = ""
        while time.monotonic() < deadline:
            self._ask(text.shutdown_command(backend, name))
            answer = self._ask(text.delete_command(backend, name))
            if "Server deleted" in answer or _is_absent(answer):
                return
            _pause()
        raise BalancerAway(f"HAProxy does not let go of server {backend}/{name}: {answer.strip()}")

    def listeners(self) -> frozenset[tuple[str, int]]:
        answer = run([*self._prefix, "ss", "--no-header", "--tcp", "--listening", "--numeric", "--processes"]).stdout
        found = set()
        for row in answer.splitlines():
            columns = row.split()
            if len(columns) < 4:
                continue
            address, _, port = columns[3].rpartition(":")
            if port.isdigit():
                found.add((address.partition("%")[0].strip("[]"), int(port)))
        return frozenset(found)

    def _vips(self) -> frozenset[str]:
        answer = run([*self._prefix, "ip", "-json", "-4", "address", "show", "dev", self._device]).stdout
        return frozenset(a["local"] for link in json.loads(answer or "[]") for a in link.get("addr_info", []))

    def _is_up(self) -> bool:
        """Whether it runs. Raises BalancerAway when something is there that does not answer."""
        try:
            _talk(self._master, "show proc")
        except BalancerAway as away:
            if _is_refused(away):
                return False
            raise
        return True

    def _has_ended(self) -> bool:
        try:
            return not self._is_up()
        except BalancerAway:  # it ends while we ask
            return False

    def _ask(self, command: str) -> str:
        return _talk(self._admin, command)

    def _order(self, command: str) -> None:
        """Give a command that answers nothing when it is carried out."""
        answer = self._ask(command).strip()
        if answer and not _is_absent(answer) and "is already" not in answer:
            raise Refused(f"HAProxy refuses `{command}`: {answer}")


def parse_servers(answer: str, sessions: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], ServerSeen]:
    """Read ``show servers state``, version 1 (management guide): columns by the names in its comment line."""
    names: list[str] = []
    found = {}
    for row in answer.splitlines():
        if row.startswith("# "):
            names = row[2:].split()
            continue
        columns = dict(zip(names, row.split(), strict=False))
        if "srv_name" in columns:
            key = columns["be_name"], columns["srv_name"]
            found[key] = ServerSeen(
                columns["srv_addr"],
                int(columns["srv_port"]),
                _admin_state(int(columns["srv_admin_state"])),
                columns["srv_op_state"] == "2",
                sessions.get(key, 0),
            )
    return found


def _is_absent(answer: str) -> bool:
    return "No such server" in answer or "No such backend" in answer


def _admin_state(bits: int) -> ServerState:
    """The admin state's bits: 0x01, 0x02, 0x04 and 0x20 are kinds of maintenance, 0x08 and 0x10 of draining."""
    if bits & 0x27:
        return ServerState.MAINT
    return ServerState.DRAIN if bits & 0x18 else ServerState.READY


def parse_sessions(answer: str) -> dict[tuple[str, str], int]:
    """The sessions that each server holds now, from ``show stat``: columns pxname, svname, …, scur is the fifth."""
    rows = (row.split(",") for row in answer.splitlines() if not row.startswith("#"))
    return {(row[0], row[1]): int(row[4] or 0) for row in rows if len(row) > 4}


def _master_pids(answer: str) -> list[int]:
    """The master's own pid in ``show proc``, as it is in its namespace."""
    rows = (row.split() for row in answer.splitlines())
    return [int(columns[0]) for columns in rows if len(columns) > 1 and columns[1] == "master" and columns[0].isdigit()]


def _field(info: str, name: str) -> str:
    return next((row.partition(": ")[2] for row in info.splitlines() if row.startswith(f"{name}: ")), "")


def _talk(path: Path, command: str) -> str:
    """One command, one answer, one connection. ``command`` was checked by ``render.haproxy``. Raises BalancerAway."""
    try:
        # A socket's address has 108 bytes; through an open folder its path may be of any length.
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _exchange(f"/proc/self/fd/{folder}/{path.name}", command)
        finally:
            os.close(folder)
    except OSError as error:
        raise BalancerAway(f"HAProxy does not answer at {path}: {error}") from error


def _exchange(address: str, command: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
        link.settimeout(SOCKET_S)
        link.connect(address)
        link.sendall(command.encode() + b"\n")
        link.shutdown(socket.SHUT_WR)  # the master's socket answers for ever until it is told that this was all
        return b"".join(iter(lambda: link.recv(65536), b"")).decode(errors="replace")


def _is_refused(away: BalancerAway) -> bool:
    return isinstance(away.__cause__, FileNotFoundError | ConnectionRefusedError)


def _pause() -> None:
    time.sleep(0.02)  # noqa: TID251 - inside a bounded wait for HAProxy's own process
