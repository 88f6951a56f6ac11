"""How much a role has to do, and by what its number of instances follows that. Values; ``engine.load`` folds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Figure(Enum):
    """What is looked at: sessions and requests are HAProxy's figures, the time of processors is libvirt's.

    All of them are of one instance on average. Over an endpoint that is not HTTP, a connection is a request.
    """

    SESSIONS = "sessions_per_instance"
    REQUESTS = "requests_per_second"
    CPU = "cpu_percent"


WORDS = {
    Figure.SESSIONS: "sessions an instance",
    Figure.REQUESTS: "requests a second and instance",
    Figure.CPU: "% of its processors an instance",
}


@dataclass(frozen=True, slots=True)
class Autoscale:
    """Between ``least`` and ``most`` there are as many instances as keep the figure at ``target``.

    ``cool_down_s``: how long after a change in one direction there is no other one in it, and for how long fewer have
    to be enough before one goes.
    """

    least: int
    most: int
    figure: Figure
    target: float
    cool_down_s: float = 120.0

    def __str__(self) -> str:
        between = f"from {self.least} to {self.most}"
        return f"{between} by {self.figure.value} {self.target:g}, cool_down {self.cool_down_s:g} s"


@dataclass(frozen=True, slots=True)
class Load:
    """What was seen of a role of late, in this process.

    ``samples``: (Unix seconds, the figure of all its instances together), oldest first. ``counters``: what only ever
    grows, each with its time; rates are the differences. ``problem``: why the last look gave no figure, "" if it did.
    """

    samples: tuple[tuple[float, float], ...] = ()
    counters: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Scaled:
    """When a role's number was changed last, in Unix seconds: to more (``out``), to fewer (``back``)."""

    out: float = 0.0
    back: float = 0.0
