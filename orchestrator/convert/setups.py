"""What every writer of a ``setup`` needs: texts that are taken as they are, and secrets that are named, not told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.convert.names import as_secret
from orchestrator.convert.report import Draft, Kind
from orchestrator.engine.template import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping


def all_literal(value: object) -> object:
    """The same of every text of a value; keys are taken as they are anyway."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {key: all_literal(item) for key, item in value.items()}
    return [all_literal(item) for item in value] if isinstance(value, list) else value


def secret(draft: Draft, role: str, what: str, told: str) -> dict[str, str]:
    """A reference in the place of a secret that was in the input, and the note that tells what to do about it."""
    name = as_secret(role, what)
    draft.note(Kind.SECRET, told, f"is not written into the file: `vmrole secret set {name}`")
    return {"secret": f"store:{name}"}


def filled(parts: Mapping[str, object]) -> dict[str, object]:
    """Without what is empty."""
    return {key: part for key, part in parts.items() if part not in ("", None, [], {})}
