"""The steps that bring one instance's machine to life, or take it away. Pure.

The order is the safety: a generation is started only after every other machine of the instance is off and undefined,
and nothing of a machine is deleted while a domain still names it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import storage
from orchestrator.engine.ground import has_base
from orchestrator.engine.lifecycle import MAX_STARTS
from orchestrator.engine.sight import transient
from orchestrator.model.action import (
    Action,
    CreateOverlay,
    CreateSeed,
    DefineDomain,
    DeleteVolume,
    DestroyDomain,
    EjectSeed,
    ForgetInstance,
    PlugFilter,
    ResumeDomain,
    StartDomain,
    UndefineDomain,
)
from orchestrator.model.making import is_of_unknown_make
from orchestrator.model.names import MachineId
from orchestrator.model.record import Act, Event, InstanceRecord, Wanted
from orchestrator.model.vicinity import Vicinity
from orchestrator.model.world import DomainSeen, HostSeen, Power

if TYPE_CHECKING:
    from orchestrator.engine.sight import Sight
    from orchestrator.model.names import DeploymentId

GIB = 1024**3
NOWHERE = Vicinity()
NOT_WANTED = "it is not wanted any more"
RESUME_BYTES = 64 * 1024**2  # a machine that was paused for want of room goes on once there is this much


def is_lost(record: InstanceRecord, seen: Sight) -> bool:
    """Whether a machine that has run lost its overlay: once off it cannot be started again, only be made anew."""
    can_tell = not seen.here.problem and seen.here.has_pool
    return record.has_run and can_tell and machine_id(record).overlay not in seen.here.volumes


def bring_up(
    record: InstanceRecord, seen: Sight, deadline: float, around: Vicinity = NOWHERE
) -> tuple[InstanceRecord, tuple[Action, ...]]:
    """The steps towards a running machine of the record's generation, and the record to be stored before them.

    ``deadline``: by when a machine that was ready, and went off, has to be ready again. ``around``: for its answer
    file.
    """
    if seen.here.problem or seen.foreign is not None or seen.is_foreign_network:
        return record, ()
    power = seen.current.power if seen.current is not None else None
    if power is Power.PAUSED:
        return record, resume(record, seen)
    if power is Power.RUNNING:
        cares = (*_remember(record, seen), *_plug(record, seen), *_seed(record, seen, around))
        return record, (*cares, *_clear_others(seen))
    has_failed = record.failure is not None and not (record.failure.is_final and record.starts == 0)
    if record.wanted is Wanted.STOPPED and power is not Power.UNSETTLED:
        return record, (*_eject(record, seen), *_clear_others(seen))
    if power is Power.UNSETTLED or has_failed or not _can_start(record, seen):
        return record, ()
    machine = machine_id(record)
    is_making = power is None
    disks = (*_overlay(record, seen, around, is_making=is_making), *storage.create(record, seen))
    define = (_definition(record, has_seed=not record.is_set_up),) if is_making else ()
    moves = storage.move(record, seen)
    start = (*define, *_plug(record, seen), StartDomain(record.host, machine))
    # A machine that went off starts its boot anew; how often it did is counted when it is seen to run.
    line = replace(record.timeline, started=None, agent=None, setup=None, services=None, rotation=None)
    due = record.deadline if record.timeline.services is None else deadline
    return replace(record, timeline=line, deadline=due), (*disks, *_clear_others(seen), *moves, *start)


def _can_start(record: InstanceRecord, seen: Sight) -> bool:
    if is_lost(record, seen) or record.starts >= MAX_STARTS or is_of_unknown_make(record.machine):
        return False
    if record.has_run and not seen.here.has_pool:
        return False  # its overlay is there, most likely: nothing is made until the pool can be looked into
    return seen.intruder is None and not storage.obstacle(record, seen)


def resume(record: InstanceRecord, seen: Sight) -> tuple[Action, ...]:
    """Let a paused machine run on; one that stopped for want of room only when there is some."""
    has_no_room = seen.current is not None and seen.current.why == "I/O error" and seen.here.free_bytes < RESUME_BYTES
    if seen.current is None or has_no_room:
        return ()
    return (ResumeDomain(record.host, machine_id(record).domain),)


def _remember(record: InstanceRecord, seen: Sight) -> tuple[Action, ...]:
    """A machine that libvirt would forget when it goes off is defined again, as it is."""
    if seen.current is None or seen.current.is_persistent or is_of_unknown_make(record.machine):
        return ()
    return (_definition(record, has_seed=machine_id(record).seed in seen.current.files),)


def _plug(record: InstanceRecord, seen: Sight) -> tuple[Action, ...]:
    """A machine that was made before there were filters, or that somebody has taken its own from, is put behind it."""
    is_open = seen.current is not None and not seen.current.is_guarded
    return (PlugFilter(record.host, machine_id(record)),) if is_open else ()


def _definition(record: InstanceRecord, *, has_seed: bool) -> DefineDomain:
    return DefineDomain(record.host, machine_id(record), record.machine, record.place, has_seed=has_seed)


def _overlay(record: InstanceRecord, seen: Sight, around: Vicinity, *, is_making: bool) -> tuple[Action, ...]:
    """Overlay and seed, as far as they are missing; an overlay that has been used is kept.

    The seed of a machine that is being defined is made again in any case: half a disc would look like a whole one.
    """
    machine = machine_id(record)
    if not is_making:
        return _seed(record, seen, around)
    seed = () if record.is_set_up else (CreateSeed(record.host, machine, record, around),)
    is_used = record.has_run and machine.overlay in seen.here.volumes
    return (*(() if is_used else (_new_overlay(record),)), *seed)


def _seed(record: InstanceRecord, seen: Sight, around: Vicinity) -> tuple[Action, ...]:
    """The answer file's disc, if somebody took it away; it is taken out of the machine once that has been set up.

    Its file is a leftover then, and goes as such.
    """
    if record.is_set_up:
        return _eject(record, seen)
    machine = machine_id(record)
    can_tell = seen.here.has_pool and machine.seed not in seen.here.volumes
    return (CreateSeed(record.host, machine, record, around),) if can_tell else ()


def _eject(record: InstanceRecord, seen: Sight) -> tuple[Action, ...]:
    machine = machine_id(record)
    is_in = seen.current is not None and machine.seed in seen.current.files
    return (EjectSeed(record.host, machine),) if record.is_set_up and is_in else ()


def _new_overlay(record: InstanceRecord) -> Action:
    size_bytes = record.machine.size.disk_gib * GIB
    return CreateOverlay(record.host, machine_id(record), record.machine.digest, size_bytes)


def prepare(
    successor: InstanceRecord, seen: Sight, there: HostSeen, act: Act, around: Vicinity = NOWHERE
) -> tuple[Action, ...]:
    """The steps that make the disks of the machine that is to take over, while the old one still serves."""
    machine = machine_id(successor)
    if there.problem or not there.has_pool or stranger(successor, seen, there):
        return ()
    is_new = act is not Act.UNDO and machine.overlay not in there.volumes
    overlay = (_new_overlay(successor),) if is_new else ()
    is_there = successor.is_set_up or machine.seed in there.volumes
    seed = () if is_there else (CreateSeed(successor.host, machine, successor, around),)
    return (*overlay, *seed, *storage.create(successor, replace(seen, here=there)))


def is_prepared(successor: InstanceRecord, seen: Sight, there: HostSeen, network: DeploymentId) -> bool:
    """Whether all that can be made before the old machine stops is there."""
    machine, digest = machine_id(successor), successor.machine.digest
    if there.problem or seen.is_foreign_network or stranger(successor, seen, there):
        return False
    net = there.networks.get(network.network)
    files = {machine.overlay} if successor.is_set_up else {machine.overlay, machine.seed}
    is_ground_there = net is not None and net.active and has_base(there, digest)
    moved = replace(seen, here=there)
    return (
        is_ground_there
        and files <= there.volumes
        and not storage.create(successor, moved)
        and not storage.obstacle(successor, moved)
    )


def stranger(successor: InstanceRecord, seen: Sight, there: HostSeen) -> str:
    """The name of a domain that has the next machine's name, and is none of this instance's machines; else ""."""
    name = machine_id(successor).domain
    ours = {domain.name for host, domain in seen.others if host == there.name}
    ours |= {seen.current.name} if seen.current is not None and seen.here.name == there.name else set()
    return name if name in there.domains and name not in ours else ""


def _clear_others(seen: Sight) -> tuple[Action, ...]:
    off = [action for host, domain in seen.others for action in _take_down(host, domain)]
    return (*off, *(DeleteVolume(host, volume) for host, volume in seen.leftovers))


def _take_down(host: str, domain: DomainSeen) -> list[Action]:
    off: list[Action] = [] if domain.power is Power.OFF else [DestroyDomain(host, domain.name)]
    # libvirt forgets a domain that was never stored as soon as it is off.
    return [*off, *([UndefineDomain(host, domain.name)] if domain.is_persistent else [])]


def take_away(record: InstanceRecord, seen: Sight, now: float) -> tuple[Action, ...]:
    """The steps after which nothing of the instance is left but its volumes; none while a host cannot be asked."""
    if seen.away:
        return ()
    own = [] if seen.current is None else _take_down(record.host, seen.current)
    others = [action for host, domain in seen.others for action in _take_down(host, domain)]
    files = [DeleteVolume(host, file) for host, file in transient(record, seen.hosts)]
    # A file that somebody has open is not taken away from under them; until then the instance is not forgotten.
    told = Event(now, str(record.id), "deleted", NOT_WANTED)
    forget = () if seen.intruder is not None else (ForgetInstance(record.id, told),)
    return (*own, *others, *files, *forget)


def machine_id(record: InstanceRecord) -> MachineId:
    return MachineId(record.id, record.generation)
