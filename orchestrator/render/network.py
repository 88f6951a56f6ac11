"""The libvirt definition of a deployment's network, and of the parts that change while it runs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree
from lxml.builder import E, ElementMaker

from orchestrator.model.names import libvirt_uuid
from orchestrator.model.world import HostName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Network

    from orchestrator.model.names import DeploymentId
    from orchestrator.model.world import Lease

MARK_NS = "urn:vmrole:network:1"
DNSMASQ_NS = "http://libvirt.org/schemas/network/dnsmasq/1.0"
# With these dnsmasq answers NXDOMAIN at once. Each alone does not: without servers it refuses, which a resolver takes
# for a passing trouble; and what is to be answered here alone still goes to the servers in the host's resolv.conf.
HERE_ALONE = ("no-resolv", "local=/#/")
_mark = ElementMaker(namespace=MARK_NS, nsmap={"vmrole": MARK_NS})


@dataclass(frozen=True, slots=True)
class NetworkWish:
    """A network to be: whose (``owner``), its forward mode (nat, open or "": none), subnet, reservations and names.

    ``upstream``: whether the host's DNS servers are asked for names that are not known here.
    """

    deployment: DeploymentId
    owner: str
    forward: str
    subnet: IPv4Network
    leases: frozenset[Lease]
    names: frozenset[HostName]
    upstream: bool = True


def network_xml(wish: NetworkWish) -> str:
    """A bridge of its own, with DHCP by reservation and DNS for the instances' names."""
    subnet = wish.subnet
    gateway, first, last = subnet[1], subnet[2], subnet[-2]
    dhcp = E.dhcp(E.range(start=str(first), end=str(last)), *map(lease_element, sorted_leases(wish.leases)))
    dns = E.dns(*(host_element(ip, own) for ip, own in sorted(by_address(wish.names).items())))
    root = E.network(
        E.name(wish.deployment.network),
        E.uuid(libvirt_uuid(wish.owner, wish.deployment.network)),
        E.metadata(_mark.network(owner=wish.owner)),
        *([E.forward(mode=wish.forward)] if wish.forward else []),
        E.bridge(name=wish.deployment.bridge, stp="off", delay="0"),
        E.domain(name=wish.deployment.domain, localOnly="yes"),
        dns,
        E.ip(dhcp, address=str(gateway), prefix=str(subnet.prefixlen)),
        *([] if wish.upstream and wish.forward else [_options(HERE_ALONE)]),
    )
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def _options(lines: Iterable[str]) -> etree._Element:
    """Lines for dnsmasq's own file: libvirt has no element for an answer without anybody else's."""
    own = ElementMaker(namespace=DNSMASQ_NS, nsmap={"dnsmasq": DNSMASQ_NS})
    return own.options(*(own.option(value=line) for line in lines))


def sorted_leases(leases: Iterable[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: lease.name)


def lease_element(lease: Lease) -> etree._Element:
    return E.host(mac=lease.mac, name=lease.name, ip=lease.ip)


def by_address(names: Iterable[HostName]) -> dict[str, frozenset[HostName]]:
    """Address → its names: libvirt keeps one entry for an address, and gives or takes it as a whole."""
    found: dict[str, set[HostName]] = defaultdict(set)
    for name in names:
        found[name.ip].add(name)
    return {ip: frozenset(own) for ip, own in found.items()}


def host_element(ip: str, names: Iterable[HostName] = ()) -> etree._Element:
    """An address and its names."""
    ordered = sorted(names, key=lambda name: (name.rank, name.name))
    return E.host(*(E.hostname(name.spelt) for name in ordered), ip=ip)


def host_names(element: etree._Element) -> Iterator[HostName]:
    """What such an element says."""
    for found in element.findall("hostname"):
        yield HostName.read(element.get("ip", ""), found.text or "")


def text(element: etree._Element) -> str:
    return etree.tostring(element, encoding="unicode")
