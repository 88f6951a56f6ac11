"""Who reaches whom: each instance's filter, and the firewall in front of the VIPs. Pure.

A filter knows frames, not connections: an answer passes by what it is, not by what it answers. That is enough here:
whoever may not ask an instance cannot answer it either, and a rule that changes breaks no connection that it allows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from orchestrator.engine import rotation
from orchestrator.model.action import Action, DefineFilter, DeleteFilter
from orchestrator.model.guard import ACCEPT, DROP, IN, OUT, FilterRule, Firewall, Guard, guard_name, guarded, link_local
from orchestrator.model.record import DeploymentRecord, InstanceRecord, Wanted, by_deployment
from orchestrator.model.spec import Endpoint, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from orchestrator.model.action import Frontend
    from orchestrator.model.guard import Reach
    from orchestrator.model.names import InstanceId
    from orchestrator.model.world import HostSeen

CACHED_GUESTS = 4096  # what a guest may send is asked again in every turn, and hardly ever changes
LINK_LOCAL = {"srcipaddr": "fe80::", "srcipmask": "10"}
MULTICAST = {"dstipaddr": "ff00::", "dstipmask": "8"}
SOLICIT_ROUTER, ADVERTISE_ROUTER, SOLICIT, REDIRECT, LISTENER = "133", "134", "135", "137", "143"


def prepare(
    host: HostSeen, deployments: Sequence[DeploymentRecord], instances: Sequence[InstanceRecord], owner: str
) -> tuple[Action, ...]:
    """The steps after which every instance of ours on a host has the filter that it should have."""
    if host.problem:
        return ()
    members = by_deployment(instances)
    return tuple(
        DefineFilter(host.name, guard)
        for record in deployments
        for guard in guards(host, record, members.get(record.id, ()), owner)
        if host.filters.get(guard.name) != guard.fingerprint
    )


def tidy(host: HostSeen, instances: Iterable[InstanceRecord], owner: str) -> tuple[Action, ...]:
    """The steps that remove filters of ours of instances that are not on a host any more, nor any machine of theirs."""
    if host.problem:
        return ()
    needed = {record.id for record in instances if record.host == host.name} | set(host.machines)
    ours = [(name, guarded(name, owner)) for name in sorted(host.filters)]
    return tuple(DeleteFilter(host.name, name) for name, key in ours if key is not None and key not in needed)


def guards(host: HostSeen, record: DeploymentRecord, members: Sequence[InstanceRecord], owner: str) -> Iterator[Guard]:
    """The filters of a deployment's instances on one host."""
    stays = [member for member in members if member.wanted is not Wanted.GONE]
    for member in stays:
        if member.host == host.name and member.host in record.subnets:
            nets = _nets(member, record)
            sent = _sent(member.id, member.dip, nets, host.reach, has_egress=_has_egress(member, record, host.reach))
            rules = (*sent, *_received(member, record, stays, host.reach), *_REST)
            yield Guard(guard_name(owner, member.id), rules)


def firewall(
    deployments: Sequence[DeploymentRecord],
    served: Sequence[DeploymentRecord],
    shared: frozenset[str] = frozenset(),
    kept: Sequence[Frontend] = (),
) -> Firewall | None:
    """What the VIPs' place lets in; None if there is nothing to guard. ``served``: those that HAProxy listens for.

    ``kept``: what it listens for beside that, as it refuses something else.

    ``shared``: addresses of the machine's own, which answer for more than us and are left to whoever guards them.
    """
    if not deployments:
        return None
    fronts = {(front.vip, front.port) for front in (*rotation.frontends(served), *kept)}
    gateways = {str(subnet[1]) for record in deployments for subnet in record.subnets.values()}
    return Firewall(
        tuple(sorted(fronts)),
        tuple(sorted(({record.vip for record in deployments} | {vip for vip, _port in fronts}) - shared)),
        tuple(sorted({record.id.bridge for record in deployments})),
        tuple(sorted(gateways)),
    )


_REST = (FilterRule(900, DROP, IN), FilterRule(900, DROP, OUT))


@dataclass(frozen=True, slots=True)
class _Nets:
    """A deployment's networks, as one of its guests has to do with them. ``gateway``: its own network's."""

    gateway: str
    gateways: tuple[str, ...]
    subnets: tuple[str, ...]


def _nets(member: InstanceRecord, record: DeploymentRecord) -> _Nets:
    subnets = record.subnets.values()
    return _Nets(str(record.subnets[member.host][1]), tuple(str(net[1]) for net in subnets), tuple(map(str, subnets)))


@lru_cache(maxsize=CACHED_GUESTS)
def _sent(key: InstanceId, dip: str, nets: _Nets, reach: Reach, *, has_egress: bool) -> tuple[FilterRule, ...]:
    return tuple(_all_sent(key.mac, dip, nets, reach, has_egress=has_egress))


def _all_sent(mac: str, dip: str, nets: _Nets, reach: Reach, *, has_egress: bool) -> Iterator[FilterRule]:
    """What a guest may send: only as itself, and not to the host's services nor to other deployments' networks."""
    yield _others(10, OUT, "mac", srcmacaddr=mac)
    for said in (dip, "0.0.0.0"):  # noqa: S104 - who probes for an address does so without one
        yield _rule(20, ACCEPT, OUT, "arp", arpsrcmacaddr=mac, arpsrcipaddr=said)
    yield from _dhcp()
    yield _others(32, OUT, "ip", srcipaddr=dip)
    for protocol, ports in (("udp", (53, 53)), ("udp", (67, 67)), ("tcp", (53, 53)), ("tcp", (1024, 65535))):
        yield _rule(40, ACCEPT, OUT, "ip", dstipaddr=nets.gateway, protocol=protocol, **_ports(ports))
    yield _rule(40, ACCEPT, OUT, "ip", dstipaddr=nets.gateway, protocol="icmp")
    for address in nets.gateways:
        yield _rule(41, DROP, OUT, "ip", dstipaddr=address)
    for net in (*nets.subnets, "224.0.0.0/4", "255.255.255.255", *reach.callers, reach.vips):
        yield _rule(50, ACCEPT, OUT, "ip", **_address("dst", net))
    for net in reach.outside if has_egress else ():
        yield _rule(50, ACCEPT, OUT, "ip", **_address("dst", net))
    yield _rule(60, DROP, OUT, "ip", **_address("dst", reach.dips))
    if has_egress:
        yield _rule(70, ACCEPT, OUT, "ip")
    yield from _sent_by_ipv6(link_local(mac))


def _dhcp() -> Iterator[FilterRule]:
    """Asking for an address, which is done without one; and no guest gives any."""
    asking = {"srcipaddr": "0.0.0.0", "dstipaddr": "255.255.255.255", "protocol": "udp"}  # noqa: S104 - nothing is bound
    yield _rule(30, ACCEPT, OUT, "ip", **asking, srcportstart="68", dstportstart="67")
    yield _rule(31, DROP, OUT, "ip", protocol="udp", srcportstart="67")


def _sent_by_ipv6(own: str) -> Iterator[FilterRule]:
    """Link-local addresses only, and of these its own: the networks have no other; and no guest is a router."""
    for kind in (ADVERTISE_ROUTER, REDIRECT):
        yield _rule(80, DROP, OUT, "ipv6", protocol="icmpv6", type=kind)
    yield _rule(80, DROP, OUT, "ipv6", protocol="udp", srcportstart="547")
    yield _rule(81, ACCEPT, OUT, "ipv6", srcipaddr=own, dstipaddr="fe80::", dstipmask="10")
    yield _rule(81, ACCEPT, OUT, "ipv6", srcipaddr=own, **MULTICAST)
    for kind in (SOLICIT, SOLICIT_ROUTER, LISTENER):
        yield _rule(82, ACCEPT, OUT, "ipv6", srcipaddr="::", protocol="icmpv6", type=kind)


def _received(
    member: InstanceRecord, record: DeploymentRecord, members: Sequence[InstanceRecord], reach: Reach
) -> Iterator[FilterRule]:
    """What reaches a guest: its own deployment as far as the rules allow, HAProxy and probes, no other deployment."""
    yield _rule(110, ACCEPT, IN, "arp")
    for caller in (str(record.subnets[member.host][1]), *reach.callers, reach.vips):
        yield _rule(120, ACCEPT, IN, "ip", **_address("src", caller))
    own = link_local(member.id.mac)
    role = record.service.role(member.id.role)
    for endpoint in role.endpoints if role is not None else ():
        if (sources := _sources(record, member.id.role, endpoint)) is not None:
            yield from _restricted(member, endpoint, [m for m in members if m.id.role in sources], own)
    for subnet in record.subnets.values():
        yield _rule(140, ACCEPT, IN, "ip", **_address("src", str(subnet)))
    for net in reach.outside if _has_egress(member, record, reach) else ():
        yield _rule(140, ACCEPT, IN, "ip", **_address("src", net))
    yield _rule(150, DROP, IN, "ip", **_address("src", reach.dips))
    if _has_egress(member, record, reach):
        yield _rule(160, ACCEPT, IN, "ip")
    yield _rule(170, ACCEPT, IN, "ipv6", **LINK_LOCAL, dstipaddr=own)
    yield _rule(170, ACCEPT, IN, "ipv6", **MULTICAST)


def _sources(record: DeploymentRecord, role: str, endpoint: Endpoint) -> frozenset[str] | None:
    """The roles that reach an endpoint; None if all of the deployment do."""
    rules = [r for r in record.service.traffic if (r.role, r.endpoint) == (role, endpoint.name)]
    return frozenset(source for rule in rules for source in rule.sources) if rules else None


def _restricted(
    member: InstanceRecord, endpoint: Endpoint, sources: Sequence[InstanceRecord], own: str
) -> Iterator[FilterRule]:
    """An endpoint for some only. By IPv6 they are told by their MAC address: it is theirs, and all on one bridge."""
    said = {"protocol": "udp" if endpoint.protocol is Protocol.UDP else "tcp", **_ports(endpoint.targets)}
    for source in sources:
        yield _rule(130, ACCEPT, IN, "ip", srcipaddr=source.dip, **said)
        if source.host == member.host:
            yield _rule(130, ACCEPT, IN, "ipv6", srcmacaddr=source.id.mac, dstipaddr=own, **said)
    yield _rule(131, DROP, IN, "ip", **said)
    yield _rule(131, DROP, IN, "ipv6", **said)


def _has_egress(member: InstanceRecord, record: DeploymentRecord, reach: Reach) -> bool:
    role = record.service.role(member.id.role)
    said = role.egress if role is not None else None
    return (reach.egress if said is None else said) and not record.isolated


def _rule(priority: int, action: str, direction: str, kind: str, /, **match: str) -> FilterRule:
    return FilterRule(priority, action, direction, kind, tuple(sorted(match.items())))


def _others(priority: int, direction: str, kind: str, /, **match: str) -> FilterRule:
    """Drops what does not match."""
    return FilterRule(priority, DROP, direction, kind, tuple(sorted(match.items())), negated=True)


def _ports(ports: tuple[int, int]) -> dict[str, str]:
    first, last = ports
    return {"dstportstart": str(first), **({"dstportend": str(last)} if last != first else {})}


def _address(side: str, net: str) -> dict[str, str]:
    """``side``: src or dst. ``net``: an address, or a network as ADDRESS/BITS."""
    address, _, bits = net.partition("/")
    return {f"{side}ipaddr": address, **({f"{side}ipmask": bits} if bits else {})}
