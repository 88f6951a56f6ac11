"""Fields that several forms have, and how strict every form is."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict

_MODE = re.compile(r"[0-7]{4}")
USER = r"(?:[a-z_][a-z0-9_-]*|[0-9]{1,10})"
_OWNER = re.compile(f"{USER}:{USER}")


# A mapping of the service file: no field that its form does not name, no value of another type.
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


def _mode(value: object) -> str:
    if not isinstance(value, str):  # YAML reads 0644 as the number 420
        raise ValueError('must be four octal digits in quotes, like "0644"')  # noqa: TRY004 - pydantic collects these
    if not _MODE.fullmatch(value):
        raise ValueError(f"must be four octal digits, like 0644, got {value!r:.60}")
    return value


def _owner(text: str) -> str:
    if not _OWNER.fullmatch(text):
        raise ValueError(f"must be user:group, like www-data:www-data, got {text!r:.60}")
    return text


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be one line of printable characters, and not empty")
    return text.strip()


Mode = Annotated[str, BeforeValidator(_mode)]
Owner = Annotated[str, AfterValidator(_owner)]
Line = Annotated[str, AfterValidator(_one_line)]
