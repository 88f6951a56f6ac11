"""Locales and keyboards as Windows names them, from the names that Linux has for them or from Windows' own."""

from __future__ import annotations

import re

# The layouts of X, and the language and the layout that Windows has for each (Microsoft, "Keyboard identifiers").
_KEYBOARDS = {
    "us": "0409:00000409", "gb": "0809:00000809", "uk": "0809:00000809", "de": "0407:00000407", "fr": "040c:0000040c",
    "es": "0c0a:0000040a", "it": "0410:00000410", "ch": "0807:00000807", "at": "0c07:00000407", "be": "080c:0000080c",
    "nl": "0413:00020409", "se": "041d:0000041d", "no": "0414:00000414", "dk": "0406:00000406", "fi": "040b:0000040b",
    "pl": "0415:00000415", "pt": "0816:00000816", "br": "0416:00000416", "cz": "0405:00000405", "hu": "040e:0000040e",
    "ru": "0419:00000419", "tr": "041f:0000041f", "jp": "0411:00000411", "kr": "0412:00000412", "gr": "0408:00000408",
}  # fmt: skip
_LOCALE = re.compile(r"([a-z]{2,3})[-_]([A-Za-z]{4}[-_])?([A-Z]{2})(\.[A-Za-z0-9-]{1,12})?(@[a-z]+)?")
_INPUT = re.compile(r"[0-9a-fA-F]{4}:(?:[0-9a-fA-F]{8}|\{[0-9a-fA-F-]{36}\}\{[0-9a-fA-F-]{36}\})")


def windows_locale(text: str) -> str:
    """``de_DE.UTF-8`` or ``de-DE`` → ``de-DE``; "" if it is neither. ``C`` is plain English."""
    if text.partition(".")[0] in {"C", "POSIX"}:
        return "en-US"
    match = _LOCALE.fullmatch(text)
    return f"{match[1]}-{(match[2] or '').replace('_', '-')}{match[3]}" if match else ""


def windows_keyboard(text: str) -> str:
    """An X layout (``de``), a locale or Windows' own ``0407:00000407`` → an input locale; "" if it is none of them."""
    return text if _INPUT.fullmatch(text) else _KEYBOARDS.get(text, "") or windows_locale(text)
