"""Which VIP a deployment gets: the one that its file names, the one that it has, or a free one. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

from orchestrator.engine.rotation import frontends
from orchestrator.errors import Refused
from orchestrator.model.names import Slot
from orchestrator.model.vips import Bind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import DeploymentRecord, Intent
    from orchestrator.model.spec import Service


@dataclass(frozen=True, slots=True)
class Ground:
    """Where VIPs live. ``addresses``: address → interface; ``added``: those of them that we have added.

    ``networks``: those that instances get their addresses from.
    """

    bind: Bind
    device: str
    pool: IPv4Network
    addresses: Mapping[str, str]
    added: frozenset[str]
    networks: tuple[IPv4Network, ...] = ()

    @property
    def own(self) -> list[str]:
        """The interface's own addresses."""
        return [vip for vip, device in self.addresses.items() if device == self.device and vip not in self.added]


def vip_for(intent: Intent, key: DeploymentId, service: Service, ground: Ground) -> str:
    """The deployment's VIP. One that is given is the live slot's; the other has its own. Raises Refused."""
    known = intent.deployment(key)
    if service.vip and is_live(intent, key):
        return service.vip
    if ground.bind is Bind.OWN:
        if known is not None and known.vip in ground.own:
            return known.vip
        if not ground.own:
            raise Refused(f"{ground.device} has no IPv4 address to serve on", "give it one, or change site.yaml")
        return ground.own[0]
    return known.vip if known is not None else free_vip(intent, ground)


def is_live(intent: Intent, key: DeploymentId) -> bool:
    """Whether a deployment has, or would have, the VIP that its service is known by: a swap may have changed that."""
    known, other = intent.deployment(key), intent.deployment(key.other)
    if known is not None:
        return known.is_live
    return not other.is_live if other is not None else key.slot == Slot.PRODUCTION.value


def apart(record: DeploymentRecord, intent: Intent, ground: Ground, told: Collection[str] = ()) -> DeploymentRecord:
    """The record as it goes with the other slot's: one of two may be told as it was before a swap.

    Then both would be live, or none, and both would have one VIP. The other one that nobody has is most likely an
    address that we have added already; ``told``: VIPs of deployments that are still to be recovered.
    """
    other = intent.deployment(record.id.other)
    if other is None:
        return record
    if other.is_live == record.is_live:
        record = replace(record, swaps=record.swaps + 1)
    if other.vip != record.vip or ground.bind is Bind.OWN:
        return record
    left = ground.added - {known.vip for known in intent.deployments} - {*told}
    return replace(record, vip=min(left) if len(left) == 1 else free_vip(intent, ground))


def free_vip(intent: Intent, ground: Ground) -> str:
    """The lowest address of the pool that no deployment has and nobody uses. Raises Refused."""
    taken = {record.vip for record in intent.deployments} | {vip for vip in ground.addresses if vip not in ground.added}
    taken |= ground.added
    for address in ground.pool.hosts():
        if str(address) not in taken:
            return str(address)
    hint = "`vmrole ls` shows who has them; `vmrole down SERVICE` frees one"
    raise Refused(f"no VIP is free in {ground.pool}", hint)


def unfit(record: DeploymentRecord, intent: Intent, ground: Ground) -> str:
    """Why a deployment cannot have its VIP; "" if it can. One that it has already is not asked for again."""
    known = intent.deployment(record.id)
    if known is not None and known.vip == record.vip:
        return ""
    network = next((net for net in ground.networks if IPv4Address(record.vip) in net), None)
    if network is not None:
        return f"{record.vip} is one of {network}, where instances get their addresses"
    if ground.bind is Bind.OWN:
        told = ", ".join(ground.own) or "none"
        return "" if record.vip in ground.own else f"{record.vip} is no address of {ground.device}; it has: {told}"
    other = next((o for o in intent.deployments if o.id != record.id and o.vip == record.vip), None)
    if other is not None:
        return f"{record.vip} is the VIP of {other.id.title}"
    if record.vip in ground.addresses and record.vip not in ground.added:
        return f"{record.vip} is an address of {ground.addresses[record.vip]} already, which vmrole has not added"
    return ""


def neighbours(record: DeploymentRecord, intent: Intent) -> dict[int, str]:
    """VIP ports that another deployment has on the same VIP: port → whose it is."""
    others = [other for other in intent.deployments if other.id != record.id and other.vip == record.vip]
    return {front.port: other.id.title for other in others for front in frontends([other])}
