"""Text from untrusted places, made safe to print and to store: guests write what they like."""

from __future__ import annotations

import re

LINE_LENGTH = 300
# ECMA-48: control sequences (ESC [ … letter), and all shorter ones (ESC, intermediates, one final character).
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[ -/]*[0-~])")
# Control characters, and those that reorder what is printed after them (Unicode's bidirectional controls).
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def line(text: str) -> str:
    """One printable line, at most LINE_LENGTH characters of it."""
    return _UNSAFE.sub("", _ESCAPES.sub("", text))[:LINE_LENGTH].strip()


def lines(text: str) -> tuple[str, ...]:
    """Every line that still says something when made printable."""
    cleaned = (line(part) for part in re.split(r"[\r\n]+", text))
    return tuple(part for part in cleaned if part)
