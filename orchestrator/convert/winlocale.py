"""Windows' names of time zones, locales and keyboards as everybody else's, as far as they are known here.

The time zones are those of Unicode's windowsZones (territory 001).
"""

from __future__ import annotations

import re

ZONES = {
    "UTC": "Etc/UTC", "GMT Standard Time": "Europe/London", "W. Europe Standard Time": "Europe/Berlin",
    "Romance Standard Time": "Europe/Paris", "Central Europe Standard Time": "Europe/Budapest",
    "Central European Standard Time": "Europe/Warsaw", "E. Europe Standard Time": "Europe/Chisinau",
    "FLE Standard Time": "Europe/Kiev", "GTB Standard Time": "Europe/Bucharest",
    "Russian Standard Time": "Europe/Moscow", "Turkey Standard Time": "Europe/Istanbul",
    "Greenwich Standard Time": "Atlantic/Reykjavik", "Israel Standard Time": "Asia/Jerusalem",
    "South Africa Standard Time": "Africa/Johannesburg", "Egypt Standard Time": "Africa/Cairo",
    "Arabian Standard Time": "Asia/Dubai", "India Standard Time": "Asia/Calcutta",
    "China Standard Time": "Asia/Shanghai", "Singapore Standard Time": "Asia/Singapore",
    "Tokyo Standard Time": "Asia/Tokyo", "Korea Standard Time": "Asia/Seoul",
    "SE Asia Standard Time": "Asia/Bangkok", "W. Australia Standard Time": "Australia/Perth",
    "AUS Eastern Standard Time": "Australia/Sydney", "New Zealand Standard Time": "Pacific/Auckland",
    "Eastern Standard Time": "America/New_York", "Central Standard Time": "America/Chicago",
    "Mountain Standard Time": "America/Denver", "US Mountain Standard Time": "America/Phoenix",
    "Pacific Standard Time": "America/Los_Angeles", "Alaskan Standard Time": "America/Anchorage",
    "Hawaiian Standard Time": "Pacific/Honolulu", "Atlantic Standard Time": "America/Halifax",
    "E. South America Standard Time": "America/Sao_Paulo", "Argentina Standard Time": "America/Buenos_Aires",
    "SA Pacific Standard Time": "America/Bogota",
}  # fmt: skip
_LOCALE = re.compile(r"([a-z]{2,3})-([A-Z]{2})")
_KEYBOARDS = {
    "0407:00000407": "de", "de-de": "de", "0409:00000409": "us", "en-us": "us", "0809:00000809": "gb", "en-gb": "gb",
    "040c:0000040c": "fr", "fr-fr": "fr", "0410:00000410": "it", "it-it": "it", "0c0a:0000040a": "es", "es-es": "es",
    "040a:0000040a": "es", "0413:00020409": "us", "0415:00000415": "pl", "pl-pl": "pl", "041d:0000041d": "se",
    "sv-se": "se", "0414:00000414": "no", "nb-no": "no", "0406:00000406": "dk", "da-dk": "dk", "0419:00000419": "ru",
    "ru-ru": "ru", "0816:00000816": "pt", "pt-pt": "pt", "0416:00000416": "br", "pt-br": "br", "0411:00000411": "jp",
    "ja-jp": "jp", "040b:0000040b": "fi", "fi-fi": "fi",
}  # fmt: skip


def locale_of(text: str) -> str:
    """``de-DE`` → ``de_DE.UTF-8``; "" of what is none."""
    match = _LOCALE.fullmatch(text)
    return f"{match[1]}_{match[2]}.UTF-8" if match else ""


def keyboard_of(text: str) -> str:
    """``0407:00000407`` or ``de-DE`` → ``de``; "" of what is not known, also of two at once."""
    return _KEYBOARDS.get(text.strip().lower(), "")
