"""What the forms of the service file's parts share: how they are read, and fields that more than one of them has."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

_PATH = re.compile(r"/[A-Za-z0-9_.~/%?&=+-]*")


def url_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError("must be a path of a URL, starting with /")
    return text


def _command(value: object) -> object:
    """A shell line or a list of words; said here, since pydantic would tell what is wrong once for each of the two."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("must be a shell line, or a list of words that are texts")
    if not words or not words[0].strip():
        raise ValueError("is an empty command")
    if any("\0" in word for word in words):
        raise ValueError("holds a NUL, which no command can")
    return value


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be one line of printable characters, and not empty")
    return text.strip()


Port = Annotated[int, Field(ge=1, le=65535)]
Command = Annotated[str | list[str], BeforeValidator(_command)]
Line = Annotated[str, AfterValidator(_one_line)]
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
