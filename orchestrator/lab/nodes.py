"""The nodes of a lab as the kernel shows them: found in /proc, started, entered, ended.

There is no pid file that could be stale. A keeper is recognised by its whole command line (our interpreter flags, our
program, exactly this home) and by belonging to us; it is signalled and waited for through a pidfd, so never by a
number that the kernel may have given to somebody else. Must not know what a node is for.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers.process import ProgramFailed, run
from orchestrator.errors import Refused
from orchestrator.lab import keeper

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")
PROGRAM = "orchestrator/lab/keeper.py"
END_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Keeper:
    """A running keeper. ``is_ready`` is False while its node is being made (or when its starter was killed)."""

    node: str
    pid: int
    is_ready: bool


def find(home: Path) -> tuple[Keeper, ...]:
    """Every keeper process of the lab in ``home``, unfinished ones and their starters too."""
    found = (_keeper(entry, str(home)) for entry in PROC.iterdir() if entry.name.isdecimal())
    return tuple(one for one in found if one is not None)


def ready(home: Path) -> dict[str, int]:
    """The pid of each finished node's keeper."""
    return {one.node: one.pid for one in find(home) if one.is_ready}


def start(home: Path, node: str) -> None:
    """Start the keeper of ``node`` and wait until its namespaces and mounts are made. Raises Refused."""
    program = Path(keeper.__file__)
    try:
        # -I -S: no site packages, no user's environment: 11 MB, and nothing of a virtualenv is kept open.
        run([sys.executable, "-I", "-S", str(program), str(home), node], timeout_s=20)
    except ProgramFailed as error:
        hint = "the kernel must allow mount, network and PID namespaces (and a container: CAP_SYS_ADMIN)"
        raise Refused(f"the lab's node {node} did not start: {error.message}", hint) from error


def end(home: Path, *, unfinished_only: bool = False) -> int:
    """End the lab's keepers, and with them everything in their namespaces; wait until it is gone. How many ended.

    Looks again until none is left, as one may have been forking.
    """
    count = 0
    while keepers := [one for one in find(home) if not (unfinished_only and one.is_ready)]:
        for one in keepers:
            _kill(one, str(home))
        count += len(keepers)
    return count


def wait_or_end(pid: int, timeout_s: float) -> None:
    """Let ``timeout_s`` pass, or less if the process ends before."""
    with suppress(ProcessLookupError), _pidfd(pid) as descriptor:
        select.select([descriptor], [], [], timeout_s)


def strays(home: Path) -> tuple[str, ...]:
    """Processes in a mount namespace that this lab made, as `pid command`; keepers' nodes while these still run."""
    needle = f" {keeper.mark(str(home))} "
    found = []
    for entry in PROC.iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and needle in (entry / "mountinfo").read_text():
                found.append(f"{entry.name} {(entry / 'comm').read_text().strip()}")
    return tuple(found)


def _keeper(entry: Path, home: str) -> Keeper | None:
    try:
        argv = (entry / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
        if len(argv) != 6 or argv[1:3] != ["-I", "-S"] or not argv[3].endswith(PROGRAM) or argv[4] != home:
            return None
        # Another user may take any command line, and root is about to enter that process's namespaces.
        if entry.stat().st_uid != os.geteuid():
            return None
        name = (entry / "comm").read_text().strip()
        ids = _namespace_ids(entry)
    except OSError:  # it ended meanwhile
        return None
    # A keeper is 1 in a namespace of its own, its starter is in ours. A child that is just becoming libvirtd has the
    # keeper's names for a moment, and another number.
    if len(ids) > 1 and ids[-1] != 1:
        return None
    return Keeper(argv[5], int(entry.name), len(ids) > 1 and name == keeper.READY_NAME + argv[5])


def _namespace_ids(entry: Path) -> list[int]:
    """The process's number in each PID namespace from ours down to its own."""
    lines = (entry / "status").read_text().splitlines()
    return next(([int(word) for word in line.split()[1:]] for line in lines if line.startswith("NSpid:")), [])


def _kill(one: Keeper, home: str) -> None:
    with suppress(ProcessLookupError), _pidfd(one.pid) as descriptor:
        now = _keeper(PROC / str(one.pid), home)  # the pid may have changed hands before the pidfd pinned it
        if now is None or now.node != one.node:
            return
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        # PID 1 of a namespace is gone only after every other process in it is.
        if not select.select([descriptor], [], [], END_TIMEOUT_S)[0]:
            raise Refused(f"process {one.pid}, keeper of the lab's node {one.node}, does not end", "see dmesg")


@contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
