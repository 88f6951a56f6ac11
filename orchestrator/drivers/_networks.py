"""Deployments' networks on one host, at libvirt. Decides nothing; a running network is never stopped for a change."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import libvirt
from lxml import etree

from orchestrator.drivers._netrules import Needs
from orchestrator.errors import NotFound
from orchestrator.model.world import HostName, Lease, NetworkSeen
from orchestrator.render import network as networks

if TYPE_CHECKING:
    from orchestrator.drivers._libvirt import Connection
    from orchestrator.drivers._netrules import NetworkRules
    from orchestrator.render.network import NetworkWish

_AFFECT = libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE | libvirt.VIR_NETWORK_UPDATE_AFFECT_CONFIG
_RESERVATION = libvirt.VIR_NETWORK_SECTION_IP_DHCP_HOST
_REMOVE, _ADD = libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST


class Networks:
    """The networks that a connection sees; ``rules``: what the kernel has for them."""

    def __init__(self, connection: Connection, owner: str, rules: NetworkRules) -> None:
        self._connection = connection
        self._owner = owner
        self._rules = rules

    def observe(self) -> dict[str, NetworkSeen]:
        """Everybody's; of ours also whether the kernel has their rules. Raises what libvirt does."""
        connection = self._connection.get()
        self._rules.known(connection.getLibVersion)
        told = ((each.name(), _told(each)) for each in connection.listAllNetworks())
        known = {name: found for name, found in told if found is not None}
        ours = [_needs(n, root) for n, (root, is_on) in known.items() if is_on and _owner(root) == self._owner]
        lacking = self._rules.lacks(ours)
        found = {n: _seen(n, root, is_active=on, is_ruled=n not in lacking) for n, (root, on) in known.items()}
        return {n: self._with_held(each) if each.owner == self._owner else each for n, each in found.items()}

    def _with_held(self, seen: NetworkSeen) -> NetworkSeen:
        """The network with the addresses that its DHCP server has let; of one that does not run they count no more."""
        if not seen.active:
            return seen
        with contextlib.suppress(libvirt.libvirtError):  # it may have gone meanwhile
            let = self._connection.get().networkLookupByName(seen.name).DHCPLeases()
            return replace(seen, held={lease["ipaddr"]: lease["mac"] for lease in let if lease.get("mac")})
        return seen

    def create(self, wish: NetworkWish) -> None:
        with self._rules.changing(), self._connection.errors(f"making network {wish.deployment.network}"):
            network = self._connection.get().networkDefineXML(networks.network_xml(wish))
            if network.isActive():
                return
            try:
                network.create()
            except libvirt.libvirtError:
                if not self._rules.restore():
                    raise
                network.create()

    def change(self, name: str, leases: frozenset[Lease], names: frozenset[HostName]) -> None:
        """Have it give these addresses and names; the kernel's rules for it are made anew if they are missing."""
        with self._rules.changing(), self._connection.errors(f"changing the addresses of network {name}"):
            found = self._connection.get().networkLookupByName(name)
            told = _told(found)
            if told is None:
                return
            root, _is_active = told
            is_bare = bool(self._rules.lacks([_needs(name, root)]))
            if is_bare:  # without its chains libvirt changes nothing
                self._rules.restore()
            seen = _seen(name, root, is_active=True, is_ruled=True)
            for lease in networks.sorted_leases(seen.leases - leases):
                found.update(_REMOVE, _RESERVATION, -1, networks.text(networks.lease_element(lease)), _AFFECT)
            for lease in networks.sorted_leases(leases - seen.leases):
                found.update(_ADD, _RESERVATION, -1, networks.text(networks.lease_element(lease)), _AFFECT)
            _change_names(found, seen.names, names)
            if is_bare:
                self._renew(found, leases)

    def _renew(self, network: libvirt.virNetwork, leases: frozenset[Lease]) -> None:
        """Have libvirt make the network's rules anew: it does for a reservation that is changed, also into itself."""
        modify = libvirt.VIR_NETWORK_UPDATE_COMMAND_MODIFY
        for lease in networks.sorted_leases(leases)[:1]:
            text = networks.text(networks.lease_element(lease))
            network.update(modify, _RESERVATION, -1, text, libvirt.VIR_NETWORK_UPDATE_AFFECT_LIVE)
        self._rules.renewed(network.name())

    def delete(self, name: str) -> None:
        with contextlib.suppress(NotFound), self._connection.errors(f"removing network {name}"):
            found = self._connection.get().networkLookupByName(name)
            if found.isActive():
                found.destroy()
            found.undefine()


def _told(network: libvirt.virNetwork) -> tuple[etree._Element, bool] | None:
    """What libvirt says of a network, and whether it runs; None if it vanished while we asked."""
    try:
        return etree.fromstring(network.XMLDesc()), bool(network.isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_NETWORK:
            return None
        raise


def _owner(root: etree._Element) -> str:
    mark = root.find(f"metadata/{{{networks.MARK_NS}}}network")
    return mark.get("owner", "") if mark is not None else ""


def _needs(name: str, root: etree._Element) -> Needs:
    bridge, forward = root.find("bridge"), root.find("forward")
    said = "" if bridge is None else bridge.get("name", "")
    return Needs(name, said, str(_subnet(root)), "" if forward is None else forward.get("mode", "nat"))


def _seen(name: str, root: etree._Element, *, is_active: bool, is_ruled: bool) -> NetworkSeen:
    return NetworkSeen(
        name,
        is_active,
        _owner(root),
        _subnet(root),
        frozenset(
            Lease(host.get("mac", ""), host.get("ip", ""), host.get("name", ""))
            for host in root.findall("ip/dhcp/host")
        ),
        frozenset(name for host in root.findall("dns/host") for name in networks.host_names(host)),
        is_ruled,
    )


def _change_names(network: libvirt.virNetwork, seen: frozenset[HostName], wanted: frozenset[HostName]) -> None:
    """Give and take addresses' entries. One that only gets or loses its role's name is away for no longer than needed.

    First go those whose place, or name, somebody else may be about to take.
    """
    dns = libvirt.VIR_NETWORK_SECTION_DNS_HOST
    remove, add = libvirt.VIR_NETWORK_UPDATE_COMMAND_DELETE, libvirt.VIR_NETWORK_UPDATE_COMMAND_ADD_LAST
    old, new = networks.by_address(seen), networks.by_address(wanted)
    stays = {ip for ip in old if ip in new and _own(old[ip]) == _own(new[ip])}
    for ip in sorted(set(old) - stays):
        network.update(remove, dns, -1, networks.text(networks.host_element(ip)), _AFFECT)
    for ip in sorted(ip for ip in new if new[ip] != old.get(ip)):
        if ip in stays:
            network.update(remove, dns, -1, networks.text(networks.host_element(ip)), _AFFECT)
        network.update(add, dns, -1, networks.text(networks.host_element(ip, new[ip])), _AFFECT)


def _own(names: frozenset[HostName]) -> set[HostName]:
    return {name for name in names if not name.rank}


def _subnet(root: etree._Element) -> IPv4Network | None:
    ip = root.find("ip")
    if ip is None or ip.get("family", "ipv4") != "ipv4":
        return None
    with contextlib.suppress(ValueError):
        return IPv4Network(f"{ip.get('address')}/{ip.get('prefix') or ip.get('netmask')}", strict=False)
    return None
