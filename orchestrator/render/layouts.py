"""What HAProxy's folder keeps of frontends: the values in its file, and what it has refused. JSON, by pydantic.

Both are read back with care: somebody else may have written there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from orchestrator.model.action import Frontend
from orchestrator.model.world import LayoutRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MARK = "# frontend "
_FRONTEND = TypeAdapter(Frontend)
_REFUSED = TypeAdapter(dict[str, LayoutRefused])


def frontend_lines(frontends: Sequence[Frontend]) -> list[str]:
    """A comment for each, so that what runs is known as a value too."""
    return [MARK + _FRONTEND.dump_json(frontend).decode() for frontend in frontends]


def saved_frontends(text: str) -> tuple[Frontend, ...]:
    """The values in a file of HAProxy's; () if there are none, or not of this version."""
    lines = (line.removeprefix(MARK) for line in text.splitlines() if line.startswith(MARK))
    try:
        return tuple(_FRONTEND.validate_json(line) for line in lines)
    except ValidationError:
        return ()


def dump_refused(refused: Mapping[str, LayoutRefused]) -> str:
    return _REFUSED.dump_json(dict(refused)).decode()


def load_refused(text: str) -> dict[str, LayoutRefused]:
    try:
        return _REFUSED.validate_json(text)
    except ValidationError:
        return {}
