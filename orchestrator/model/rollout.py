"""How a change that needs other machines goes through a role, and how far one has got: values, nothing decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.model.spec import Platform, Service


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why an upgrade has stopped: the first instance that did not get healthy in its time, where and why."""

    instance: str
    stage: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """An upgrade under way. ``revision``: where it goes; ``began``: Unix seconds, 0 until the loop has begun it.

    ``roles``: those that change, with how many extra instances each has meanwhile. ``domain``: the one that it is at
    ``since`` then, None between two. ``canary``: so many instances of each role go first, and the rest waits;
    ``canaries`` are their names. ``waits``: for which command of the user (resume, promote), "" if for none.
    ``is_back``: it goes back to a revision that was good. ``is_whole``: nothing served when it began, so that there is
    nothing to be careful of: all instances are in one domain. ``last``: the domain that the upgrade before it was at.
    """

    revision: int
    began: float = 0.0
    roles: Mapping[str, int] = field(default_factory=dict)
    domain: int | None = None
    since: float = 0.0
    canary: int = 0
    canaries: tuple[str, ...] = ()
    waits: str = ""
    paused: float | None = None
    stopped: Stopped | None = None
    is_back: bool = False
    is_whole: bool = False
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Good:
    """A revision all of whose instances were healthy: what a rollback goes back to."""

    revision: int
    service: Service
    digests: Mapping[str, str]
    platforms: Mapping[str, Platform] = field(default_factory=dict)
