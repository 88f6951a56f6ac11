"""How many instances a role should have for what there is to do: from its figures over time to a number. Pure.

More come as soon as the mean is above the target, as many as it takes; fewer come one at a time, and only when one
less would have been enough during the whole cool-down, counted from when the last that came was ready. Without fresh
figures, and while the role is not whole and ready, nothing is changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine.load import STALE_S, scaling_roles, window_s
from orchestrator.engine.scaling import chosen, with_ordinals
from orchestrator.engine.status import State
from orchestrator.model.action import SaveDeployment
from orchestrator.model.load import WORDS, Autoscale, Load, Scaled
from orchestrator.model.record import DeploymentRecord, Event, Intent, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.engine.status import InstanceStatus
    from orchestrator.model.names import DeploymentId
    from orchestrator.model.world import World

TOLERANCE = 0.1  # so far from the target nothing is changed
HAIR = 0.01  # of an instance: what arithmetic may add
LEAST_SAMPLES = 2
LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a role's number, and why. ``figure``: the mean of one instance, None as long as it has none."""

    record: DeploymentRecord
    role: str
    wish: Autoscale
    count: int
    wanted: int
    figure: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Trend:
    """A load in figures of all instances together.

    ``mean``: over the window; ``late``: over its last third; ``peak``: the highest mean of the cool-down.
    ``covers_s``: over how long there are samples. ``problem``: why there is no figure.
    """

    mean: float = 0.0
    late: float = 0.0
    peak: float = 0.0
    covers_s: float = 0.0
    problem: str = ""


def changes(
    intent: Intent, instances: Sequence[InstanceStatus], world: World, now: float
) -> tuple[SaveDeployment, ...]:
    """What is to be stored for roles whose number changes now; one role of a deployment at a time."""
    found: dict[DeploymentId, SaveDeployment] = {}
    for verdict in verdicts(intent, instances, world, now):
        if verdict.wanted != verdict.count:
            found.setdefault(verdict.record.id, _change(verdict, now))
    return tuple(found.values())


def _change(verdict: Verdict, now: float) -> SaveDeployment:
    record, name = verdict.record, verdict.role
    wanted = with_ordinals(record, name, chosen(record.ordinals(name), verdict.wanted))
    last = record.scaled.get(name, Scaled())
    last = replace(last, out=now) if verdict.wanted > verdict.count else replace(last, back=now)
    what = f"{name}: {verdict.count} → {verdict.wanted} instances"
    event = Event(now, str(record.id), what, verdict.reason, actor="autoscale")
    return SaveDeployment(replace(wanted, scaled={**record.scaled, name: last}), event)


def verdicts(
    intent: Intent, instances: Iterable[InstanceStatus], world: World, now: float, *, is_trial: bool = False
) -> tuple[Verdict, ...]:
    """Of every role whose number follows a figure. ``is_trial``: whoever asks has looked for a short time only."""
    statuses = list(instances)
    found = []
    for record, role, wish in scaling_roles(intent):
        own = [one for one in statuses if one.record.id.deployment == record.id and one.record.id.role == role.name]
        seen = trend(world.loads.get((record.id, role.name), Load()), wish, now, is_trial=is_trial)
        figure = None if seen.problem else seen.mean / record.count(role.name)
        obstacle = _obstacle(record, role.name, own)
        count = record.count(role.name)
        # Figures from before the last one was ready are of fewer instances, on a host that was busy with its boot.
        whole = max((one.record.timeline.rotation or 0.0 for one in own), default=0.0)
        wanted, reason = (count, obstacle) if obstacle else _weighed(record, role.name, wish, seen, (now, whole))
        found.append(Verdict(record, role.name, wish, count, wanted, figure, reason))
    return tuple(found)


def _obstacle(record: DeploymentRecord, name: str, own: Sequence[InstanceStatus]) -> str:
    """Why nothing is changed, whatever the figures are; "" if nothing stands in the way."""
    if record.paused is not None:
        return "the service is paused"
    if record.rollout is not None:
        return "an upgrade is under way"
    there = {status.record.id.ordinal: status for status in own}
    if missing := set(record.ordinals(name)) - there.keys():
        return f"{name}-{min(missing)} is not there yet"
    for ordinal, status in sorted(there.items()):
        is_member = ordinal in record.ordinals(name) and status.record.wanted is Wanted.UP
        is_calm = status.record.next is None and status.record.farewell is None and status.record.reboot is None
        if not is_member or status.state is not State.READY or not is_calm:
            return f"{name}-{ordinal} is {status.state.value if status.state is not State.READY else 'about to change'}"
    return ""


def trend(load: Load, wish: Autoscale, now: float, *, is_trial: bool) -> Trend:
    """A load's figures, if there are enough of them."""
    if load.problem:
        return Trend(problem=load.problem)
    if not load.samples or now - load.samples[-1][0] > STALE_S:
        return Trend(problem="there are no figures yet")
    window, since = window_s(wish), now - load.samples[0][0]
    recent = [value for at, value in load.samples if at > now - window]
    if not is_trial and since < 0.8 * window:
        return Trend(problem=f"figures of {since:.0f} s so far, {window:g} s are needed")
    if len(recent) < (1 if is_trial else LEAST_SAMPLES):
        return Trend(problem=f"only {len(recent)} looks in the last {window:g} s")
    peak = max(_means(load.samples, now - wish.cool_down_s, window), default=0.0)
    late = [value for at, value in load.samples if at > now - window / 3] or recent
    return Trend(sum(recent) / len(recent), sum(late) / len(late), peak, since)


def _means(samples: Sequence[tuple[float, float]], begin: float, window: float) -> list[float]:
    """The mean of the window that ends with each sample after ``begin``."""
    means, first, total = [], 0, 0.0
    for number, (at, value) in enumerate(samples):
        total += value
        while samples[first][0] <= at - window:
            total -= samples[first][1]
            first += 1
        if at >= begin:
            means.append(total / (number - first + 1))
    return means


def _weighed(
    record: DeploymentRecord, name: str, wish: Autoscale, seen: Trend, times: tuple[float, float]
) -> tuple[int, str]:
    """The number that a role should have, and why, as nothing but the figures counts.

    ``times``: now, and since when all of its instances are ready.
    """
    now, whole = times
    count, last = record.count(name), record.scaled.get(name, Scaled())
    if seen.problem:
        return count, seen.problem
    each, over = seen.mean / count, min(window_s(wish), seen.covers_s)
    told = f"{each:.1f} {WORDS[wish.figure]} over {over:.0f} s, the target is {wish.target:g}"
    if each > wish.target * (1 + TOLERANCE):
        # The mean tells that it is too much; how much it is by now, its last third.
        needed = math.ceil(max(seen.mean, seen.late) / wish.target - HAIR)
        wanted, but = min(needed, wish.most), _but_no_more(count, wish, now - last.out)
        told += f"; {max(seen.mean, seen.late):.1f} of all of them" if not but else ""
    elif max(seen.mean, seen.peak) <= (count - 1) * wish.target * (1 - TOLERANCE):
        wanted, but = count - 1, _but_no_fewer(count, wish, seen, now - max(last.out, last.back, whole))
        told += "" if but else f"; one less would have been enough for {wish.cool_down_s:g} s"
    else:
        return count, told
    return (count if but else wanted), told + but


def _but_no_more(count: int, wish: Autoscale, since: float) -> str:
    """Why no more come, though there should be more; ``since``: seconds since more came. "" if they do."""
    if count >= wish.most:
        return f"; {wish.most} are the most"
    return f"; the last came {since:.0f} s ago (cool_down {wish.cool_down_s:g} s)" if since < wish.cool_down_s else ""


def _but_no_fewer(count: int, wish: Autoscale, seen: Trend, since: float) -> str:
    """Why none goes, though one less would be enough; ``since``: seconds since the last change. "" if one does."""
    if count <= wish.least:
        return f"; {wish.least} are the fewest"
    if since < wish.cool_down_s:
        return f"; the last change was {since:.0f} s ago (cool_down {wish.cool_down_s:g} s)"
    left = wish.cool_down_s - seen.covers_s
    return f"; one goes if that stays so for {left:.0f} s" if left > 0 else ""


def look_s(intent: Intent) -> float:
    """How often somebody has to look for figures to be enough; LOOK_S if nobody needs any."""
    return min((max(1.0, window_s(wish) / 5) for _record, _role, wish in scaling_roles(intent)), default=LOOK_S)
