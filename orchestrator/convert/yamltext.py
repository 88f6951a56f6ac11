"""A service file's text with comments: YAML's own emitter writes every scalar, and only the layout is ours."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import yaml

from orchestrator.convert.report import Path_, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

INDENT = "  "
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*|store:[A-Za-z0-9_.-]+|[0-9]+(?:MiB|GiB|s)")
_BLOCK = re.compile(r"[^\s](?:[^\r\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]*[^\s\x00-\x1f\x7f-\x9f\ufeff])?\n?")


def written(value: Mapping[str, object], comments: Mapping[Path_, list[str]]) -> str:
    """A whole file. ``comments``: lines to stand above the field at a path."""
    return "\n".join(_mapping(value, (), comments, "")) + "\n"


def _mapping(
    value: Mapping[str, object], path: Path_, comments: Mapping[Path_, list[str]], indent: str
) -> Iterator[str]:
    for key, child in value.items():
        here = (*path, key)
        yield from (f"{indent}# {printable(text)}" for text in comments.get(here, ()))
        yield from _field(f"{indent}{scalar(key)}:", child, here, comments, indent)


def _field(head: str, child: object, path: Path_, comments: Mapping[Path_, list[str]], indent: str) -> Iterator[str]:
    if isinstance(child, dict) and child:
        yield head
        yield from _mapping(child, path, comments, indent + INDENT)
    elif isinstance(child, list) and child:
        yield head
        yield from _items(child, path, comments, indent + INDENT)
    elif isinstance(child, str) and (block := _block(child, indent + INDENT)):
        yield f"{head} {block}"
    else:
        yield f"{head} {scalar(child)}"


def _items(value: list[object], path: Path_, comments: Mapping[Path_, list[str]], indent: str) -> Iterator[str]:
    for number, child in enumerate(value):
        here = (*path, number)
        yield from (f"{indent}# {printable(text)}" for text in comments.get(here, ()))
        if isinstance(child, dict) and child:
            first, *rest = _mapping(child, here, comments, indent + INDENT)
            if first.lstrip().startswith("#"):
                yield f"{indent}-"
                yield first
            else:
                yield f"{indent}- {first.removeprefix(indent + INDENT)}"
            yield from rest
        elif isinstance(child, list):
            yield f"{indent}- {_flow(child)}"
        else:
            yield from _field(f"{indent}-", child, here, comments, indent)


def _flow(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_flow(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    return scalar(value)


def _block(text: str, indent: str) -> str:
    """A text of several lines as people like to read it; "" if that form could change a letter of it."""
    if "\n" not in text.rstrip("\n") or not _BLOCK.fullmatch(text):
        return ""
    lines = [f"{indent}{line}" if line else "" for line in text.removesuffix("\n").split("\n")]
    block = "\n".join(["|" if text.endswith("\n") else "|-", *lines])
    try:
        return block if yaml.safe_load(f"k: {block}\n") == {"k": text} else ""
    except yaml.YAMLError:
        return ""


def scalar(value: object) -> str:
    """A scalar, or an empty list or mapping, on one line."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and yaml.safe_load(value) == value:
        return value
    dumped: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))
    return dumped.removesuffix("\n")
