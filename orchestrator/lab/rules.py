"""The firewall of a lab's nodes, as nftables text. Pure; it is loaded inside the node's own network namespace only.

libvirt makes the guests' networks with forward mode `open`, for which it adds no rules: these here are the only ones.
Who may open a connection: the edge to any guest; a guest to guests of the same deployment on another host, to VIPs, and
to the outside, which for one whose role has no egress its own filter does not let through. A deployment has the same
/24 index in the /19 of every host, and that index is how two addresses are told to be of one.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from orchestrator.config.site import DIP_POOL, VIP_POOL
from orchestrator.lab.plan import BRIDGE, DEPLOYMENTS, OUTSIDE_NET, RESERVED, UNDERLAY, dip_pool, host_number

if TYPE_CHECKING:
    from ipaddress import IPv4Network

INDEX_MASK = IPv4Address("0.0.31.0")  # of a DIP: which /24 of its host's /19

# `destroy` would need nftables 1.0.7: an empty table first makes `delete` safe. One file is one transaction.
_REPLACE = """\
table inet vmrole {}
delete table inet vmrole
"""

_HOST = """\
table inet vmrole {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    icmp type echo-request accept
    icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit }} accept
    iifname "vmr*" udp dport {{ 53, 67 }} accept
    iifname "vmr*" tcp dport 53 accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    ct state invalid drop
    iifname "under" oifname "vmr*" goto arriving
    iifname "vmr*" oifname "under" goto leaving
  }}
  chain arriving {{
    ip daddr != {own} drop
    ip saddr {edge} accept
    ip saddr {own} drop
    goto one_deployment
  }}
  chain leaving {{
    ip saddr != {own} drop
    ip daddr {own} drop
    ip daddr {{ {vips}, {outside} }} accept
    goto one_deployment
  }}
  chain one_deployment {{
    ip saddr != {dips} drop
    ip daddr != {dips} drop
    ip saddr {reserved} drop
    ip daddr {reserved} drop
{pairs}
  }}
}}
"""

_EDGE = """\
table inet vmrole {{
  chain input {{
    type filter hook input priority filter; policy drop;
    iifname "lo" accept
    ct state established,related accept
    icmp type echo-request accept
    icmpv6 type {{ echo-request, nd-neighbor-solicit, nd-neighbor-advert }} accept
    iifname {{ "outside", "machine" }} ip daddr {vips} accept
    iifname "{bridge}" ip saddr {dips} ip daddr {vips} accept
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname "{bridge}" oifname "outside" ip saddr {dips} ip daddr {outside} accept
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat;
    oifname "outside" ip saddr {dips} masquerade
  }}
}}
"""


def node_rules(node: str, vips: IPv4Network) -> str:
    """The rules of a host or of the edge, which are all that has any."""
    number = host_number(node)
    return edge_rules(vips) if number is None else host_rules(number)


def host_rules(number: int) -> str:
    """The rules of host ``number``."""
    return _REPLACE + _HOST.format(
        own=dip_pool(number),
        edge=UNDERLAY[1],
        dips=DIP_POOL,
        reserved=RESERVED,
        vips=VIP_POOL,
        outside=OUTSIDE_NET,
        pairs="\n".join(_same_index(index) for index in range(DEPLOYMENTS)),
    )


def edge_rules(vips: IPv4Network) -> str:
    """The edge's rules: to a VIP from everywhere, and from guests to the outside; nothing is forwarded inwards."""
    return _REPLACE + _EDGE.format(vips=vips, dips=DIP_POOL, outside=OUTSIDE_NET, bridge=BRIDGE)


def _same_index(index: int) -> str:
    value = IPv4Address(index << 8)
    return f"    ip saddr & {INDEX_MASK} == {value} ip daddr & {INDEX_MASK} == {value} accept"
