"""What an instance's answer file may say of the world around its machine, as the store has it at that moment.

It is no part of what the machine is: that a neighbour got another address makes no machine outdated.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network

from orchestrator.model.names import InstanceId


@dataclass(frozen=True, slots=True)
class Vicinity:
    """``members``: (instance, DIP) of the whole deployment. ``subnets``: (host, its network there)."""

    vip: str = ""
    subnets: tuple[tuple[str, IPv4Network], ...] = ()
    members: tuple[tuple[InstanceId, str], ...] = ()

    def subnet(self, host: str) -> IPv4Network | None:
        return dict(self.subnets).get(host)
