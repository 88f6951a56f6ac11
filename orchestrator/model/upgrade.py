"""How a change that needs other machines is to go through a role: as the service file says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Share:
    """Some of a role's instances: a number, or a part of them (``is_percent``)."""

    amount: int
    is_percent: bool = False

    def least(self, instances: int) -> int:
        """So many of ``instances``, rounded down: but of a part at least one."""
        return max(min(1, self.amount), instances * self.amount // 100) if self.is_percent else self.amount

    def most(self, instances: int) -> int:
        """So many of ``instances``, rounded up."""
        return -(-instances * self.amount // 100) if self.is_percent else self.amount

    def __str__(self) -> str:
        return f"{self.amount}%" if self.is_percent else str(self.amount)


ONE, NONE = Share(1), Share(0)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """How a change goes through a role's instances: one upgrade domain after the other.

    ``max_unavailable``: so many may be away at once, for whatever reason. ``max_surge``: so many extra instances
    stand in meanwhile. ``min_ready_s``: how long an instance has to be healthy before it counts. ``timeout_s``: by when
    it has to be (None: by the role's time to get ready). Without ``is_automatic`` every domain waits for a word.
    """

    domains: int = 5
    max_unavailable: Share = ONE
    max_surge: Share = NONE
    min_ready_s: float = 5.0
    timeout_s: float | None = None
    is_automatic: bool = True

    def away(self, instances: int) -> int:
        """How many of ``instances`` may be away at once."""
        return self.max_unavailable.least(instances)

    def surge(self, instances: int) -> int:
        """How many extra instances a role of ``instances`` has while it changes."""
        return self.max_surge.most(instances)


def domain_of(ordinal: int, domains: int) -> int:
    """The upgrade domain of an instance: instance i is in domain i mod n."""
    return ordinal % domains
