"""What a lab consists of, as values: names, addresses, `ip` batches and nftables rules. Pure; nothing here runs.

::

    machine ──198.19.253.4s/30── edge ──198.19.255.0/24── h0 … h14   each host: DIP pool = Nth /19 of 198.18.0.0/15
                                  │ VIPs on lo                                    guests' bridges, named vmr…
    outside ──198.19.254.0/24─────┘

Each node is a network namespace; every link lies inside them but one, the machine's own end of its link to the edge.
The edge answers for the VIPs, and forwards only what guests begin: `outside` stands for the world beyond the host, and
neither it nor the machine reaches a guest directly.
All text is made from integers, `ipaddress` values and names matched by a pattern; no word of a user gets in.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from orchestrator.config.site import DIP_POOL, VIP_POOL, Accelerator, HostSite, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAX_HOSTS = 15  # DIP_POOL has 16 /19; the last one is taken by the lab's own links
MAX_SLOTS = 16  # labs on one machine: VIP_POOL has 16 /28
EDGE, OUTSIDE = "edge", "outside"
NODE = re.compile(r"edge|outside|h(?:[0-9]|1[0-4])")
LINK = re.compile(r"vmr-[0-9a-f]{8}")

UNDERLAY = IPv4Network("198.19.255.0/24")
OUTSIDE_NET = IPv4Network("198.19.254.0/24")
MACHINE_NET = IPv4Network("198.19.253.0/24")
RESERVED = IPv4Network("198.19.224.0/19")
DEPLOYMENTS = 32  # the /24 in one host's /19

BRIDGE = "vmr-under"  # in the edge
READY = "vmrole-ready"  # alias of a link, set last: its wiring is complete. It goes when the link goes.


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab. ``home`` is resolved, ``slot`` 0 to 15 is its share of the machine's addresses, ``hosts`` how many."""

    home: Path
    slot: int
    hosts: int

    @property
    def nodes(self) -> tuple[str, ...]:
        """In the order in which they are started."""
        return (EDGE, OUTSIDE, *(host_name(number) for number in range(self.hosts)))

    @property
    def link(self) -> str:
        return link_name(self.home)

    @property
    def vip_pool(self) -> IPv4Network:
        return vip_pool(self.slot)


def link_name(home: Path) -> str:
    """The one thing of a lab that is visible in the machine's own network namespace."""
    return f"vmr-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}"


def host_name(number: int) -> str:
    return f"h{number}"


def host_number(node: str) -> int | None:
    """The N of node hN, None for the edge and the outside."""
    return int(node[1:]) if NODE.fullmatch(node) and node.startswith("h") else None


def vip_pool(slot: int) -> IPv4Network:
    return list(VIP_POOL.subnets(new_prefix=28))[slot]


def dip_pool(number: int) -> IPv4Network:
    return list(DIP_POOL.subnets(new_prefix=19))[number]


def underlay_address(node: str) -> IPv4Address | None:
    """The node's address on the network that joins the hosts and the edge."""
    number = host_number(node)
    if number is not None:
        return UNDERLAY[10 + number]
    return UNDERLAY[1] if node == EDGE else None


def machine_pair(slot: int) -> tuple[IPv4Address, IPv4Address]:
    """The /30 of the machine's link: its own address, and the edge's."""
    net = IPv4Network((int(MACHINE_NET[4 * slot]), 30))
    return net[1], net[2]


def free_slot(taken: Iterable[IPv4Network], preferred: int | None) -> int | None:
    """A slot whose networks overlap none that the machine has routes for, ``preferred`` if that is free."""
    used = list(taken)

    def is_free(slot: int) -> bool:
        ours = (vip_pool(slot), IPv4Network((int(MACHINE_NET[4 * slot]), 30)))
        return not any(mine.overlaps(other) for mine in ours for other in used)

    wishes = [] if preferred is None else [preferred]
    return next((slot for slot in [*wishes, *range(MAX_SLOTS)] if is_free(slot)), None)


def socket_uri(pid: int) -> str:
    """Give the libvirt URI of the host whose keeper is ``pid``: its socket, seen through the keeper's root folder."""
    return f"qemu+unix:///system?socket=/proc/{pid}/root/run/libvirt/libvirt-sock"


def enter(pid: int, *, wholly: bool = True) -> tuple[str, ...]:
    """The argv prefix that runs a program in a node: in all of its namespaces, or only on its network."""
    spaces = ("--mount", "--uts", "--ipc", "--net", "--pid") if wholly else ("--net",)
    return ("nsenter", "--target", str(pid), *spaces, "--")


def site(lab: Lab, pids: dict[str, int], accelerator: Accelerator, rules: Callable[[str, IPv4Network], str]) -> Site:
    """What the wiring has to know of a lab whose keepers are ``pids``. ``rules``: nftables' of a node, by the VIPs."""
    callers, outside = (str(UNDERLAY[1]),), (str(OUTSIDE_NET),)
    hosts = tuple(
        HostSite(
            host_name(n),
            socket_uri(pids[host_name(n)]),
            dip_pool(n),
            "open",
            accelerator,
            callers,
            outside,
            enter(pids[host_name(n)], wholly=False),
            upstream=False,
            rules=rules(host_name(n), lab.vip_pool),
        )
        for n in range(lab.hosts)
    )
    return Site(hosts, lab.vip_pool, enter(pids[EDGE]), "lo", rules=rules(EDGE, lab.vip_pool))


# --- a node's files -----------------------------------------------------------------------------------------------


def sysctls(node: str) -> str:
    """Lines `path=value` below /proc/sys, for the keeper. A host routes to its guests, the edge from them outside."""
    forward = 0 if node == OUTSIDE else 1
    wanted = {
        "net/ipv4/ip_forward": forward,
        "net/ipv4/conf/all/rp_filter": 1,
        "net/ipv6/conf/all/forwarding": 0,
        # With br_netfilter loaded, guests' frames on one bridge would meet the forward chain's `drop`.
        "net/bridge/bridge-nf-call-iptables": 0,
        "net/bridge/bridge-nf-call-ip6tables": 0,
        "net/bridge/bridge-nf-call-arptables": 0,
    }
    return "".join(f"{path}={value}\n" for path, value in wanted.items())


def hosts_file(node: str) -> str:
    """The node's /etc/hosts: libvirt resolves its own name at each start of a guest, and there is no DNS here."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    if host_number(node) is None:
        lines.append(f"127.0.1.1 {node}")
    lines += [f"{UNDERLAY[10 + n]} {host_name(n)}" for n in range(MAX_HOSTS)]
    return "\n".join([*lines, f"{UNDERLAY[1]} {EDGE}", ""])


# --- links and addresses: each a batch for `ip -batch -` ------------------------------------------------------------


def edge_links() -> str:
    """In the edge, once: the underlay bridge and the way to every host that may come. Ends with the ready mark."""
    routes = [f"route add {dip_pool(n)} via {UNDERLAY[10 + n]}" for n in range(MAX_HOSTS)]
    return _batch(
        "link set lo up",
        f"link add {BRIDGE} type bridge",
        f"addr add {UNDERLAY[1]}/{UNDERLAY.prefixlen} dev {BRIDGE}",
        f"link set {BRIDGE} up",
        *routes,
        f"link set {BRIDGE} alias {READY}",
    )


def host_port(node: str, pid: int) -> str:
    """In the edge: a cable from the bridge into the host's namespace."""
    return _batch(
        f"link add {_node(node)} type veth peer name under netns {pid:d}",
        f"link set {node} master {BRIDGE} up",
    )


def host_links(number: int) -> str:
    """In host ``number``: its underlay address and the way to the other hosts' guests."""
    others = [n for n in range(MAX_HOSTS) if n != number]
    return _batch(
        "link set lo up",
        f"addr add {UNDERLAY[10 + number]}/{UNDERLAY.prefixlen} dev under",
        "link set under up",
        *(f"route add {dip_pool(n)} via {UNDERLAY[10 + n]}" for n in others),
        f"route add default via {UNDERLAY[1]}",
    )


def outside_port(pid: int) -> str:
    """In the edge: a cable to the outside world."""
    return _batch(
        f"link add {OUTSIDE} type veth peer name world netns {pid:d}",
        f"addr add {OUTSIDE_NET[1]}/{OUTSIDE_NET.prefixlen} dev {OUTSIDE}",
        f"link set {OUTSIDE} up",
    )


def outside_links() -> str:
    return _batch(
        "link set lo up",
        f"addr add {OUTSIDE_NET[2]}/{OUTSIDE_NET.prefixlen} dev world",
        "link set world up",
        f"route add default via {OUTSIDE_NET[1]}",
    )


def machine_port(lab: Lab, edge_pid: int) -> str:
    """In the machine's own namespace: the only link of the lab there, and the way to its VIPs, which goes with it."""
    own, edge = machine_pair(lab.slot)
    return _batch(
        f"link add {lab.link} type veth peer name machine netns {edge_pid:d}",
        f"link set {lab.link} addrgenmode none",
        f"addr add {own}/30 dev {lab.link}",
        f"link set {lab.link} up",
        f"route add {lab.vip_pool} via {edge} dev {lab.link}",
    )


def machine_links(lab: Lab) -> str:
    """In the edge: the other end of that link."""
    return _batch(f"addr add {machine_pair(lab.slot)[1]}/30 dev machine", "link set machine up")


def ready_mark(link: str) -> str:
    return _batch(f"link set {link} alias {READY}")


def _batch(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _node(name: str) -> str:
    if not NODE.fullmatch(name):
        raise ValueError(f"{name!r} is no lab node")
    return name
