"""Where services run: the libvirt hosts, the address pools and the place where the VIPs live.

A site is a value. Without a lab it is the machine's own libvirt; a lab writes its own into its home folder. Nothing
here opens a connection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Literal

from orchestrator.errors import Missing
from orchestrator.model.vips import Bind

if TYPE_CHECKING:
    from pathlib import Path

SITE_FILE = "site.json"

Accelerator = Literal["kvm", "tcg"]

DIP_POOL = IPv4Network("198.18.0.0/15")  # RFC 2544: never routed on the Internet, so it collides with nobody's LAN
VIP_POOL = IPv4Network("198.51.100.0/24")  # RFC 5737, TEST-NET-2


@dataclass(frozen=True, slots=True)
class HostSite:
    """One libvirt host.

    ``dip_pool``: every deployment's network on this host is a /24 of it. ``forward``: the libvirt network's forward
    mode: ``nat`` lets guests out and nobody in; ``open`` leaves the rules to the lab. ``accelerator``: the one
    that was proven to run guests there. ``callers``: addresses, beside its own, from which HAProxy and probes call its
    guests. ``outside``: networks that are outside although they are of the DIPs' range. ``inside``: the argv
    prefix that runs a program on its network; None if it is not a part of this machine. ``upstream``: whether its own
    DNS servers can be asked for names that no network of ours knows; in a lab there are none to reach. ``rules``: the
    nftables rules that a lab has given it, which are loaded again when somebody has flushed them.
    """

    name: str
    uri: str
    dip_pool: IPv4Network
    forward: Literal["nat", "open"]
    accelerator: Accelerator
    callers: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    inside: tuple[str, ...] | None = None
    upstream: bool = True
    rules: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """All that the wiring needs to know of the surroundings.

    ``balancer``: argv prefix that runs a program where the VIPs live (empty: here). ``vip_device``: the interface
    that carries the VIPs there, ``vip_bind``: how they come to be its addresses. ``rules``: the nftables rules that a
    lab has made there.
    """

    hosts: tuple[HostSite, ...]
    vip_pool: IPv4Network
    balancer: tuple[str, ...] = ()
    vip_device: str = "lo"
    vip_bind: Bind = Bind.LOOPBACK
    rules: str = ""


def machine_site(uri: str, accelerator: Accelerator) -> Site:
    """The site without a lab: one libvirt daemon, VIPs on this machine's loopback interface."""
    inside = () if uri == "qemu:///system" else None
    return Site((HostSite("local", uri, DIP_POOL, "nat", accelerator, inside=inside),), VIP_POOL)


def site_to_json(site: Site) -> str:
    hosts = [
        {
            "name": h.name,
            "uri": h.uri,
            "dip_pool": str(h.dip_pool),
            "forward": h.forward,
            "accelerator": h.accelerator,
            "callers": list(h.callers),
            "outside": list(h.outside),
            "inside": list(h.inside) if h.inside is not None else None,
            "upstream": h.upstream,
            "rules": h.rules,
        }
        for h in site.hosts
    ]
    return json.dumps(
        {
            "hosts": hosts,
            "vip_pool": str(site.vip_pool),
            "balancer": list(site.balancer),
            "vip_device": site.vip_device,
            "rules": site.rules,
        },
        indent=1,
    )


def site_from_json(text: str) -> Site:
    """The inverse of :func:`site_to_json`. Raises ValueError or KeyError on a damaged text."""
    raw = json.loads(text)
    hosts = tuple(
        HostSite(
            h["name"],
            h["uri"],
            IPv4Network(h["dip_pool"]),
            h["forward"],
            h["accelerator"],
            tuple(h.get("callers", ())),
            tuple(h.get("outside", ())),
            tuple(h["inside"]) if h.get("inside") is not None else None,
            bool(h.get("upstream", True)),
            str(h.get("rules", "")),
        )
        for h in raw["hosts"]
    )
    where = tuple(raw["balancer"]), raw["vip_device"]
    return Site(hosts, IPv4Network(raw["vip_pool"]), *where, rules=str(raw.get("rules", "")))


def load_site(home: Path) -> Site | None:
    """The lab's site that ``home`` holds, or None without a lab. Raises Missing when the file is damaged."""
    path = home / SITE_FILE
    if not path.exists():
        return None
    try:
        return site_from_json(path.read_text())
    except (ValueError, KeyError, TypeError) as error:
        raise Missing(f"{path} is damaged: {error}", "run `vmrole lab up` to write it again") from error
