"""A deployment's VIP, chosen and checked against what is there, before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.engine.vips import Ground
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import DeploymentRecord, Intent
    from orchestrator.model.spec import Service
    from orchestrator.model.world import World
    from orchestrator.wiring import Wiring

TRIES = 8  # addresses of the pool that other machines may have before the pool itself is to blame


def ground_of(wiring: Wiring, world: World) -> Ground:
    """Where VIPs live, as it is now."""
    from orchestrator.engine.vips import Ground

    site, added = wiring.site, world.balancer.added
    networks = tuple(host.dip_pool for host in site.hosts)
    return Ground(site.vip_bind, site.vip_device, site.vip_pool, wiring.balancer.addresses(), added, networks)


def chosen_vip(wiring: Wiring, intent: Intent, world: World, key: DeploymentId, service: Service) -> str:
    """The deployment's VIP: as it is given, as it was, or one that nobody has, here or on the network there."""
    from orchestrator.engine.vips import vip_for

    known, ground = intent.deployment(key), ground_of(wiring, world)
    vip = vip_for(intent, key, service, ground)
    for _try in range(TRIES):
        is_settled = vip == service.vip or (known is not None and vip == known.vip)
        if is_settled or not wiring.balancer.holder(vip):
            break
        ground = replace(ground, addresses={**ground.addresses, vip: "another machine"})
        vip = vip_for(intent, key, service, ground)
    return vip


def wrong_vip(wiring: Wiring, intent: Intent, world: World, record: DeploymentRecord) -> str:
    """Why the deployment cannot have its VIP; "" if it can."""
    from orchestrator.engine.vips import unfit

    if found := unfit(record, intent, ground_of(wiring, world)):
        return found
    known = intent.deployment(record.id)
    is_old = (known is not None and known.vip == record.vip) or record.vip in world.balancer.added
    mac = "" if is_old else wiring.balancer.holder(record.vip)
    return f"another machine ({mac}) has the address {record.vip}" if mac else ""
