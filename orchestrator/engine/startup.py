"""How far a guest is with the commands of its setup, from the few lines that it keeps of that. Pure.

The lines come from the guest: what is not understood says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.text import line, lines

STATE = "/run/vmrole/setup"
MAX_LINES = 5
_KINDS = {"first_boot": "run", "every_boot": "run_every_boot", "start_up": "start-up task"}
EVERY_BOOT = (_KINDS["every_boot"], _KINDS["start_up"])  # how a reason begins that the next boot may mend


@dataclass(frozen=True, slots=True)
class Progress:
    """``running``: what runs now. ``failed``: what failed, with its exit code and last lines. Both "" if nothing."""

    running: str = ""
    failed: str = ""


def progress(text: str) -> Progress:
    """Read ``running WHEN 0 NAME``, or ``failed WHEN CODE NAME`` with ``out LINE`` below it."""
    first, _, rest = text.partition("\n")
    verb, _, told = first.partition(" ")
    when, _, told = told.partition(" ")
    code, _, name = told.partition(" ")
    if when not in _KINDS or not name:
        return Progress()
    what = f"{_KINDS[when]} {line(name)}"
    if verb == "running":
        return Progress(running=what)
    if verb != "failed":
        return Progress()
    fate = "did not end in time" if code == "timeout" else f"failed with exit code {line(code)}"
    said = [part.removeprefix("out ") for part in lines(rest) if part.startswith("out ")][-MAX_LINES:]
    return Progress(failed=f"{what} {fate}" + (f": {' / '.join(said)}" if said else " without a word"))
