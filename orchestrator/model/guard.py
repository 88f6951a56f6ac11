"""What may pass between a guest's interface and its host, and who may reach the VIPs: rules as values, nothing more."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from operator import attrgetter

from orchestrator.model.names import InstanceId, parse_machine

_NAME = re.compile(r"vmrole-(?P<owner>[0-9a-f]{8})\.(?P<instance>[a-z0-9-]+\.[a-z]+\.[a-z0-9-]+)")
IN, OUT = "in", "out"  # libvirt's words: to the guest, from the guest
ACCEPT, DROP = "accept", "drop"


@dataclass(frozen=True, slots=True)
class Reach:
    """What the site says of a host's guests.

    ``egress``: whether a role that says nothing of it reaches what is outside. ``callers``: addresses from which
    HAProxy and our probes call instances, beside their network's own gateway. ``vips``, ``dips``: every VIP, and every
    deployment's networks, are within these. ``outside``: networks within ``dips`` that are none of a deployment's.
    """

    egress: bool = True
    callers: tuple[str, ...] = ()
    vips: str = "198.51.100.0/24"
    dips: str = "198.18.0.0/15"
    outside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class FilterRule:
    """One rule of a guest's filter. The first that matches decides, by ``priority``; of one priority all do the same.

    ``protocol``: mac, arp, ip, ipv6, or "" for every frame. ``match``: libvirt's attributes of it, sorted. ``negated``:
    it matches what is not so.
    """

    priority: int
    action: str
    direction: str
    protocol: str = ""
    match: tuple[tuple[str, str], ...] = ()
    negated: bool = False


# As plain tuples, which are sorted and told ten times as fast: it is done for every filter in every turn.
_TOLD = attrgetter("priority", "action", "direction", "protocol", "match", "negated")


@dataclass(frozen=True, slots=True)
class Guard:
    """An instance's filter on one host."""

    name: str
    rules: tuple[FilterRule, ...]

    def is_of(self, instance: InstanceId) -> bool:
        return self.name.partition(".")[2] == str(instance)

    @property
    def fingerprint(self) -> str:
        """The same for the same rules, whoever tells them: what libvirt has can be compared with what should be."""
        return hashlib.sha256(repr(sorted(map(_TOLD, self.rules))).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Firewall:
    """What may reach the place where the VIPs are: ``fronts`` (VIP, port), and of ``vips`` nothing else.

    ``bridges``: guests behind them reach DHCP, DNS and the fronts. ``gateways``: their addresses, for nobody else.
    """

    fronts: tuple[tuple[str, int], ...] = ()
    vips: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]


def guard_name(owner: str, instance: InstanceId) -> str:
    """An instance's filter at libvirt; ``owner`` in it is our mark: a filter has no room for any other."""
    return f"vmrole-{owner}.{instance}"


def guarded(name: str, owner: str) -> InstanceId | None:
    """Whose filter this is; None if it is none of ours."""
    match = _NAME.fullmatch(name)
    machine = parse_machine(f"{match['instance']}.g1") if match and match["owner"] == owner else None
    return machine.instance if machine is not None else None


def link_local(mac: str) -> str:
    """The IPv6 address that a guest makes of its MAC address (RFC 4291, appendix A), in its short form."""
    octets = [int(part, 16) for part in mac.split(":")]
    eui = [octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]]
    groups = [f"{eui[at] << 8 | eui[at + 1]:x}" for at in range(0, 8, 2)]
    return f"fe80::{':'.join(groups)}"
