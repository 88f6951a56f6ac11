"""How a machine that is ready has looked of late, which one look cannot tell. Values; `engine.pulse` folds them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that can be wrong. ``looks``: the last of them, newest last, True if it was wrong then.

    ``since``: Unix seconds of the first wrong look since it was well, None if there was none. ``is_on``: it was wrong
    in so many of the looks that it is believed.
    """

    looks: tuple[bool, ...] = ()
    since: float | None = None
    is_on: bool = False

    @property
    def is_wrong(self) -> bool:
        """Whether it was wrong in the last look, believed or not."""
        return bool(self.looks) and self.looks[-1]


@dataclass(frozen=True, slots=True)
class Pulse:
    """The last looks at one machine, in Unix seconds.

    ``silent``: nobody in the guest answers. ``sick``: the guest says itself that something is wrong (``words``), of
    ``services`` that could be restarted. ``down``: HAProxy's own check of it fails.
    """

    at: float
    silent: Signal = field(default_factory=Signal)
    sick: Signal = field(default_factory=Signal)
    down: Signal = field(default_factory=Signal)
    words: str = ""
    services: tuple[str, ...] = ()
