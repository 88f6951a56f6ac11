"""A loop that stands by, as long as a test needs it: what happens is put right without any command."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import CACHE, ROOT

PROGRAM = """
import pathlib, sys
from orchestrator.wiring import wired
home, cache = map(pathlib.Path, sys.argv[1:])
with wired(home, None, cache, lambda _text: None) as wiring:
    print("looks", flush=True)
    wiring.loop.run(lambda _plan: False)
"""


@contextlib.contextmanager
def loop(lab):
    argv = [sys.executable, "-c", PROGRAM, str(lab.home), str(CACHE)]
    child = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "looks\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def kill(*words):
    """End every process with all of these words in its command line, at once; there has to be one."""
    found = [pid for pid, line in _processes() if all(word in line for word in words)]
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert found, words


def _processes():
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                yield int(entry.name), (entry / "cmdline").read_text(errors="replace")


def kill_qemu(domain):
    """A service's name is what tells our machine from those of other labs."""
    kill("qemu-system", f"guest={domain},")


def kill_haproxy(lab):
    kill("haproxy", f"{lab.home}/run")
