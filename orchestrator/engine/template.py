"""Texts of a setup that speak of the instance they are for: ``{{name}}`` stands for one of its own values.

``{{{{`` stands for two braces. Every name that there is is known from the service alone, so that a wrong one is told
before anything is changed; the values are known when the answer file is made.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.setup import Command, File, Setup
    from orchestrator.model.vicinity import Vicinity

_TOKEN = re.compile(r"(?P<literal>\{\{\{\{)|\{\{ *(?P<name>[A-Za-z0-9._-]{1,200}) *\}\}|(?P<stray>\{\{)")
OWN = ("service", "slot", "role", "instance", "ordinal", "generation", "host", "dip", "mac", "vip")
LITERAL = "{{{{"


def names(roles: Iterable[tuple[str, int]]) -> frozenset[str]:
    """Every variable in a service of these (role, number of instances)."""
    found = set(OWN)
    for role, count in roles:
        found |= {f"role.{role}.dips", f"role.{role}.names"}
        found |= {f"instance.{role}-{ordinal}.dip" for ordinal in range(count)}
    return frozenset(found)


def values(record: InstanceRecord, around: Vicinity) -> dict[str, str]:
    """What every variable stands for in an instance's answer file."""
    key, deployment = record.id, record.id.deployment
    own = (
        deployment.service, deployment.slot, key.role, key.name, str(key.ordinal), str(record.generation),
        record.host, record.dip, key.mac, around.vip,
    )  # fmt: skip
    found = dict(zip(OWN, own, strict=True))
    members = sorted({**dict(around.members), key: record.dip}.items())
    for role in {member.role for member, _dip in members}:
        same = [(member, dip) for member, dip in members if member.role == role]
        found[f"role.{role}.dips"] = ",".join(dip for _member, dip in same)
        found[f"role.{role}.names"] = ",".join(member.name for member, _dip in same)
        found |= {f"instance.{member.name}.dip": dip for member, dip in same}
    return found


def problem(text: str, known: frozenset[str]) -> str:
    """What is wrong with a text as a template; "" if nothing."""
    for match in _TOKEN.finditer(text):
        if match["stray"]:
            said = text[match.start() : match.start() + 30]
            return f"has {said!r}, which is no variable; two braces themselves are written {LITERAL}"
        if match["name"] and match["name"] not in known:
            return f"speaks of {{{{{match['name']}}}}}, which is no variable here; known: {_told(known)}"
    return ""


def _told(known: frozenset[str]) -> str:
    rest = sorted(known - set(OWN))
    return ", ".join([*OWN, *rest[:6], *(["…"] if len(rest) > 6 else [])])


def expanded(text: str, found: Mapping[str, str]) -> str:
    """The text with its variables' values. Raises Refused for a name that there is not (any more)."""

    def value(match: re.Match[str]) -> str:
        if match["literal"]:
            return "{{"
        name = match["name"] or ""
        if name not in found:
            said = match.group()
            raise Refused(f"setup speaks of {said}, which is no variable", "mend the service file and run `vmrole up`")
        return found[name]

    return _TOKEN.sub(value, text)


def lenient(text: str, found: Mapping[str, str]) -> str:
    """The text with its variables' values; what has none (any more) is empty."""

    def value(match: re.Match[str]) -> str:
        return "{{" if match["literal"] else found.get(match["name"] or "", "")

    return _TOKEN.sub(value, text)


def escaped(text: str) -> str:
    """The template that expands to just this text."""
    return text.replace("{{", LITERAL)


def filled(setup: Setup, found: Mapping[str, str]) -> Setup:
    """The setup of one instance: every variable in it replaced by its value."""

    def fill(text: str) -> str:
        return expanded(text, found)

    return replace(
        setup,
        hostname=fill(setup.hostname),
        files=tuple(_file(file, fill) for file in setup.files),
        commands=tuple(_command(command, fill) for command in setup.commands),
        settings=tuple((key, fill(value)) for key, value in setup.settings),
        user_data=json.dumps(_tree(json.loads(setup.user_data), fill), ensure_ascii=False) if setup.user_data else "",
        user_parts=tuple((kind, fill(text)) for kind, text in setup.user_parts),
    )


def _file(file: File, fill: Callable[[str], str]) -> File:
    is_text = file.is_template and not file.is_base64 and isinstance(file.content, str)
    content = fill(file.content) if is_text and isinstance(file.content, str) else file.content
    return replace(file, path=fill(file.path), content=content)


def _command(command: Command, fill: Callable[[str], str]) -> Command:
    words = command.words
    return replace(command, words=fill(words) if isinstance(words, str) else tuple(fill(word) for word in words))


def _tree(value: object, fill: Callable[[str], str]) -> object:
    """What JSON can say, with every text in it filled; keys stay as they are."""
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, list):
        return [_tree(item, fill) for item in value]
    if isinstance(value, dict):
        return {key: _tree(item, fill) for key, item in value.items()}
    return value


def texts(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text in what JSON can say, with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from texts(item, (*path, number))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, key))
