"""Names of other systems as names of ours: lower case, a-z, 0-9 and -, up to 40, none twice."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.model.names import parse_instance_name

if TYPE_CHECKING:
    from collections.abc import Iterable

LENGTH = 40
MAX_OTHER = 100
COMPUTER, ROOM = 15, 100  # letters of a NetBIOS name; how many instances it has room for


def as_name(text: str, otherwise: str) -> str:
    """The nearest name of ours; ``otherwise`` if nothing of ``text`` can be in a name."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower().encode("ascii", "ignore").decode()).strip("-")
    return found[:LENGTH].strip("-") or otherwise


def computer_name(stem: str, count: int) -> str:
    """As much of ``stem`` as a Windows computer's name has room for, with a - and the number of one of ``count``."""
    return stem[: COMPUTER - len(f"-{max(0, count - 1)}")].rstrip("-")


def as_secret(*parts: str) -> str:
    """The name of a secret in the store."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(parts)).strip("-.")
    return text[:MAX_OTHER] or "secret"


class Names:
    """One scope of names: what was given to whom, so that nothing is given twice.

    ``are_roles``: none is like the name of an instance (``web-2``) of another, either.
    """

    def __init__(self, otherwise: str, *, are_roles: bool = False) -> None:
        self._otherwise = otherwise
        self._letter = "r" if are_roles else ""
        self._taken: set[str] = set()
        self._count: dict[str, int] = {}

    def give(self, text: str) -> str:
        wanted = as_name(text, self._otherwise)
        name, count = wanted, self._count.get(wanted, 1)
        while self._is_taken(name):
            count += 1
            tail = f"-{self._letter}{count}"
            name = wanted[: LENGTH - len(tail)].rstrip("-") + tail
        self._taken.add(name)
        self._count[wanted] = count
        return name

    def _is_taken(self, name: str) -> bool:
        if not self._letter or name in self._taken:
            return name in self._taken
        instance = parse_instance_name(name)
        other = {found[0] for taken in self._taken if (found := parse_instance_name(taken)) is not None}
        return name in other or (instance is not None and instance[0] in self._taken)


class Computers:
    """What the computers of roles are called whose instances have names too long for a Windows."""

    def __init__(self, roles: Iterable[str]) -> None:
        self._taken = set(roles)

    def give(self, role: str, count: int) -> str:
        """The beginning of their names, before - and a number; "" of a role whose own name fits."""
        if computer_name(role, count) == role:
            return ""
        room, number = computer_name(role, max(count, ROOM)), 1
        found = room
        while found in self._taken:
            number += 1
            found = f"{room[: len(room) - len(str(number))]}{number}"
        self._taken.add(found)
        return found
