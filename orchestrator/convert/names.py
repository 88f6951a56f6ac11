"""Names of other systems as names of ours: lower case, a-z, 0-9 and -, up to 40, none twice."""

from __future__ import annotations

import re

from orchestrator.model.names import parse_instance_name

LENGTH = 40
MAX_OTHER = 100


def as_name(text: str, otherwise: str) -> str:
    """The nearest name of ours; ``otherwise`` if nothing of ``text`` can be in a name."""
    found = re.sub(r"[^a-z0-9]+", "-", text.lower().encode("ascii", "ignore").decode()).strip("-")
    return found[:LENGTH].strip("-") or otherwise


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
