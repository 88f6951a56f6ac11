"""qemu-img in a cage: a format that it is told, limits for memory, processor and time, no network, and our own end.

It reads files that nobody vouches for. The inspector has judged them before; this is for what no inspector sees.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from typing import TYPE_CHECKING

from orchestrator.drivers.process import ProgramFailed, run, stream
from orchestrator.errors import Missing, NoRoom, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

GIB = 1024**3
MEMORY_BYTES = 4 * GIB  # address space, most of it reserved by thread stacks and never used
CPU_S, CPU_S_A_GIB = 120, 20
WALL_S, WALL_S_A_GIB = 300, 120
LAYOUT = ("-O", "qcow2", "-o", "compat=1.1,cluster_size=65536,lazy_refcounts=off,preallocation=off")
# What people call a format → what qemu-img calls it.
DRIVERS = {"raw": "raw", "qcow2": "qcow2", "vhd": "vpc", "vhdx": "vhdx", "vmdk": "vmdk"}
# Options of each format that is given out; ``force_size``: the exact size, in place of one that has a CHS geometry.
EXPORTS = {
    ("qcow2", False): ("-o", "compat=1.1,lazy_refcounts=off"),
    ("qcow2", True): ("-c", "-o", "compat=1.1,lazy_refcounts=off"),
    ("raw", False): (),
    ("vhd", False): ("-o", "subformat=dynamic,force_size=on"),
    ("vhdx", False): ("-o", "subformat=dynamic"),
    ("vmdk", False): ("-o", "subformat=monolithicSparse"),
    ("vmdk", True): ("-o", "subformat=streamOptimized"),
}
_PERCENT = re.compile(r"\(\s*([0-9.]+)/100%\)")


def convert(
    source: Path,
    target: Path,
    options: Sequence[str],
    *,
    source_format: str,
    size: int,
    on_done: Callable[[float], None],
) -> None:
    """Convert a disk of ``size`` bytes; ``on_done`` is told the share that is done. Raises Refused, NoRoom, Missing."""

    def heard(text: str) -> None:
        found = _PERCENT.search(text)
        if found:
            on_done(float(found[1]) / 100)

    argv = ["qemu-img", "convert", "-p", "-f", DRIVERS[source_format], *options, "--", str(source), str(target)]
    caged(argv, size, heard)


def caged(argv: Sequence[str], size: int, heard: Callable[[str], None], *, file_bytes: int = 0) -> None:
    """Run a program on a disk of ``size`` bytes, under limits. Raises Refused, NoRoom, Missing.

    ``file_bytes``: how long a file it may write, 0: of any length.
    """
    if shutil.which(argv[0]) is None:
        raise Missing(f"the program {argv[0]} is not installed", "run `make setup`, or install it")
    gib = -(-size // GIB)
    cpu_s, wall_s = CPU_S + CPU_S_A_GIB * gib, WALL_S + WALL_S_A_GIB * gib
    dying = ("setpriv", "--pdeathsig", "KILL")  # with us: nothing writes on behind the back of the next run
    limits = ("prlimit", f"--as={MEMORY_BYTES}", f"--cpu={cpu_s}", "--core=0", f"--fsize={file_bytes or 'unlimited'}")
    try:
        stream([*dying, "timeout", "-s", "KILL", str(wall_s), *dying, *limits, *_no_network(), *argv], heard)
    except ProgramFailed as error:
        said = error.stderr.strip().splitlines()
        last = said[-1] if said else "it said nothing"
        if "No space left" in error.stderr:
            raise NoRoom(f"the disk is full: {last}", "make room, then run the same command again") from error
        if error.code in {137, 152, -9, -24}:
            raise Refused(f"{argv[0]} was ended by its limits ({cpu_s} s of processor time, {wall_s} s)") from error
        raise Refused(f"{argv[0]} failed: {last}") from error


@functools.cache
def _no_network() -> tuple[str, ...]:
    """A network namespace of its own, with nothing in it, where we may make one."""
    if os.geteuid() != 0 or run(["unshare", "-n", "true"], check=False).code != 0:
        return ()
    return ("unshare", "-n")
