"""What may be a secret, by its name or by how it looks. It is not written into a service file, nor shown in a report.

No rule finds every password in somebody's script: what these do find is what people usually write.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.convert.tree import Element

HIDDEN = "(not shown)"
_KEY = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credential|(?:account|access|shared|api|private|activation|registration"
    r"|validation|encryption)[_-]?(?:access[_-]?)?key)"
)
_NAME = re.compile(rf"{_KEY}|sharedaccess|_private$|(?:^|[_-])psk$", re.IGNORECASE)
_NO_SECRET = re.compile(
    r"(?:file|path|policy|expir\w*|length|lifetime|url|uri|timeout|age|lock_passwd|ssh_pwauth)$", re.IGNORECASE
)
_LOOKS = re.compile(
    r"PRIVATE KEY-----|^ *(?:requirepass|masterauth) +\S"
    r"|\b[a-z][a-z0-9+.-]*://[^/@\s:\"']*:[^/@\s\"']+@|\bBearer +[A-Za-z0-9._~+/=-]{4,}",
    re.IGNORECASE | re.MULTILINE,
)
_VALUE = r"[\"']?(?![\s\"'$%<{]|(?:none|null|true|false|yes|no)\b)\S"  # a variable is none, and no switch is
_SAID = re.compile(
    r"(?:^|[\s;&?,'\"{(/-])(?!nopasswd *:)"  # which sudo's rules say
    rf"[\w.-]*(?:{_KEY}|\bsig|sharedaccesssignature)[\w.-]*[\"']? *(?:=|:(?!//)) *{_VALUE}",
    re.IGNORECASE | re.MULTILINE,
)
_COMMAND = re.compile(
    r"\bchpasswd\b|\bpasswd +--stdin|\bsshpass +-p|\bnet1? +user +\S+ +[^/\s]\S*|-AsPlainText|\bcmdkey\b.*/pass"
    r"|\b(?:curl|wget)\b.*\s(?:-u|--user)[ =]*['\"]?[^\s:]+:[^\s'\"$]+|\bmysql\w*\b.* -p(?=[^\s-])\S"
    rf"|--?(?:password|passwd|token|secret|pass)(?:d|o)?[ =:]+(?!-){_VALUE}",
    re.IGNORECASE,
)
_CONNECTION = re.compile(r"connectionstring$", re.IGNORECASE)
_KEYLESS = re.compile(
    r"usedevelopmentstorage *= *true|integrated security *= *(?:true|sspi)|trusted_connection *=", re.IGNORECASE
)


def is_secretive(name: str, value: str) -> bool:
    """Whether a value may be a secret, by its name or by itself."""
    if not value or value.lower() in {"true", "false", "none", "null", "0", "1"}:
        return False
    if (_NAME.search(name) and not _NO_SECRET.search(name)) or holds_secret(value):
        return True
    return bool(_CONNECTION.search(name)) and not _KEYLESS.search(value)


def holds_secret(text: str) -> bool:
    """Whether a text, of a file or a setting, has what may be a secret in it."""
    return bool(_LOOKS.search(text) or _SAID.search(text))


def in_command(text: str) -> bool:
    """The same of a command or a script."""
    return holds_secret(text) or bool(_COMMAND.search(text))


def shown(name: str, value: str, of: Element | None = None) -> str:
    """A value as a report may have it. ``of``: where it stands, which may have its real name (``name="…"``)."""
    named = of.get("name") if of is not None and name == "value" else name
    return HIDDEN if is_secretive(named, value) or ("?" in value and "://" in value) else value
