"""The decision: from what is wanted and what is seen to the steps that bring them together. Pure, and the only one.

``up``, ``down``, a repair and the aftermath of a crash are the same call on other values. A plan can be cut after any
step: what is not done is planned again from what is then seen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.engine import (
    autoscale,
    care,
    ground,
    guard,
    layouts,
    members,
    report,
    rest,
    rollout,
    runtime,
    startorder,
    steps,
    traffic,
    upgrading,
)
from orchestrator.engine.case import Case, is_under_way
from orchestrator.engine.sight import sight
from orchestrator.engine.status import DeploymentStatus, InstanceStatus, State
from orchestrator.model.action import (
    Action,
    DeleteVolume,
    EjectSeed,
    ForgetDeployment,
    RemoveVip,
    ResumeDomain,
    SaveInstance,
)
from orchestrator.model.making import images_of
from orchestrator.model.names import machine_of_volume
from orchestrator.model.record import DeploymentRecord, Event, InstanceRecord, Intent, Stage, Wanted
from orchestrator.model.spec import Via

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model.action import SaveDeployment
    from orchestrator.model.names import DeploymentId, InstanceId
    from orchestrator.model.spec import Role
    from orchestrator.model.world import LayoutRefused, World

SOON_S = 0.2  # a guest that is being set up is looked at so often: a look is a few cheap agent calls
NET_S = 5.0  # everything else wakes us by an event; this is the net for a lost one
UNHEARD_S = 0.5  # a guest that is booting, and has no agent to tell us when it has
RETRY_S = 1.0  # after something did not work
LEAVING = {Wanted.GONE, Wanted.ERASED}
# Busy is an instance's own business: it may stay so for as long as it likes, and nobody waits for it.
AT_REST = {State.READY, State.BUSY, State.FAILED, State.STOPPED}
NEAR = {State.SETUP, State.STARTING, State.DRAINING, State.STOPPING}


@dataclass(frozen=True, slots=True)
class Step:
    """An action and its track: ``balancer``, ``host NAME`` or an instance's name. Its failure stops its track only."""

    track: str
    action: Action


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, and what is to be said.

    ``first`` is taken in order, then ``tracks`` side by side (each in its order), then ``last`` in order.
    ``requeue_s``: when to look again, if nothing wakes us before.
    """

    first: tuple[Step, ...]
    tracks: tuple[Step, ...]
    last: tuple[Step, ...]
    instances: tuple[InstanceStatus, ...]
    deployments: tuple[DeploymentStatus, ...]
    requeue_s: float

    @property
    def steps(self) -> tuple[Step, ...]:
        return (*self.first, *self.tracks, *self.last)


def plan(intent: Intent, world: World, now: float) -> Plan:
    """Every step that can be taken now towards the intent."""
    cases = tuple(case for record in intent.deployments for case in _decide(record, intent, world, now))
    records = tuple(case.record for case in cases)
    refused = traffic.refused(intent, cases, world)
    instances = tuple(layouts.told(report.status(c, world, now), refused.get(c.deployment.id)) for c in cases)
    kept = _kept(intent, cases, instances, traffic.untaken(intent, cases, world), world, now)
    first = (*kept, *_saves(cases), *_traffic(intent, cases, world, now), *_ground(intent, cases, world))
    tracks = tuple(Step(str(case.record.id), action) for case in cases for action in _track(case))
    is_served = not any(step.track == "balancer" for step in first)
    last = (*_last(intent, records, world, now), *(_unused_vips(intent, world) if is_served else ()))
    deployments = tuple(_deployment(record, instances, world, refused.get(record.id)) for record in intent.deployments)
    settling = _settling_s(cases, world, now)
    nearest = (_next_look_s(cases, instances), _interval_s(intent, instances), autoscale.look_s(intent), settling)
    requeue_s = min(_requeue_s(instances, world, (*first, *tracks, *last)), *nearest)
    return Plan(first, tracks, last, instances, deployments, requeue_s)


def _decide(record: DeploymentRecord, intent: Intent, world: World, now: float) -> tuple[Case, ...]:
    """One deployment's instances: who there should be, what each should be, how far it is, what to do next."""
    cases = [
        steps.progress(steps.unguarded(steps.replug(steps.replan(case, now), now), world, now), world, now)
        for case in _cases(record, intent, world, now)
    ]
    cases = runtime.informed(care.treated(startorder.released(cases, now), world, now), world)
    chosen = _turns(record, cases, world, now)
    left = (steps.leave(case, world, may_begin=case.record.id in chosen, now=now) for case in cases)
    acting = (steps.act(case, world, now) for case in left)
    return tuple(replace(case, actions=(*case.actions, *runtime.tell(case, world, now))) for case in acting)


def _cases(record: DeploymentRecord, intent: Intent, world: World, now: float) -> tuple[Case, ...]:
    present = intent.members(record.id)
    stored = {known.id: known for known in present}
    hosts = [world.hosts[name] for name in record.subnets if name in world.hosts]
    wanted = members.members(record, present, hosts, now)
    around = members.vicinity(record, wanted)
    return tuple(
        Case(
            record,
            stored.get(instance.id),
            instance,
            record.service.role(instance.id.role),
            sight(instance, world.hosts.values(), intent.owner),
            around=around,
        )
        for instance in wanted
    )


def _turns(record: DeploymentRecord, cases: Sequence[Case], world: World, now: float) -> frozenset[InstanceId]:
    return frozenset(
        key
        for role in record.service.roles
        for key in members.turns(
            [_member(case, world, now) for case in cases if case.record.id.role == role.name],
            _most_away(record, role),
        )
    )


def _most_away(record: DeploymentRecord, role: Role) -> int:
    """How many of a role may be away at once. None at all is for upgrades, which have extra instances then."""
    most = role.upgrade.away(record.count(role.name))
    return most if rollout.is_going(record) else max(1, most)


def _member(case: Case, world: World, now: float) -> members.Member:
    record = case.record
    is_up = record.wanted is Wanted.UP or record.farewell is not None
    wants_turn = case.is_wanted and record.farewell is None and case.due is not None and not rest.is_at_rest(case.power)
    return members.Member(
        record.id,
        case.can_serve(world),
        wants_turn,
        case.is_wanted and is_up,
        is_extra=upgrading.is_extra(case),
        is_young=upgrading.is_young(case, world, now),
    )


def _kept(
    intent: Intent,
    cases: Sequence[Case],
    instances: Sequence[InstanceStatus],
    untaken: frozenset[DeploymentId],
    world: World,
    now: float,
) -> list[Step]:
    """What is stored of deployments: how far their upgrades are, and how many instances there are to be."""
    saves: dict[DeploymentId, SaveDeployment] = {}
    own, told = defaultdict(list), defaultdict(list)
    for case, status in zip(cases, instances, strict=True):
        own[case.deployment.id].append(case)
        told[case.deployment.id].append(status)
    for record in intent.deployments:
        is_taken = record.id not in untaken
        save = upgrading.saved(record, own[record.id], told[record.id], world, now, is_taken=is_taken)
        saves |= {record.id: save} if save is not None else {}
    # A record is stored once in a turn.
    counts = {save.record.id: save for save in autoscale.changes(intent, instances, world, now)}
    return [Step(str(key), save) for key, save in (counts | saves).items()]


def _saves(cases: Sequence[Case]) -> list[Step]:
    return [Step(str(case.record.id), _save(case)) for case in cases if _is_news(case) and not case.before]


def _is_news(case: Case) -> bool:
    return case.record != case.old or case.event is not None


def _save(case: Case) -> SaveInstance:
    return SaveInstance(case.record, case.event)


def _track(case: Case) -> tuple[Action, ...]:
    """An instance's own steps; what must come before its record is stored brings the storing with it."""
    return (*case.before, _save(case), *case.actions) if case.before else case.actions


def _traffic(intent: Intent, cases: Sequence[Case], world: World, now: float) -> list[Step]:
    return [Step("balancer", action) for action in traffic.changes(intent, cases, world, now)]


def _ground(intent: Intent, cases: Sequence[Case], world: World) -> list[Step]:
    records = [case.record for case in cases]
    arriving = [after for case in cases if case.is_wanted and (after := case.after) is not None]
    offered = frozenset(case.record.id for case in cases if case.is_offered(world))
    return [
        Step(f"host {host.name}", action)
        for host in world.hosts.values()
        for action in (
            *guard.prepare(host, intent.deployments, records, intent.owner),
            *ground.prepare(host, intent.deployments, records, arriving, intent.owner, offered),
        )
    ]


def _last(intent: Intent, records: Sequence[InstanceRecord], world: World, now: float) -> list[Step]:
    """The last steps of deployments whose instances have all gone, and what nobody stands on any more.

    A deployment is forgotten when nothing of it is left: until then, who comes next knows what is still to be done.
    """
    leaving = [
        record
        for record in intent.deployments
        if record.wanted in LEAVING and not any(r.id.deployment == record.id for r in records)
    ]
    tidy = _tidy(intent, records, world)
    if world.balancer.problem or any(host.problem for host in world.hosts.values()):
        return tidy
    sweeps = [step for record in leaving for step in _sweep(record, intent.owner, world)]
    forget = [
        Step(str(r.id), ForgetDeployment(r.id, Event(now, str(r.id), "deleted", "its deletion was asked for")))
        for r in leaving
        if not any(ground.is_in_use(host, r.id) for host in world.hosts.values())
    ]
    return [*sweeps, *tidy] or forget


def _sweep(record: DeploymentRecord, owner: str, world: World) -> list[Step]:
    is_erased = record.wanted is Wanted.ERASED
    swept = [
        Step(str(record.id), action)
        for host in world.hosts.values()
        for action in ground.sweep(host, record.id, owner, is_erased=is_erased)
    ]
    is_ours = record.vip in world.balancer.added - _kept_vips(world)
    return [*swept, *([Step(str(record.id), RemoveVip(record.vip))] if is_ours else [])]


def _kept_vips(world: World) -> set[str]:
    return {front.vip for front in layouts.kept(world.balancer)}


def _unused_vips(intent: Intent, world: World) -> list[Step]:
    """Addresses that we have added and no deployment has any more, once nobody is connected to them."""
    seen = world.balancer
    unused = seen.added - {record.vip for record in intent.deployments} - _kept_vips(world)
    is_free = not seen.problem and not seen.left
    return [Step("balancer", RemoveVip(vip)) for vip in sorted(unused)] if is_free else []


def _tidy(intent: Intent, records: Sequence[InstanceRecord], world: World) -> list[Step]:
    made = [record.machine for record in records]
    made += [record.next.machine for record in records if record.next is not None]
    made += [record.kept.machine for record in records if record.kept is not None]
    needed = {digest for machine in made for digest in machine.images}
    up = [record for record in intent.deployments if record.wanted is Wanted.UP]
    needed |= {d for r in up for role in r.digests for d in images_of(r.digests, r.platforms, role)}
    return [
        Step(f"host {host.name}", action)
        for host in world.hosts.values()
        for action in (*guard.tidy(host, records, intent.owner), *ground.tidy(host, needed))
    ]


def _deployment(
    record: DeploymentRecord, instances: Sequence[InstanceStatus], world: World, refused: LayoutRefused | None
) -> DeploymentStatus:
    status = _as_asked(record, instances, world)
    if refused is None or status.state not in {"ready", "working"}:
        return status
    # HAProxy may refuse something once: another try tells.
    is_settled = status.settled and refused.tries >= layouts.MEANT
    return DeploymentStatus(record.id, "failed" if is_settled else "working", is_settled, layouts.words(refused))


def _as_asked(record: DeploymentRecord, instances: Sequence[InstanceStatus], world: World) -> DeploymentStatus:
    own = [status for status in instances if status.record.id.deployment == record.id]
    if record.wanted in LEAVING:
        away = [host.problem for host in world.hosts.values() if host.problem]
        reason = next(iter([*filter(None, [world.balancer.problem]), *away, *world.trouble.values()]), "")
        return DeploymentStatus(record.id, "leaving", settled=False, reason=reason)
    states = {status.state for status in own}
    roles = record.service.roles
    is_whole = len(own) == sum(record.count(role.name) + rollout.surge(record, role) for role in roles)
    is_pending = any(is_under_way(status.record) or status.is_untold for status in own)
    begun = [status for status in own if not status.is_held]
    is_known = not any(status.is_unchecked for status in own)
    is_at_rest = all(status.is_left or (status.state in AT_REST and not status.is_watched) for status in begun)
    told = upgrading.status(record, begun, is_pending=is_pending or not is_whole)
    if told is not None:
        return told
    is_whole = is_whole and begun == own
    if record.paused is not None and is_whole and is_at_rest and not is_pending:
        return DeploymentStatus(record.id, "paused", settled=True, reason=record.paused.reason)
    if is_at_rest and any(status.is_left or status.state is State.FAILED for status in own):
        return DeploymentStatus(record.id, "failed", settled=True)
    if not is_whole or is_pending or not is_at_rest:
        return DeploymentStatus(record.id, "working", settled=False)
    # Whatever may come of a first look of HAProxy's, until then it is as ready as it was.
    return DeploymentStatus(record.id, "stopped" if states == {State.STOPPED} else "ready", settled=is_known)


def _interval_s(intent: Intent, instances: Sequence[InstanceStatus]) -> float:
    """How often somebody wants to be looked at; never less often than the net for a lost event."""
    roles = {
        (record.id, role.name): role.ready
        for record in intent.deployments
        if record.wanted is Wanted.UP
        for role in record.service.roles
    }
    booting = {(s.record.id.deployment, s.record.id.role) for s in instances if s.state is State.BOOTING}
    # Nothing wakes us when a guest without an agent begins to answer.
    is_unheard = any(key in booting and ready.via is not Via.AGENT for key, ready in roles.items())
    least = min((ready.interval_s for ready in roles.values()), default=NET_S)
    return min(least, UNHEARD_S) if is_unheard else least


def _next_look_s(cases: Sequence[Case], instances: Sequence[InstanceStatus]) -> float:
    """When the next look at an instance that is not quite well would count; NET_S if all are."""
    bad = {s.record.id for s in instances if s.is_watched or s.state in {State.UNHEALTHY, State.UNKNOWN}}
    looks = [c.role.ready.interval_s for c in cases if c.role is not None and c.record.id in bad]
    looks += [UNHEARD_S] if any(status.is_unchecked for status in instances) else []
    return max(SOON_S, min([NET_S, *looks]))


def _settling_s(cases: Sequence[Case], world: World, now: float) -> float:
    """When the next upgraded instance will have been healthy for long enough; NET_S if none is waited for."""
    young = [case for case in cases if upgrading.is_young(case, world, now)]
    times = [UNHEARD_S for case in young if case.is_unchecked(world)]
    times += [at - now for case in young if (at := upgrading.settles_at(case, world)) is not None]
    return max(SOON_S, min([NET_S, *times]))


def _requeue_s(instances: Sequence[InstanceStatus], world: World, taken: Sequence[Step]) -> float:
    if world.trouble:
        return RETRY_S
    if any(isinstance(step.action, ResumeDomain) for step in taken):
        return NET_S  # a machine that stops again at once is not resumed as fast as we can
    if taken:
        return 0.0
    # A failed machine is still looked at: somebody may mend it from inside.
    quick = {Stage.SETUP, Stage.SERVICES, Stage.ROTATION}
    is_near = any(s.stage in quick and s.state in NEAR for s in instances)
    return SOON_S if is_near else RETRY_S if any(s.is_untold for s in instances) else NET_S


def has_disc_left(made: Plan, key: InstanceId) -> bool:
    """Whether an instance's answer file may yet be there: nobody may come by later to take it away."""
    return any(
        isinstance(step.action, EjectSeed | SaveInstance)
        or (isinstance(step.action, DeleteVolume) and _is_seed(step.action))
        for step in made.steps
        if step.track == str(key)
    )


def _is_seed(action: DeleteVolume) -> bool:
    machine = machine_of_volume(action.volume)
    return machine is not None and action.volume == machine.seed
