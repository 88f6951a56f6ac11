"""Asking guests' agents within a time for all of it: each question gets no more than is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from orchestrator.errors import AgentSilent

if TYPE_CHECKING:
    from orchestrator.ports import Clock


class Asks(Protocol):
    """Whatever passes a command on to a guest's agent: a host."""

    def agent(self, domain: str, command: str, arguments: dict[str, object], timeout_s: float) -> object: ...


@dataclass(frozen=True, slots=True)
class Hurried:
    """A host whose guests are given no more time than is left until ``deadline``."""

    host: Asks
    clock: Clock
    deadline: float

    def agent(self, domain: str, command: str, arguments: dict[str, object], timeout_s: float) -> object:
        left_s = self.deadline - self.clock.now()
        if left_s < 1:
            raise AgentSilent(f"the guest agent of {domain} takes too long over each of its answers")
        return self.host.agent(domain, command, arguments, min(timeout_s, left_s))
