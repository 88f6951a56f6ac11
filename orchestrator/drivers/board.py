"""What did not work in the loop's last turn, where every process of a home can read it: a small file, never waited for.

It is of use only while it is fresh. It holds messages, so it is as private as the rest of the state folder.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.model.world import Notice

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FRESH_S = 15.0  # a loop that has trouble tries again, and writes again, much more often


class FileBoard:
    """The board of one home folder."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def post(self, told: Mapping[str, Notice], now: float) -> None:
        """Without room for it nothing is told; the loop itself knows."""
        with contextlib.suppress(OSError):
            self._put(told, now)

    def _put(self, told: Mapping[str, Notice], now: float) -> None:
        if not told:
            self._path.unlink(missing_ok=True)
            return
        text = json.dumps({"at": now, "told": {track: asdict(trouble) for track, trouble in told.items()}})
        fresh = self._path.with_name(f".{self._path.name}.new")
        fresh.touch(mode=0o600)
        fresh.write_text(text)
        fresh.replace(self._path)

    def read(self, now: float) -> dict[str, Notice]:
        try:
            found = json.loads(self._path.read_text())
            is_fresh = abs(now - found["at"]) < FRESH_S
            return {track: Notice(**told) for track, told in found["told"].items()} if is_fresh else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # nobody has written, or somebody is writing, or it is of another version
