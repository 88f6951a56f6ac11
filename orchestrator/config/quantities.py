"""Sizes and times as people write them: ``512MiB``, ``5m``. Each reader raises ValueError with the rule in words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Number = TypeVar("Number", int, float)
_SIZE = re.compile(r"([0-9]{1,9}) *(MiB|GiB|TiB)")
_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) *(s|m|h)")
_MIB = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def mebibytes(text: object) -> int:
    """``512MiB`` → 512."""
    match = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("must be a size like 512MiB or 4GiB")
    return int(match.group(1)) * _MIB[match.group(2)]


def seconds(text: object) -> float:
    """``5m`` → 300.0."""
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("must be a time like 90s, 5m or 1h")
    return float(match.group(1)) * _SECONDS[match.group(2)]


def bounded(read: Callable[[object], Number], least: str, most: str) -> Callable[[object], Number]:
    """``read`` with bounds, which are told as they are written here: nobody should have to reckon in our units."""
    lowest, highest = read(least), read(most)

    def reader(text: object) -> Number:
        value = read(text)
        if value < lowest:
            raise ValueError(f"must be at least {least}, got {text}")
        if value > highest:
            raise ValueError(f"must be at most {most}, got {text}")
        return value

    return reader
