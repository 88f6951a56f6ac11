"""From a service file to the intent: every check against what is there, and the record that `up` stores."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from orchestrator.cli.deployments import over_others
from orchestrator.cli.setupcheck import refuse_unsuitable
from orchestrator.errors import (
    HostAway,
    InvalidInput,
    Missing,
    Problem,
    UserError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import DeploymentRecord, Event, Intent
    from orchestrator.model.secret import Secret
    from orchestrator.model.spec import Service
    from orchestrator.model.world import World
    from orchestrator.wiring import Wiring


def write_intent(
    wiring: Wiring, key: DeploymentId, service: Service, file: Path, canary: int = 0
) -> tuple[DeploymentRecord, bool]:
    """Check the file against what is there, then store what it wants; whether that was news.

    One at a time: two that are new at the same moment get two VIPs and two networks. A loop that runs meanwhile
    stores how far things have got: then it is looked again.
    """
    from orchestrator.cli.secrecy import with_secrets

    service, values = with_secrets(wiring, service, file, is_lasting=True)

    def at_once() -> tuple[DeploymentRecord, bool]:
        with wiring.writing():
            return _write(wiring, key, service, file, canary, values)

    return over_others(at_once)


def _write(
    wiring: Wiring, key: DeploymentId, service: Service, file: Path, canary: int, values: dict[str, Secret]
) -> tuple[DeploymentRecord, bool]:
    from orchestrator.engine.deploy import retried

    intent = wiring.store.intent()
    world = wiring.loop.see()
    known = intent.deployment(key)
    record = wanted_record(wiring, _proven(intent, world, wiring.clock.now()), world, key, service, file, canary=canary)
    is_new = record != known
    with wiring.secrets.alone() if values else contextlib.nullcontext():
        wiring.secrets.keep(values)
        for instance in retried(intent, record, wiring.clock.now()):
            wiring.store.save_instance(instance)
        if is_new:
            wiring.store.save_deployment(record, _event(wiring, record, file))
    return record, is_new


def _proven(intent: Intent, world: World, now: float) -> Intent:
    """The intent in which a revision that is healthy all through is known for it, though no loop has run since."""
    from orchestrator.engine.deploy import after
    from orchestrator.engine.plan import plan
    from orchestrator.model.action import SaveDeployment

    saves = [s.action.record for s in plan(intent, world, now).steps if isinstance(s.action, SaveDeployment)]
    for record in saves:
        known = intent.deployment(record.id)
        intent = after(intent, record) if known is not None and known.rollout == record.rollout else intent
    return intent


def _event(wiring: Wiring, record: DeploymentRecord, file: Path) -> Event:
    from orchestrator.model.record import Event
    from orchestrator.model.text import line

    cause = f"{line(file.name)} asks for it"
    return Event(wiring.clock.now(), str(record.id), f"revision {record.revision} is wanted", cause, "up")


def wanted_record(  # noqa: PLR0913 - what `up` was told, and where it looks
    wiring: Wiring,
    intent: Intent,
    world: World,
    key: DeploymentId,
    service: Service,
    file: Path,
    *,
    canary: int = 0,
) -> DeploymentRecord:
    """The deployment's record as the file wants it, after every check that can be made. Changes nothing.

    Raises InvalidInput for what is wrong with the file, HostAway or Missing for what is wrong with the site.
    """
    from orchestrator.cli.vips import chosen_vip
    from orchestrator.engine.deploy import deployed, free_subnets
    from orchestrator.model.image import platform_of

    images = {role.name: wiring.images.find(role.image) for role in service.roles}
    digests = {role: image.digest for role, image in images.items()}
    platforms = {role: platform_of(image.traits) for role, image in images.items()}
    if shutil.which("haproxy") is None:
        raise Missing("HAProxy is not installed", "install the package haproxy, or run `make setup`")
    for host in world.hosts.values():
        if host.problem:
            raise HostAway(
                host.problem, "`vmrole doctor` checks what is needed; in a lab, `vmrole lab up` starts it again"
            )
    known = intent.deployment(key)
    pools = {host.name: host.dip_pool for host in wiring.site.hosts}
    # A deployment stays on the hosts that it was made for: its networks' numbers are the same on each of them.
    subnets = known.subnets if known is not None else free_subnets(pools, world.hosts, intent)
    vip = chosen_vip(wiring, intent, world, key, service)
    if canary and known is None:
        raise UserError(f"{key.title} is not there yet: no instance could be a canary", "`vmrole up` without --canary")
    record = deployed(
        intent, key, service, digests=digests, vip=vip, subnets=subnets, platforms=platforms, canary=canary
    )
    refuse_unsuitable(record, file)
    _refuse_vip(wiring, intent, world, record, file)
    _refuse_shrinking(intent, world, record, file)
    _refuse_clashes(wiring, intent, record, file)
    return record


def _refuse_vip(wiring: Wiring, intent: Intent, world: World, record: DeploymentRecord, file: Path) -> None:
    from orchestrator.cli.vips import wrong_vip

    if message := wrong_vip(wiring, intent, world, record):
        hint = "name another address, or none: then a free one of the pool is taken"
        raise InvalidInput(str(file), (_problem(file, ("vip",), message),), hint)


def _refuse_shrinking(intent: Intent, world: World, record: DeploymentRecord, file: Path) -> None:
    """Refuse disks that are to be smaller than they are: what is on them would be cut."""
    from orchestrator.engine.deploy import shrunk

    problems = [_problem(file, path, message) for path, message in shrunk(intent, world.hosts.values(), record)]
    if problems:
        hint = "ask for at least the size that it has; a smaller one is a new disk, under another name"
        raise InvalidInput(str(file), tuple(problems), hint)


def _refuse_clashes(wiring: Wiring, intent: Intent, record: DeploymentRecord, file: Path) -> None:
    """Refuse VIP ports that somebody else listens on, before anything is changed; our own are known by the record."""
    from orchestrator.engine.deploy import clashes
    from orchestrator.engine.rotation import frontends
    from orchestrator.engine.vips import neighbours

    known = intent.deployment(record.id)
    is_same = known is not None and known.vip == record.vip
    own = {front.port for front in frontends([known])} if known is not None and is_same else set()
    if {front.port for front in frontends([record])} <= own:
        return
    others = neighbours(record, intent)
    taken = {
        port: f"another program listens on {address}, where the VIP {record.vip} lives"
        for port, address in clashes(record, wiring.balancer.listeners(), own).items()
    }
    taken |= {port: f"{title} has it on the same VIP {record.vip}" for port, title in others.items()}
    problems = [
        _problem(file, ("roles", role.name, "endpoints", endpoint.name, "port"), f"port {port} is taken: {taken[port]}")
        for role in record.service.roles
        for endpoint in role.endpoints
        for port in sorted(taken)
        if endpoint.ports[0] <= port <= endpoint.ports[1]
    ]
    if problems:
        raise InvalidInput(str(file), tuple(problems), "choose another port, or end that program")


def _problem(file: Path, path: tuple[str | int, ...], message: str) -> Problem:
    from orchestrator.config.reading import path_text
    from orchestrator.config.servicefile import line_of

    return Problem(path_text(path), message, line_of(file.read_text(errors="replace"), path))
