"""Names of other systems as names of ours: lower case, a-z, 0-9 and -, up to 40, none twice."""

from __future__ import annotations

import re

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
    """One scope of names: what was given to whom, so that nothing is given twice."""

    def __init__(self, otherwise: str) -> None:
        self._otherwise = otherwise
        self._taken: set[str] = set()

    def give(self, text: str) -> str:
        wanted = as_name(text, self._otherwise)
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            tail = f"-{count}"
            name = wanted[: LENGTH - len(tail)].rstrip("-") + tail
        self._taken.add(name)
        return name
