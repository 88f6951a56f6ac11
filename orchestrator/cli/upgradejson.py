"""An upgrade's own values, as scripts read them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from orchestrator.engine import upgrading

if TYPE_CHECKING:
    from orchestrator.model.record import DeploymentRecord


def rollout_json(record: DeploymentRecord) -> dict[str, object] | None:
    """None if none is under way."""
    found = record.rollout
    if found is None:
        return None
    return {
        "revision": record.revision,
        "state": upgrading.halted(record) or "going",
        "reason": upgrading.said(record),
        "began": found.began or None,
        "domain": found.domain,
        "canaries": list(found.canaries),
        "waits_for": found.waits or None,
        "paused": found.paused,
        "rollback": found.is_back,
        "stopped": asdict(found.stopped) if found.stopped is not None else None,
    }
