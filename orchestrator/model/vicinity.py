"""What an instance is told of the world around its machine, in its answer file and later by its runtime file.

It is no part of what the machine is: that a neighbour got another address makes no machine outdated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network

from orchestrator.model.names import InstanceId


@dataclass(frozen=True, slots=True)
class Peers:
    """Every role's instances, as JSON text that is the same for the whole deployment, and a digest of that."""

    text: str = "{}"
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Vicinity:
    """``members``: (instance, DIP) of the whole deployment. ``subnets``: (host, its network there).

    ``settings``: those of the instance's own role, as they are in the file. ``domains``: how many upgrade domains
    its role has. ``peers``: what it is told of all roles.
    """

    vip: str = ""
    subnets: tuple[tuple[str, IPv4Network], ...] = ()
    members: tuple[tuple[InstanceId, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    domains: int = 5
    peers: Peers = field(default_factory=Peers)

    def subnet(self, host: str) -> IPv4Network | None:
        return dict(self.subnets).get(host)
