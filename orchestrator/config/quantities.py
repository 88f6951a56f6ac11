"""Sizes and times as people write them: ``512MiB``, ``5m``. Each reader raises ValueError with the rule in words."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([0-9]{1,9})\s*(MiB|GiB|TiB)")
_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*(s|m|h)")
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
