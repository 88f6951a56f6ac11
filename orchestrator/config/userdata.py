"""The user's own user-data, in every form that cloud-init knows: told apart into one cloud-config and other parts.

A cloud-config is one mapping, so that it can be joined to ours; of what is no cloud-config nothing is understood here.
"""

from __future__ import annotations

import email.parser
import email.policy
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from orchestrator.config.reading import UNREADABLE, Fault, Path_, Places, mapping, path_text, place, read, roles
from orchestrator.errors import Problem
from orchestrator.render.cloudconfig import merged

if TYPE_CHECKING:
    from collections.abc import Iterator

# How a text says what it is, as cloud-init has it (handlers/__init__.py); the longest first.
_TYPES = {
    "#cloud-config-archive": "text/cloud-config-archive",
    "#cloud-config-jsonp": "text/cloud-config-jsonp",
    "#cloud-config": "text/cloud-config",
    "#cloud-boothook": "text/cloud-boothook",
    "#include-once": "text/x-include-once-url",
    "#include": "text/x-include-url",
    "#part-handler": "text/part-handler",
    "## template: jinja": "text/jinja2",
    "#!": "text/x-shellscript",
}
CONFIG, ARCHIVE = "text/cloud-config", "text/cloud-config-archive"
MIME_WITHIN = 4096  # cloud-init looks no further for it (user_data.py)
_KIND = re.compile(r"text/[a-z0-9.+-]{1,60}")
_HOW = {"merge_how", "merge_type"}
# What both the user's cloud-config and fields of ours can ask for, so that the two lists are joined.
_LISTS = {
    "ssh_authorized_keys": ("ssh_authorized_keys",),
    "write_files": ("files", "certificates", "keyboard", "locale"),
    "users": ("users",),
    "packages": ("packages",),
}
_MAPPINGS = {
    "chpasswd": ("users", "administrator"),
    "ca_certs": ("trusted_certificates",),
    "ntp": ("ntp",),
}
# Without it nothing of ours would be done: no disk mounted, no start-up task run.
_OURS = "vendor_data"


@dataclass(frozen=True, slots=True)
class UserData:
    """``config``: a cloud-config as a JSON object's text ("": none). ``parts``: (MIME type, text) of all else."""

    config: str = ""
    parts: tuple[tuple[str, str], ...] = ()


def told_apart(raw: dict[str, object], places: Places) -> list[Fault]:
    """Put a mapping or a UserData in the place of each user-data, and say what is wrong with it."""
    faults: list[Fault] = []
    for path, role in roles(raw):
        setup, here = mapping(role, "setup"), (*path, "setup", "user_data")
        value = setup.get("user_data")
        if isinstance(value, str) and _kind(value) == CONFIG:
            setup["user_data"], found = _config(value, here, places)
        elif isinstance(value, str) and (kind := _kind(value)):
            setup["user_data"], found = _in_parts([(kind, value, here)], places)
        elif isinstance(value, list):
            items, found = _items(value, here, places)
            setup["user_data"], more = _in_parts(items, places)
            found += more
        else:
            continue
        faults += found
    return faults


def _kind(text: str) -> str:
    """The MIME type that a text says it has; "" if it says none."""
    if "mime-version:" in text[:MIME_WITHIN].lower():
        return "multipart/mixed"
    return next((kind for start, kind in _TYPES.items() if text.startswith(start)), "")


def _config(text: str, here: Path_, places: Places) -> tuple[object, list[Fault]]:
    """A cloud-config's text as a value; faults have the line of the service file where that can be told."""
    _known, line = place(places, here)
    node = places[here][1] if here in places else None
    is_block = isinstance(node, yaml.ScalarNode) and node.style == "|"
    _places, value, found = read(text)
    first = node.start_mark.line + 1 if isinstance(node, yaml.ScalarNode) else line
    return value, [
        Fault((*here, *fault.path), fault.message, first + fault.line if is_block else line) for fault in found
    ]


def _items(value: list[object], here: Path_, places: Places) -> tuple[list[tuple[str, str, Path_]], list[Fault]]:
    """(type, text, where) of each ``{type, content}`` of a list."""
    items: list[tuple[str, str, Path_]] = []
    faults = []
    for number, item in enumerate(value):
        at: Path_ = (*here, number)
        content = item.get("content") if isinstance(item, dict) else None
        kind = item.get("type", "") if isinstance(item, dict) else ""
        if content is UNREADABLE:
            continue
        if not isinstance(item, dict) or not isinstance(content, str) or set(item) - {"type", "content"}:
            faults.append(_fault(places, at, "must be {type, content}, or {type, source}, of a part of user-data"))
        elif not isinstance(kind, str) or not _KIND.fullmatch(kind or _kind(content)):
            faults.append(_fault(places, at, "does not say what it is: give it a type, like text/x-shellscript"))
        else:
            items.append((kind or _kind(content), content, (*at, "content")))
    return items, faults


def _in_parts(items: list[tuple[str, str, Path_]], places: Places) -> tuple[object, list[Fault]]:
    """One UserData of all parts; those that have parts themselves are opened."""
    config: dict[str, object] = {}
    parts: list[tuple[str, str]] = []
    faults: list[Fault] = []
    for kind, text, here in _opened(items, places, faults):
        value, found = _config(text, here, places) if kind == CONFIG else (None, [])
        if kind != CONFIG or (isinstance(value, dict) and _HOW & set(value)):
            parts.append((kind, text))
        elif isinstance(value, dict):
            config = merged(config, json.dumps(value))
        elif not found:
            found = [_fault(places, here, "must be a mapping: it is a cloud-config")]
        faults += found
    return UserData(json.dumps(config, ensure_ascii=False) if config else "", tuple(parts)), faults


def _opened(
    items: list[tuple[str, str, Path_]], places: Places, faults: list[Fault]
) -> Iterator[tuple[str, str, Path_]]:
    for kind, text, here in items:
        if kind == "multipart/mixed":
            yield from _mime(text, here, places, faults)
        elif kind == ARCHIVE:
            value, found = _config(text, here, places)
            faults += found
            nested, more = _items(value if isinstance(value, list) else [value], here, places)
            faults += more
            yield from nested
        else:
            yield kind, text, here


def _mime(text: str, here: Path_, places: Places, faults: list[Fault]) -> Iterator[tuple[str, str, Path_]]:
    message = email.parser.Parser(policy=email.policy.default).parsestr(text)
    if message.defects:
        faults.append(_fault(places, here, f"is not MIME: {type(message.defects[0]).__name__}"))
        return
    for part in message.walk():
        if part.is_multipart():
            continue
        payload = part.get_payload(decode=True)
        body = payload.decode(errors="replace") if isinstance(payload, bytes) else ""
        if "\ufffd" in body or "\0" in body:
            faults.append(_fault(places, here, "has a part that is no text in UTF-8"))
            continue
        declared = part.get_content_type()
        yield (_kind(body) or declared) if declared in {"text/plain", "text/x-not-multipart"} else declared, body, here


def _fault(places: Places, here: Path_, message: str) -> Fault:
    known, line = place(places, here)
    return Fault(known, message, line)


def beside(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """What the user's cloud-config would have instead of ours, because only lists and mappings can be joined."""
    for path, role in roles(raw):
        setup = mapping(role, "setup")
        for key, value in _theirs(setup).items():
            kind, what, fields = (list, "a list", _LISTS) if key in _LISTS else (dict, "a mapping", _MAPPINGS)
            ours = [f"setup.{field}" for field in fields.get(key, ()) if setup.get(field)]
            here: Path_ = (*path, "setup", "user_data", key)
            if ours and not isinstance(value, kind) and value is not UNREADABLE:
                yield _problem(places, here, f"must be {what}: it is joined to that of {' and '.join(ours)}")
            if key == _OURS:
                yield _problem(places, here, "cannot be changed: the disks and the start-up tasks come by it")
        for below in _references(_theirs(setup)):
            told = "cannot be a secret here: give it as a file of setup.files, or as a password of setup.users"
            yield _problem(places, (*path, "setup", "user_data", *below), told)


def _references(value: object, path: Path_ = ()) -> Iterator[Path_]:
    """Where something is that would be a secret elsewhere: to cloud-init it would be a mapping like any other."""
    if isinstance(value, dict):
        source = value.get("secret")
        if set(value) == {"secret"} and isinstance(source, str) and source.startswith(("file:", "env:", "store:")):
            yield path
        for key, item in value.items():
            yield from _references(item, (*path, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, (*path, number))


def _theirs(setup: dict[str, object]) -> dict[str, object]:
    value = setup.get("user_data")
    if isinstance(value, UserData):
        found = json.loads(value.config) if value.config else {}
        return found if isinstance(found, dict) else {}
    return value if isinstance(value, dict) else {}


def _problem(places: Places, here: Path_, message: str) -> Problem:
    known, line = place(places, here)
    return Problem(path_text(here if known == here else (*known, here[-1])), message, line)
