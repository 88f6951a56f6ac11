"""The runtime file: what the code in an instance is told of itself, its settings and all roles; and when it is told.

Pure. The guest's file is compared with what it should be at every look, so that nothing has to be remembered of who
was told what. docs/runtime.md is the contract with the code that reads it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.engine import template
from orchestrator.engine.case import Case, guest_of
from orchestrator.model.action import Tell
from orchestrator.model.names import MachineId
from orchestrator.model.spec import WINDOWS, DiskKind, Via, Visibility
from orchestrator.model.text import lines
from orchestrator.model.upgrade import domain_of
from orchestrator.model.vicinity import Peers
from orchestrator.model.winpath import windows_path
from orchestrator.model.world import Power

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from orchestrator.model.making import MachineSpec
    from orchestrator.model.names import InstanceId
    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.spec import Endpoint, Role
    from orchestrator.model.vicinity import Vicinity
    from orchestrator.model.world import World

VERSION = 1
LINUX_PATH = "/etc/vmrole/runtime.json"
WINDOWS_PATH = r"C:\ProgramData\vmrole\runtime.json"
HOOK_LOGS = "/var/lib/vmrole/on-change"
MOST_HOOKS = 3
REVISION = re.compile(r'^\{\s*"revision": "([0-9a-f]{16})"')


def peers(roles: Iterable[Role], members: Iterable[tuple[InstanceId, str]], ready: Collection[InstanceId]) -> Peers:
    """What all instances of a deployment are told of it. ``members``: with their DIPs; ``ready``: those in rotation."""
    known = sorted(members)
    told = {
        role.name: {
            "endpoints": {endpoint.name: _endpoint(endpoint) for endpoint in role.endpoints},
            "instances": [
                {"name": key.name, "ordinal": key.ordinal, "dip": dip, "ready": key in ready}
                for key, dip in known
                if key.role == role.name
            ],
        }
        for role in roles
    }
    text = json.dumps(told, sort_keys=True)
    return Peers(text, _digest(text))


def _endpoint(endpoint: Endpoint) -> dict[str, object]:
    told: dict[str, object] = {
        "port": endpoint.target,
        "protocol": endpoint.protocol.value,
        "visibility": endpoint.visibility.value,
    }
    if endpoint.visibility is Visibility.INPUT:
        told["vip_port"] = endpoint.ports[0]
    elif endpoint.visibility is Visibility.INSTANCE:
        told["vip_ports"] = list(endpoint.ports)  # the first is the one of ordinal 0
    return told


def document(record: InstanceRecord, around: Vicinity) -> str:
    """The whole file. Its first line of content is its revision, so that the file's beginning tells which it is."""
    told = _own(record, around)
    whole = {"revision": _revision(told, around), **told, "roles": json.loads(around.peers.text)}
    return json.dumps(whole, indent=1) + "\n"


def revision(record: InstanceRecord, around: Vicinity) -> str:
    """The revision that ``document`` has, without making it."""
    return _revision(_own(record, around), around)


def read_revision(text: str) -> str:
    """The revision of a file that begins so; "" if it is none of ours."""
    found = REVISION.match(text)
    return found[1] if found is not None else ""


def failed_hooks(text: str) -> str:
    """What is said of programs that ended badly, of a guest's list: a line each, exit code and name; "" if none did."""
    rows = [row.partition(" ") for row in lines(text)[:MOST_HOOKS]]
    said = [
        f"{name} {_end(code)}, see {HOOK_LOGS}/{name}.out in it" for code, _, name in rows if name and code.isdigit()
    ]
    return f"told of a change, {'; '.join(said)}" if said else ""


def _end(code: str) -> str:
    return "was ended after 60 s" if code in {"124", "137"} else f"ended with exit code {code}"


def settings(text: str) -> str:
    """The file with the settings alone, of a whole one."""
    return json.dumps(json.loads(text)["settings"], indent=1) + "\n"


def _own(record: InstanceRecord, around: Vicinity) -> dict[str, object]:
    key, deployment = record.id, record.id.deployment
    return {
        "machine": str(MachineId(key, record.generation)),
        "version": VERSION,
        "service": deployment.service,
        "slot": deployment.slot,
        "role": key.role,
        "instance": key.name,
        "ordinal": key.ordinal,
        "generation": record.generation,
        "upgrade_domain": domain_of(key.ordinal, around.domains),
        "dip": record.dip,
        "vip": around.vip,
        "settings": _settings(record, around),
        "local_storage": _mounts(record.machine, DiskKind.LOCAL),
        "volumes": _mounts(record.machine, DiskKind.VOLUME),
    }


def _settings(record: InstanceRecord, around: Vicinity) -> dict[str, str]:
    """The settings of this instance; a variable that has no value any more is empty: nobody is there to be asked."""
    if not any("{{" in value for _key, value in around.settings):
        return dict(around.settings)
    found = template.values(record, around)
    return {key: template.lenient(value, found) for key, value in around.settings}


def _mounts(machine: MachineSpec, kind: DiskKind) -> Mapping[str, str]:
    is_windows = machine.platform.os == WINDOWS
    disks = [disk for disk in machine.disks if disk.kind is kind]
    return {disk.name: windows_path(disk.mount) if is_windows else disk.mount for disk in disks}


def _revision(told: Mapping[str, object], around: Vicinity) -> str:
    return _digest(json.dumps([told, around.peers.digest], sort_keys=True))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def informed(cases: Sequence[Case], world: World) -> list[Case]:
    """A deployment's cases with what each is to be told of it as it is now."""
    if not cases:
        return []
    ready = {case.record.id for case in cases if case.is_offered(world)}
    shared = peers(cases[0].deployment.service.roles, cases[0].around.members, ready)
    return [replace(case, around=_around(case, shared)) for case in cases]


def _around(case: Case, shared: Peers) -> Vicinity:
    if case.role is None:
        return replace(case.around, peers=shared)
    return replace(case.around, peers=shared, settings=case.role.setup.settings, domains=case.role.upgrade.domains)


def is_untold(case: Case, world: World) -> bool:
    """Whether its guest can be told, and has another file than it should have.

    Not one that is on its way out, that has failed, or in which nobody can be asked.
    """
    record, guest = case.record, guest_of(case, world)
    if case.role is None or case.role.ready.via is Via.NETWORK:
        return False  # nobody in it can be asked
    if record.machine.platform.os == WINDOWS and not guest.setup_done:
        return False  # setup writes the first version, whatever is there
    is_reachable = bool(guest.boot_id) and not guest.frozen and case.power is Power.RUNNING
    is_staying = case.is_wanted and record.farewell is None and record.failure is None
    return is_reachable and is_staying and guest.told != revision(record, case.around)


def tell(case: Case, world: World, now: float) -> tuple[Tell, ...]:
    """The step that gives a guest what it was not told yet; not sooner than it can be told again."""
    if case.role is None or not is_untold(case, world) or now < guest_of(case, world).tell_after:
        return ()
    record = case.record
    text, system = document(record, case.around), record.machine.platform.os
    return (Tell(record.host, case.machine, text, record.dip, case.role.ready, system),)
