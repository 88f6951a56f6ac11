"""The firewall in front of the VIPs as nftables text: a table of our own, by whose name and mark it is known.

It accepts nothing that somebody else's table drops, and drops nothing that is not for a VIP, a gateway or from a guest.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.model.guard import Firewall

_MARK = re.compile(r"chain mark_([0-9a-f]{16})\b")

# An empty table first makes `delete` safe. One file is one transaction: nothing is ever open, or closed, in between.
_DELETE = """\
table inet {name} {{}}
delete table inet {name}
"""

_TABLE = """\
table inet {name} {{
  chain mark_{mark} {{
  }}
  chain input {{
    type filter hook input priority filter - 5; policy accept;
    iifname "lo" accept
    ct state established,related accept
{fronts}
{vips}
{guests}
  }}
}}
"""

_VIPS = """\
    ip daddr {{ {vips} }} icmp type echo-request accept
    ip daddr {{ {vips} }} drop"""

_GUESTS = """\
    iifname {{ {bridges} }} udp dport {{ 53, 67 }} accept
    iifname {{ {bridges} }} tcp dport 53 accept
    iifname {{ {bridges} }} icmp type echo-request accept
    iifname {{ {bridges} }} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept
    iifname {{ {bridges} }} drop
    ip daddr {{ {gateways} }} drop"""


def table_name(owner: str) -> str:
    return f"vmrole_{owner}"


def firewall_text(firewall: Firewall | None, owner: str) -> str:
    """What `nft -f` takes; None: nothing of it is left."""
    name = table_name(owner)
    if firewall is None:
        return _DELETE.format(name=name)
    fronts = [f"    ip daddr {vip} tcp dport {{ {_ports(firewall, vip)} }} accept" for vip in _fronted(firewall)]
    guests = _GUESTS.format(
        bridges=", ".join(f'"{bridge}"' for bridge in firewall.bridges), gateways=", ".join(firewall.gateways)
    )
    return _DELETE.format(name=name) + _TABLE.format(
        name=name,
        mark=firewall.fingerprint,
        fronts="\n".join(fronts),
        vips=_VIPS.format(vips=", ".join(firewall.vips)) if firewall.vips else "",
        guests=guests,
    )


def mark_of(listing: str) -> str:
    """The fingerprint of the firewall that `nft list table` shows; "" if it shows none of ours."""
    found = _MARK.search(listing)
    return found[1] if found else ""


def _fronted(firewall: Firewall) -> list[str]:
    return sorted({vip for vip, _port in firewall.fronts})


def _ports(firewall: Firewall, vip: str) -> str:
    return ", ".join(str(port) for port in _sorted(port for own, port in firewall.fronts if own == vip))


def _sorted(ports: Iterable[int]) -> list[int]:
    return sorted(set(ports))
