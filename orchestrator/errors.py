"""Every error that may leave a function of ours, as one tree; a class says who has to act next.

::

    VmroleError                     exit 1    the act failed
    ├─ UserError                    exit 2    the user changes the input; nothing was changed
    │  ├─ InvalidInput              exit 2    one or more problems, each with its path
    │  └─ NotFound                  exit 2    no such service, image, instance
    ├─ TransientError               exit 75   time heals it: try again later
    │  ├─ HostAway                  exit 75   a libvirt daemon does not answer
    │  ├─ AgentSilent               exit 75   a guest agent does not answer
    │  ├─ BalancerAway              exit 75   HAProxy's socket does not answer
    │  ├─ StoreAway                 exit 75   the store cannot be read or written now
    │  ├─ StoreConflict             exit 75   a record was changed by someone else meanwhile
    │  └─ Busy                      exit 75   someone else holds what this one needs
    └─ Refused                      exit 1    the world says no (pool full, not ours, damaged): a person has a look
       ├─ NoRoom                    exit 1    a disk is full
       ├─ AgentRefused              exit 1    the guest's agent says no
       └─ Missing                   exit 1    a program or daemon is not installed or not running

Drivers translate foreign errors into these once, with ``raise … from``. Exit codes are the CLI's contract.
"""

from __future__ import annotations

from dataclasses import dataclass


class VmroleError(Exception):
    """Something failed. ``message`` says what and to which object, ``hint`` what to do next ("" if nothing)."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UserError(VmroleError):
    """The input is wrong; nothing was changed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with an input. ``path``: like ``roles.web.instances``; ``line``, ``column``: from 1 (0: none)."""

    path: str
    message: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column else ""
        where = f"line {self.line}{column}: " if self.line else ""
        return f"{where}{self.path}: {self.message}" if self.path else f"{where}{self.message}"


class InvalidInput(UserError):
    """A file or argument has ``problems``; all of them are reported at once."""

    def __init__(self, source: str, problems: tuple[Problem, ...], hint: str = "") -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        lines = "\n".join(f"  {problem}" for problem in problems)
        super().__init__(f"{source}: {count}\n{lines}", hint)
        self.problems = problems


class NotFound(UserError):
    """There is no object of that name."""


class TransientError(VmroleError):
    """Time heals it; the loop tries again, the CLI exits 75."""

    exit_code = 75


class HostAway(TransientError):
    """A host's libvirt daemon does not answer: what runs there is unknown, not gone."""


class AgentSilent(TransientError):
    """A guest's agent does not answer (not started, hung, or not installed)."""


class BalancerAway(TransientError):
    """HAProxy's runtime socket does not answer."""


class StoreAway(TransientError):
    """The store cannot be read or written now (locked for too long, no room): nothing is done until it can."""


class StoreConflict(TransientError):
    """The record that was to be stored had been changed by someone else since it was read."""


class Busy(TransientError):
    """Another vmrole process holds what this one needs."""


class Refused(VmroleError):
    """The world said no and will say so again until somebody changes something."""


class NoRoom(Refused):
    """Something has no room on a host: it can go on as soon as there is some."""


class AgentRefused(Refused):
    """The guest's agent answered with an error."""


class Missing(Refused):
    """A program or daemon that is needed is not installed or not running."""
