"""What HAProxy is to run with: what is wanted or, while it refuses that, as much of it as it takes. Pure.

A refusal is one service's, as far as HAProxy's words tell: the others get what they want meanwhile, and that one keeps
what it had.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine.rotation import layout
from orchestrator.engine.status import InstanceStatus, State
from orchestrator.model.record import Stage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from orchestrator.model.action import Frontend
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.record import Intent
    from orchestrator.model.world import BalancerSeen, LayoutRefused

FIRST_S = 5.0  # what was refused is tried again after this, and then each time after twice as long
LONGEST_S = 60.0
MEANT = 2  # the world may refuse something once; what was refused so often it means


def chosen(wanted: tuple[Frontend, ...], seen: BalancerSeen, now: float) -> tuple[Frontend, ...]:
    """What HAProxy is to run with now; () if it is not known what it would take."""
    if not seen.refused:
        return wanted
    base, said = _accepted(seen), seen.refused.get(layout(wanted))
    named = _services(said.backends) if said is not None else set()
    differing = _differing(wanted, base)
    candidates = [wanted]
    if base:
        candidates += [_without(named, wanted, base)] if named else []
        candidates += [_without(differing, wanted, base), base]
    return next((fronts for fronts in candidates if fronts and not _is_held(fronts, seen, now)), ())


def going_on(wanted: Sequence[Frontend], seen: BalancerSeen) -> tuple[Frontend, ...]:
    """The frontends that HAProxy runs with now, as far as they are known."""
    return _accepted(seen) or tuple(front for front in wanted if front.name in seen.backends)


def kept(seen: BalancerSeen) -> tuple[Frontend, ...]:
    """What stays open while something else is refused: what HAProxy runs with, or would be started with."""
    return _accepted(seen) if seen.refused else ()


def differing(wanted: Sequence[Frontend], seen: BalancerSeen) -> set[str]:
    """The services of which HAProxy runs with something else than is wanted, as far as that is known."""
    base = _accepted(seen)
    return _differing(wanted, base) if base else set()


def refusal(key: DeploymentId, wanted: Sequence[Frontend], seen: BalancerSeen) -> LayoutRefused | None:
    """HAProxy's word against what is ``wanted``, if it may be about this deployment: it names it, or it names none."""
    said = seen.refused.get(layout(wanted)) if seen.refused else None
    if said is None:
        return None
    about = _services(said.backends) or _differing(wanted, _accepted(seen))
    return said if key.service in about or not about else None


def about(intent: Intent, wanted: Sequence[Frontend], seen: BalancerSeen) -> tuple[DeploymentId, ...]:
    """The deployments that HAProxy's refusal of ``wanted`` may be about; none if it has not refused it."""
    return tuple(r.id for r in intent.deployments if refusal(r.id, wanted, seen) is not None)


def words(said: LayoutRefused) -> str:
    return f"HAProxy does not run with what this service asks for, and goes on as before: {said.words}"


def told(status: InstanceStatus, said: LayoutRefused | None) -> InstanceStatus:
    """The status with what keeps an instance out of rotation, or the newest endpoints from it."""
    if said is None or status.stage is not Stage.ROTATION or status.state not in {State.STARTING, State.READY}:
        return status
    is_left = not status.in_rotation and said.tries >= MEANT
    return replace(status, reason=words(said), is_left=is_left)


def _accepted(seen: BalancerSeen) -> tuple[Frontend, ...]:
    """What HAProxy runs with, by its file; when it does not run, what it would be started with."""
    return seen.frontends if not seen.running or layout(seen.frontends) == seen.layout else ()


def _is_held(fronts: Sequence[Frontend], seen: BalancerSeen, now: float) -> bool:
    """Whether HAProxy has refused it too short a time ago."""
    said = seen.refused.get(layout(fronts)) if seen.refused else None
    return said is not None and now < said.at + min(LONGEST_S, FIRST_S * 2.0 ** min(said.tries - 1, 10))


def _without(services: Collection[str], wanted: Sequence[Frontend], base: Sequence[Frontend]) -> tuple[Frontend, ...]:
    """What is wanted, but of these services what there was."""
    kept = [front for front in base if _service(front.name) in services]
    mixed = [*kept, *(front for front in wanted if _service(front.name) not in services)]
    return tuple(sorted(mixed, key=lambda front: front.name))


def _differing(wanted: Sequence[Frontend], base: Sequence[Frontend]) -> set[str]:
    """The services of which HAProxy would run with other frontends; both slots together, as a swap exchanges theirs."""
    services = _services(front.name for front in (*wanted, *base))
    return {one for one in services if layout(_of(one, wanted)) != layout(_of(one, base))}


def _of(service: str, fronts: Iterable[Frontend]) -> list[Frontend]:
    return [front for front in fronts if _service(front.name) == service]


def _services(backends: Iterable[str]) -> set[str]:
    return {_service(backend) for backend in backends}


def _service(backend: str) -> str:
    return backend.partition(".")[0]
