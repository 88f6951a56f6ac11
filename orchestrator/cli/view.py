"""Statuses as people and scripts read them: tables, and the JSON whose fields others rely on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from orchestrator.cli.upgradejson import rollout_json
from orchestrator.engine import upgrading
from orchestrator.engine.health import CHECK_FAILED
from orchestrator.engine.lifecycle import WAITS_FOR
from orchestrator.engine.rotation import frontends
from orchestrator.engine.status import State
from orchestrator.model.names import MachineId
from orchestrator.model.record import DeploymentRecord, Stage, Wanted
from orchestrator.model.spec import Visibility

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.engine.plan import Plan
    from orchestrator.engine.status import InstanceStatus
    from orchestrator.model.load import Autoscale
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.spec import Role

RED, YELLOW = (State.FAILED, State.UNHEALTHY), (State.UNKNOWN, State.BUSY)
COLOURS = {State.READY: "green", **dict.fromkeys(RED, "red"), **dict.fromkeys(YELLOW, "yellow")}


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns under headings, as wide as their widest cell; the last one is not padded."""
    lines = [tuple(headings), *(tuple(row) for row in rows)]
    widths = [max(len(click.unstyle(line[column])) for line in lines) for column in range(len(headings))]
    return "\n".join(
        "  ".join(
            cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def own(plan: Plan, key: DeploymentId) -> list[InstanceStatus]:
    return [status for status in plan.instances if status.record.id.deployment == key]


def is_vague(status: InstanceStatus) -> bool:
    """Whether it waits for services, or seems not to be well, and which they are was not said yet."""
    is_waiting = status.stage is Stage.SERVICES and status.reason.startswith(
        f"waiting for {WAITS_FOR[Stage.SERVICES]},"
    )
    return is_waiting or status.reason.startswith(f"{CHECK_FAILED};")


def reasons(statuses: Iterable[InstanceStatus]) -> list[str]:
    """A line for each instance: where it stands, and why."""
    return [f"  {s.record.id.name}: {s.state.value} at {s.stage.value}: {s.reason}" for s in statuses]


def state_of(plan: Plan, record: DeploymentRecord) -> str:
    return next((d.state for d in plan.deployments if d.id == record.id), "unknown")


def coloured(state: State) -> str:
    return click.style(state.value, fg=COLOURS.get(state))


def status_json(plan: Plan, record: DeploymentRecord) -> dict[str, object]:
    """The whole of a deployment."""
    statuses = own(plan, record.id)
    return {
        "service": record.id.service,
        "slot": record.id.slot,
        "state": state_of(plan, record),
        "vip": record.vip,
        "live": record.is_live,
        "revision": record.revision,
        "paused": asdict(record.paused) if record.paused is not None else None,
        "upgrade": rollout_json(record),
        "endpoints": endpoints_json(record),
        "roles": [
            {
                "name": role.name,
                "desired": record.count(role.name) if record.wanted is Wanted.UP else 0,
                "ready": sum(s.state is State.READY for s in statuses if s.record.id.role == role.name),
                "autoscale": autoscale_json(role.autoscale) if role.autoscale is not None else None,
                "image": role.image,
                "digest": record.digests[role.name],
            }
            for role in record.service.roles
        ],
        "instances": [instance_json(status) for status in statuses],
    }


def autoscale_json(wish: Autoscale) -> dict[str, object]:
    return {
        "min": wish.least,
        "max": wish.most,
        "target": {wish.figure.value: wish.target},
        "cool_down": wish.cool_down_s,
    }


def endpoints_json(record: DeploymentRecord) -> list[dict[str, object]]:
    return [
        {
            "role": role.name,
            "name": endpoint.name,
            "vip": record.vip if endpoint.visibility is not Visibility.INTERNAL else None,
            "port": endpoint.ports[0] or None,
            "last_port": endpoint.ports[1] or None,
            "target": endpoint.target,
            "last_target": endpoint.targets[1],
            "protocol": endpoint.protocol.value,
            "visibility": endpoint.visibility.value,
            "tls": endpoint.traffic.tls is not None,
        }
        for role in record.service.roles
        for endpoint in role.endpoints
    ]


def instance_json(status: InstanceStatus) -> dict[str, object]:
    record = status.record
    return {
        "name": record.id.name,
        "role": record.id.role,
        "ordinal": record.id.ordinal,
        "state": status.state.value,
        "stage": status.stage.value,
        "since": status.since,
        "reason": status.reason,
        "console": list(status.console),
        "generation": record.generation,
        "boot": record.boot,
        "host": record.host,
        "domain": MachineId(record.id, record.generation).domain,
        "dip": record.dip,
        "mac": record.id.mac,
        "digest": record.machine.digest,
        "in_rotation": status.in_rotation,
        "timeline": asdict(record.timeline),
    }


def status_text(plan: Plan, record: DeploymentRecord, now: float) -> str:
    """The deployment's line, and a table of its instances."""
    ports = ", ".join(f"{front.port} {front.protocol.value}" for front in frontends([record]))
    statuses = own(plan, record.id)
    ready = sum(status.state is State.READY for status in statuses)
    head = (
        f"{record.id.service} ({record.id.slot}): {state_of(plan, record)}, {ready} of {len(statuses)} ready, "
        f"revision {record.revision}, VIP {record.vip}"
        + (f" ({ports})" if ports else "")
        + _swapped(record)
        + _paused(record, now)
    )
    head += _upgrading(record)
    head += "".join(f"\n{_between(record, role, role.autoscale)}" for role in record.service.roles if role.autoscale)
    rows = [
        (
            status.record.id.name,
            coloured(status.state),
            status.stage.value,
            duration(now - status.since),
            str(status.record.generation),
            status.record.host,
            status.record.dip,
            status.reason,
        )
        for status in statuses
    ]
    return head + "\n" + table(("INSTANCE", "STATE", "STAGE", "FOR", "GEN", "HOST", "DIP", "REASON"), rows)


def _between(record: DeploymentRecord, role: Role, wish: Autoscale) -> str:
    return f"{role.name}: {record.count(role.name)} instances, {wish}"


def _swapped(record: DeploymentRecord) -> str:
    return f", which was {record.id.other.slot}'s before a swap" if record.swaps % 2 else ""


def _paused(record: DeploymentRecord, now: float) -> str:
    if record.paused is None:
        return ""
    why = f": {record.paused.reason}" if record.paused.reason else ""
    return f"\npaused for {duration(now - record.paused.since)}{why}; `vmrole resume {record.id.words}` ends that"


def _upgrading(record: DeploymentRecord) -> str:
    told = upgrading.said(record)
    return f"\n{told}; `vmrole upgrade status {record.id.words}` shows it" if told else ""


def consoles(statuses: Iterable[InstanceStatus]) -> str:
    """The last console lines of what has failed."""
    parts = [
        "\n".join([f"{s.record.id.name}: last console lines", *(f"    {line}" for line in s.console)])
        for s in statuses
        if s.state is State.FAILED and s.console
    ]
    return "\n".join(parts)


def duration(seconds: float) -> str:
    """``73`` → ``1m13s``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"
