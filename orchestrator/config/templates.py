"""Variables in a service file that there are not, and host names that none could have."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from orchestrator.config.reading import Path_, Places, mapping, problem, roles
from orchestrator.config.userdata import UserData
from orchestrator.engine import template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.errors import Problem

_PLAIN = ("hostname", "run", "run_every_boot", "startup_tasks", "settings", "user_data")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
MAX_HOSTNAME = 64  # Linux keeps no more of it


def problems(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """Every text that is expanded for an instance, and speaks of what is nowhere."""
    counts = {path[-1]: role.get("instances", 1) for path, role in roles(raw)}
    known = template.names((str(name), n) for name, n in counts.items() if isinstance(n, int) and 0 <= n <= 1000)
    for path, role in roles(raw):
        setup = mapping(role, "setup")
        for where, text in _texts(setup):
            if wrong := template.problem(text, known):
                yield problem(places, (*path, "setup", *where), wrong)
        if wrong := _wrong_hostname(str(path[-1]), setup.get("hostname"), counts[path[-1]], known):
            yield problem(places, (*path, "setup", "hostname"), wrong)


def _texts(setup: dict[str, object]) -> Iterator[tuple[Path_, str]]:
    for key in _PLAIN:
        value = setup.get(key)
        if isinstance(value, UserData):
            value = [json.loads(value.config) if value.config else {}, [text for _kind, text in value.parts]]
            yield from (((key,), text) for _path, text in template.texts(value))
        else:
            yield from template.texts(value, (key,))
    files = setup.get("files")
    for number, file in enumerate(files if isinstance(files, list) else ()):
        if isinstance(file, dict):
            fields = ("path", "content") if file.get("template", True) is not False else ("path",)
            yield from (
                ((("files", number, field), text)) for field in fields if isinstance(text := file.get(field), str)
            )


def _wrong_hostname(role: str, pattern: object, count: object, known: frozenset[str]) -> str:
    """Whether the last instance, which has the longest name, would have a name that can be one."""
    if not isinstance(pattern, str) or template.problem(pattern, known) or not isinstance(count, int):
        return ""
    sample = dict.fromkeys(known, "x") | {"role": role, "instance": f"{role}-{count - 1}", "ordinal": str(count - 1)}
    shown = template.expanded(pattern, sample)
    if len(shown) <= MAX_HOSTNAME and _HOSTNAME.fullmatch(shown):
        return ""
    return f"makes {shown!r:.100}, which is no host name: letters, digits and -, up to {MAX_HOSTNAME}"
