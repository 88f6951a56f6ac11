"""What the forms of the service file's parts share: how they are read, and fields that more than one of them has."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

# A mapping of the service file: no field that its form does not name, no value of another type.
# (ruff allows lists as defaults only where it sees the BaseModel: so each module has a base of its own of it.)
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_PATH = re.compile(r"/[A-Za-z0-9_.~/%?&=+-]*")
_MODE = re.compile(r"[0-7]{4}")
USER = r"(?:[a-z_][a-z0-9_-]*|[0-9]{1,10})"
_OWNER = re.compile(f"{USER}:{USER}")


def url_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError("must be a path of a URL, starting with /")
    return text


def vip_address(text: str) -> str:
    try:
        address = IPv4Address(text)
    except ValueError as error:
        raise ValueError(f"must be an IPv4 address, like 192.0.2.10, got {text!r:.60}") from error
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_reserved:
        raise ValueError(f"{text} is no address that a service can be reached at")
    return str(address)


def line_or_words(value: object) -> object:
    """A shell line or a list of words; said here, since pydantic would tell what is wrong once for each of the two."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("must be a shell line, or a list of words that are texts")
    if not words or not words[0].strip():
        raise ValueError("is an empty command")
    if any("\0" in word for word in words):
        raise ValueError("holds a NUL, which no command can")
    return value


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


Port = Annotated[int, Field(ge=1, le=65535)]
Command = Annotated[str | list[str], BeforeValidator(line_or_words)]
Mode = Annotated[str, BeforeValidator(_mode)]
Owner = Annotated[str, AfterValidator(_owner)]
Line = Annotated[str, AfterValidator(_one_line)]
