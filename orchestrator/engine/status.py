"""What there is to say about an instance and a deployment: states, stages and one sentence of reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.model.record import Stage, Timeline

if TYPE_CHECKING:
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import InstanceRecord


class State(Enum):
    """An instance's state, in the words that others script against."""

    PENDING = "pending"
    PROVISIONING = "provisioning"
    BOOTING = "booting"
    SETUP = "setup"
    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"


STATE_OF_STAGE = {
    Stage.NETWORK: State.PROVISIONING,
    Stage.IMAGE: State.PROVISIONING,
    Stage.DEFINE: State.PROVISIONING,
    Stage.START: State.PROVISIONING,
    Stage.AGENT: State.BOOTING,
    Stage.SETUP: State.SETUP,
    Stage.SERVICES: State.STARTING,
    Stage.ROTATION: State.STARTING,
}


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One instance as people see it. ``since``: Unix seconds at which it entered its stage.

    ``is_watched``: something looked wrong, or was mended, and more looks will tell. ``is_left``: it is not well, and
    nothing more is done about it. ``is_held``: it is not started before another role is ready. ``is_untold``: its guest
    has not been given its newest runtime file. ``is_unchecked``: it was ready before what HAProxy does was changed,
    and HAProxy has not looked at it since.
    """

    record: InstanceRecord
    state: State
    stage: Stage
    since: float
    reason: str = ""
    in_rotation: bool = False
    console: tuple[str, ...] = ()
    is_watched: bool = False
    is_left: bool = False
    is_held: bool = False
    is_untold: bool = False
    is_unchecked: bool = False


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A deployment: ``state`` is ready, working, paused, stopped, failed or leaving.

    ``settled``: nothing more will change by itself.
    """

    id: DeploymentId
    state: str
    settled: bool
    reason: str = ""


def stage_of(timeline: Timeline) -> Stage:
    """What a machine with this timeline waits for next."""
    if timeline.services is not None:
        return Stage.ROTATION
    if timeline.setup is not None:
        return Stage.SERVICES
    if timeline.agent is not None:
        return Stage.SETUP
    if timeline.started is not None:
        return Stage.AGENT
    return Stage.START if timeline.defined is not None else Stage.DEFINE


def since(timeline: Timeline) -> float:
    """When the machine entered its present stage, in Unix seconds."""
    marks = (
        timeline.defined,
        timeline.started,
        timeline.agent,
        timeline.setup,
        timeline.services,
        timeline.rotation,
    )
    return max((mark for mark in marks if mark is not None), default=timeline.requested)
