"""HAProxy's runtime sockets: one question, one answer, and what the answers say. Decides nothing.

Commands come from ``render.haproxy``, which has checked every word of them.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from typing import TYPE_CHECKING

from orchestrator.errors import BalancerAway
from orchestrator.model.world import BackendSeen, ServerSeen, ServerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

SOCKET_S = 5.0
WATCH_S = 0.2

Key = tuple[str, str]


def talk(path: Path, command: str) -> str:
    """One command, one answer, one connection. Raises BalancerAway."""
    try:
        with connected(path) as link:
            link.sendall(command.encode() + b"\n")
            link.shutdown(socket.SHUT_WR)  # the master's socket answers for ever until it is told that this was all
            return b"".join(iter(lambda: link.recv(65536), b"")).decode(errors="replace")
    except OSError as error:
        raise BalancerAway(f"HAProxy does not answer at {path}: {error}") from error


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    # A socket's address has 108 bytes; through an open folder its path may be of any length.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            link.settimeout(SOCKET_S)
            link.connect(f"/proc/self/fd/{folder}/{path.name}")
            yield link
    finally:
        os.close(folder)


def is_refused(away: BalancerAway) -> bool:
    """Whether nobody listens at all: it does not run. A socket that is there but silent is another matter."""
    return isinstance(away.__cause__, FileNotFoundError | ConnectionRefusedError)


class Watch:
    """Holds a connection to the master's socket, on which nothing is said: it ends when the master does.

    The master has no time-out for it (measured), and a reload ends it as well.
    """

    def __init__(self, path: Path, wake: Callable[[], None]) -> None:
        self._path = path
        self._wake = wake
        self._over = threading.Event()
        self._link: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name="haproxy-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._link is not None:
            with contextlib.suppress(OSError):  # it may have ended by itself
                self._link.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _run(self) -> None:
        is_away = False
        while not self._over.is_set():
            try:
                with connected(self._path) as self._link:
                    is_away = False
                    self._hold(self._link)
            except OSError:
                if not is_away:  # it may have ended just before we came
                    self._wake()
                is_away = True
            self._over.wait(WATCH_S)

    def _hold(self, link: socket.socket) -> None:
        """Until the connection ends. Whoever closes us may have come too early to end it: so not for ever."""
        link.settimeout(WATCH_S)
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                if not _said(link) and not self._over.is_set():
                    self._wake()
                    return


def _said(link: socket.socket) -> bytes:
    try:
        return link.recv(4096)
    except ConnectionResetError:
        return b""


UNCHECKED = {"0", "1"}  # srv_check_status: nothing is known, or it was only set up


def field(answer: str, name: str) -> str:
    """A line of ``show info``."""
    prefix = f"{name}: "
    return next((row.removeprefix(prefix) for row in answer.splitlines() if row.startswith(prefix)), "")


def parse_servers(answer: str, sessions: Mapping[Key, int]) -> dict[Key, ServerSeen]:
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
                is_checked=columns.get("srv_check_status") not in UNCHECKED,
            )
    return found


def _admin_state(bits: int) -> ServerState:
    """The admin state's bits: 0x01, 0x02, 0x04 and 0x20 are kinds of maintenance, 0x08 and 0x10 of draining."""
    if bits & 0x27:
        return ServerState.MAINT
    return ServerState.DRAIN if bits & 0x18 else ServerState.READY


def parse_sessions(answer: str) -> dict[Key, int]:
    """Sessions now, from ``show stat``: columns pxname, svname, …, scur is the fifth; a backend is named BACKEND."""
    rows = (row.split(",") for row in answer.splitlines() if not row.startswith("#"))
    return {(row[0], row[1]): int(row[4] or 0) for row in rows if len(row) > 4}


def parse_backends(answer: str, left: Mapping[Key, int]) -> dict[str, BackendSeen]:
    """The backends in ``show stat``: columns by the names in its first line. ``left``: sessions in older processes."""
    names: list[str] = []
    found = {}
    for row in answer.splitlines():
        if row.startswith("# "):
            names = row[2:].split(",")
            continue
        columns = dict(zip(names, row.split(","), strict=False))
        if columns.get("svname") == "BACKEND":
            backend = columns["pxname"]
            more = sum(count for key, count in left.items() if key[0] == backend)
            requests = columns.get("req_tot") or columns.get("stot") or "0"  # over TCP it has no requests
            found[backend] = BackendSeen(int(columns["scur"] or 0) + more, int(requests))
    return found


def sessions_of(answer: str, backend: str, name: str) -> list[str]:
    """From ``show sess`` the ids of the sessions that a server has: ``0x5577: … be=NAME srv=NAME … c_exp=``.

    Not of those that still wait for it to take their connection (``c_exp=2s``): they go to another server by
    themselves, but would be lost if they were ended (2.6.12).
    """
    rows = (row.split() for row in answer.splitlines())
    return [
        row[0].rstrip(":")
        for row in rows
        if f"be={backend}" in row and f"srv={name}" in row and not re.fullmatch(r"c_exp=.+", row[-1])
    ]


def parse_routes(answer: str) -> dict[str, str]:
    """``show map``: a line ``0x5577… KEY VALUE`` for each entry; anything else says that there is no such map."""
    rows = (row.split() for row in answer.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0].startswith("0x")}


def new_version(answer: str) -> int | None:
    """The number in what ``prepare map`` answers: ``New version created: 1``."""
    found = re.search(r"New version created: ([0-9]+)", answer)
    return int(found[1]) if found else None


def master_pids(answer: str) -> list[int]:
    """The master's own pid in ``show proc``, as it is in its namespace."""
    return [int(row[0]) for row in _processes(answer) if row[1] == "master"]


def reloads(answer: str) -> tuple[int, int]:
    """How many reloads the master has made, and how many of the last failed: ``3 [failed: 1]``, from 2.5 on."""
    found = re.search(r"^[0-9]+ +master +([0-9]+)(?: +\[failed: ([0-9]+)\])?", answer, re.MULTILINE)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)


def old_workers(answer: str) -> list[int]:
    """The workers in ``show proc`` that a reload has replaced, and that still have connections."""
    _now, _head, old = answer.partition("# old workers")
    return [int(row[0]) for row in _processes(old.partition("# programs")[0]) if row[1] == "worker"]


def _processes(answer: str) -> list[list[str]]:
    rows = (row.split() for row in answer.splitlines())
    return [row for row in rows if len(row) > 1 and row[0].isdigit()]
