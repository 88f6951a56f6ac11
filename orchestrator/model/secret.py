"""A value that nobody may see: it has no text, cannot be pickled or made JSON of, and is compared in constant time."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import NoReturn

MAX_BYTES = 64 * 1024  # certificates fit
HIDDEN = "Secret(…)"


class Secret:
    """Wraps bytes; only ``reveal`` gives them out, to whoever writes them where they belong."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        return self._value

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> NoReturn:
        raise TypeError("a secret has no hash: it could be guessed from it")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is, never the secret itself.

    ``source``: as in the service file (``file:PATH``, ``env:NAME``, ``store:NAME``). ``key``: under which the value
    lies in the encrypted store, another one for another value; "" until `up` has read it.
    """

    source: str
    key: str = ""


def line_of_secret(value: bytes) -> str:
    """A secret of one line: the newline that files end with is not part of it. "" of what is no printable line."""
    text = value.decode(errors="surrogateescape").removesuffix("\n").removesuffix("\r")
    return text if text.isprintable() else ""
