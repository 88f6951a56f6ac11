"""How a secret is written in a service file: by where it is, never by what it is."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel

from orchestrator.config.fields import STRICT
from orchestrator.model.secret import SecretRef

MAX_SOURCE = 4096
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_STORED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def _source(text: str) -> str:
    """``file:PATH``, ``env:NAME`` or ``store:NAME``; whether it is there is found out by `up`."""
    kind, _, rest = text.partition(":")
    if kind == "file" and rest and rest.isprintable() and len(text) <= MAX_SOURCE:
        return text
    if (kind == "env" and _ENV.fullmatch(rest)) or (kind == "store" and _STORED.fullmatch(rest)):
        return text
    # What was written may be the secret itself: it is not repeated.
    raise ValueError("must say where the secret is: file:PATH, env:NAME or store:NAME")


def is_stored_name(text: str) -> bool:
    return _STORED.fullmatch(text) is not None


Source = Annotated[str, AfterValidator(_source)]


class SecretForm(BaseModel):
    """``{secret: file:PATH}``, ``{secret: env:NAME}`` or ``{secret: store:NAME}``."""

    model_config = STRICT

    secret: Source

    def value(self) -> SecretRef:
        return SecretRef(self.secret)
