"""The one place that starts programs. No shell, an argv list, a deadline, and errors that can be acted on."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import Missing, TransientError, VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

log = logging.getLogger(__name__)


class ProgramFailed(VmroleError):
    """A program ended with another exit code than 0; ``stderr`` is its last output."""

    def __init__(self, argv: Sequence[str], code: int, stderr: str) -> None:
        last = stderr.strip().splitlines()[-3:]
        fate = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        super().__init__(f"{shlex.join(argv)} {fate}: {' / '.join(last) or 'no output'}")
        self.code = code
        self.stderr = stderr


@dataclass(frozen=True, slots=True)
class Output:
    """What a finished program left: ``code`` (negative: killed by that signal) and its two streams as text."""

    code: int
    stdout: str
    stderr: str


def plain_env() -> dict[str, str]:
    """What a program that outlives us may know of our environment, in which there may be secrets."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if name in os.environ}


def run(
    argv: Sequence[str],
    *,
    timeout_s: float = 30.0,
    stdin: str = "",
    check: bool = True,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Output:
    """Run a program to its end and return what it printed.

    Raises Missing when it is not installed, TransientError after ``timeout_s``, ProgramFailed on another exit code
    than 0 unless ``check`` is False.
    """
    log.debug("run %s", shlex.join(argv))
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=cwd,
            env=env,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise Missing(f"the program {argv[0]} is not installed", "run `make setup`, or install it") from error
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{shlex.join(argv)} did not end within {timeout_s:.0f} s") from error
    if check and done.returncode != 0:
        raise ProgramFailed(argv, done.returncode, done.stderr or done.stdout)
    return Output(done.returncode, done.stdout, done.stderr)


def stream(argv: Sequence[str], on_line: Callable[[str], None], *, env: Mapping[str, str] | None = None) -> None:
    """Run a program and hand over each line of its standard output as it comes; errors as in :func:`run`."""
    log.debug("run %s", shlex.join(argv))
    try:
        child = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=env,
        )
    except FileNotFoundError as error:
        raise Missing(f"the program {argv[0]} is not installed", "run `make setup`, or install it") from error
    tail: list[str] = []
    with child:
        try:
            for line in child.stdout or ():
                tail = [*tail[-9:], line]
                on_line(line.rstrip("\n"))
        except BaseException:
            child.terminate()
            raise
    if child.returncode != 0:
        raise ProgramFailed(argv, child.returncode, "".join(tail))


def start_daemon(argv: Sequence[str], *, log_path: Path, env: Mapping[str, str] | None = None) -> int:
    """Start a program that outlives us, in its own session, with its output appended to ``log_path``; its pid."""
    log.debug("start %s", shlex.join(argv))
    try:
        with log_path.open("ab") as out:
            child = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env=env
            )
    except FileNotFoundError as error:
        raise Missing(f"the program {argv[0]} is not installed", "run `make setup`, or install it") from error
    return child.pid


def attach(argv: Sequence[str]) -> int:
    """Run a program on our own terminal and return its exit code (128 + n when killed by signal n)."""
    try:
        code = subprocess.run(list(argv), check=False).returncode
    except FileNotFoundError as error:
        raise Missing(f"the program {argv[0]} is not installed", "run `make setup`, or install it") from error
    return code if code >= 0 else 128 - code


def lend(argv: Sequence[str], file: int, *, timeout_s: float = 10.0) -> None:
    """Run a short program that is given an open file, under the same number; errors as in :func:`run`."""
    log.debug("run %s", shlex.join(argv))
    try:
        done = subprocess.run(
            list(argv), pass_fds=(file,), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise Missing(f"the program {argv[0]} is not installed", "run `make setup`, or install it") from error
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"{shlex.join(argv)} did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        raise ProgramFailed(argv, done.returncode, done.stderr)
