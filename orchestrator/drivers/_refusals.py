"""What HAProxy has refused to run with, kept beside its file: for who runs the loop next, and for who only looks."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.drivers._files import write_durably
from orchestrator.engine.rotation import layout
from orchestrator.model.world import LayoutRefused
from orchestrator.render.layouts import dump_refused, load_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orchestrator.errors import Refused
    from orchestrator.model.action import Frontend

MOST = 8  # layouts: what is wanted now, and what was tried in its place
WORDS = 500  # of what it said


class Refusals:
    """Those in ``path``. Where it cannot be written, what was refused is tried again at once, and no worse."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now

    def seen(self) -> dict[str, LayoutRefused]:
        try:
            return load_refused(self._path.read_text(errors="replace"))
        except OSError:
            return {}

    def add(self, frontends: Sequence[Frontend], error: Refused, backends: Sequence[str]) -> None:
        """``backends``: those that the error is about, as far as that is known."""
        known, now = self.seen(), self._now()
        made = LayoutRefused(error.message[:WORDS], error.hint, tuple(backends), now, now)
        before = known.pop(layout(frontends), None)
        if before is not None:
            made = replace(made, since=before.since, tries=before.tries + 1)
        newest = sorted(known.items(), key=lambda item: item[1].at)[1 - MOST :]
        self._put({**dict(newest), layout(frontends): made})

    def drop(self, frontends: Sequence[Frontend]) -> None:
        """It runs with these now."""
        known = self.seen()
        if known.pop(layout(frontends), None) is not None:
            self._put(known)

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    def _put(self, refused: dict[str, LayoutRefused]) -> None:
        with contextlib.suppress(OSError):
            write_durably(self._path, dump_refused(refused))
