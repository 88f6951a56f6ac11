"""The libvirt definition of a deployment's network, and of the parts that change while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree
from lxml.builder import E, ElementMaker

from orchestrator.model.names import libvirt_uuid

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Network

    from orchestrator.model.names import DeploymentId
    from orchestrator.model.world import HostName, Lease

MARK_NS = "urn:vmrole:network:1"
_mark = ElementMaker(namespace=MARK_NS, nsmap={"vmrole": MARK_NS})


@dataclass(frozen=True, slots=True)
class NetworkWish:
    """A network to be: whose (``owner``), its forward mode (nat, open or "": none), subnet, reservations and names."""

    deployment: DeploymentId
    owner: str
    forward: str
    subnet: IPv4Network
    leases: frozenset[Lease]
    names: frozenset[HostName]


def network_xml(wish: NetworkWish) -> str:
    """A bridge of its own, with DHCP by reservation and DNS for the instances' names."""
    subnet = wish.subnet
    gateway, first, last = subnet[1], subnet[2], subnet[-2]
    dhcp = E.dhcp(E.range(start=str(first), end=str(last)), *map(lease_element, sorted_leases(wish.leases)))
    dns = E.dns(*map(host_element, sorted(wish.names, key=lambda name: name.name)))
    root = E.network(
        E.name(wish.deployment.network),
        E.uuid(libvirt_uuid(wish.owner, wish.deployment.network)),
        E.metadata(_mark.network(owner=wish.owner)),
        *([E.forward(mode=wish.forward)] if wish.forward else []),
        E.bridge(name=wish.deployment.bridge, stp="off", delay="0"),
        E.domain(name=wish.deployment.domain, localOnly="yes"),
        dns,
        E.ip(dhcp, address=str(gateway), prefix=str(subnet.prefixlen)),
    )
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def sorted_leases(leases: Iterable[Lease]) -> list[Lease]:
    return sorted(leases, key=lambda lease: lease.name)


def lease_element(lease: Lease) -> etree._Element:
    return E.host(mac=lease.mac, name=lease.name, ip=lease.ip)


def host_element(name: HostName) -> etree._Element:
    return E.host(E.hostname(name.name), ip=name.ip)


def text(element: etree._Element) -> str:
    return etree.tostring(element, encoding="unicode")
