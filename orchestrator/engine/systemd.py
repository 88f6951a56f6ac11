"""Whether the units of a guest's systemd are up, judged from what the probe printed. Pure.

Every unit that an active target wants (enabled, generated, or static and pulled in by its package) is active; or it
is a oneshot that ended well and keeps no state; or its own condition kept it from starting; or it waits for the
socket, timer or path that starts it. No unit of any kind has failed, and no job is queued.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.model.text import line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Unit = Mapping[str, str]
    Counts = Mapping[str, Sequence[tuple[float, int]]]  # unit → (seconds since the boot, restarts until then), by time

MAX_NAMED = 10  # a guest may claim any number of services; so many are named
MAX_QUOTED = 3
FLAPPING_S = 5.0  # a service that was restarted counts as up once it has lasted so long
FLAPS, FLAPS_S = 3, 120.0  # one that systemd itself restarts so often within that time is not up in between either
AUTO_START = {"enabled", "enabled-runtime", "generated", "static", "indirect", "alias"}
KINDS = {"service", "socket", "timer", "mount", "automount", "path", "swap", "target", "device", "slice", "scope"}
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Report:
    """What a guest's services are like: all settled, which are not up yet and why, which have failed and why.

    ``rounds``: of how many answers in a row that is the sum, if it is good.
    """

    settled: bool
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class _Printed:
    """The probe's output, taken apart. ``uptime_s``: seconds since the guest's boot.

    ``recent``: how often units were restarted within FLAPS_S, as far as that was watched.
    """

    units: Mapping[str, Unit]
    targets: frozenset[str]
    failed: Mapping[str, str]
    logs: Mapping[str, Sequence[str]]
    jobs: Sequence[str]
    state: str
    uptime_s: float
    recent: Mapping[str, int] = field(default_factory=dict)


def judged(
    rows: Sequence[str], named: tuple[str, ...] | None, counts: Counts = MappingProxyType({}), *, was_ready: bool
) -> Report:
    """``named``: only these units count. ``was_ready``: what is queued now does not matter to a guest in service.

    ``counts``: what ``restarts`` has made of this look and those before.
    """
    seen = replace(_printed(rows), recent={name: own[-1][1] - own[0][1] for name, own in counts.items()})
    if named is not None:
        return _named(seen, {_full(name) for name in named})
    failed = [sentence(name, why, seen.logs) for name, why in seen.failed.items()]
    down = {
        name: why for name, unit in seen.units.items() if name not in seen.failed and (why := _why_down(unit, seen))
    }
    is_settled = was_ready or (not seen.jobs and seen.state in {"running", "degraded"})
    waiting = [] if is_settled else [f"{line(job)} is queued" for job in seen.jobs]
    is_telling = is_settled or not waiting
    waiting += [sentence(name, why, seen.logs) for name, why in sorted(down.items()) if is_telling or _is_telling(why)]
    if not is_settled and not waiting:
        waiting.append(f"systemd is {seen.state or 'silent'}")
    return Report(is_settled, tuple(waiting[:MAX_NAMED]), tuple(failed[:MAX_NAMED]))


def restarts(rows: Sequence[str], before: Counts) -> dict[str, tuple[tuple[float, int], ...]]:
    """How often systemd has restarted each unit by itself, as the looks of the last FLAPS_S found it.

    It counts anew when somebody starts or restarts a unit: what was before is over then.
    """
    if not any(row.startswith("NRestarts=") and row != "NRestarts=0" for row in rows):
        return {}
    seen, found = _printed(rows), {}
    for name, unit in seen.units.items():
        if count := _restarts(unit):
            known = [one for one in before.get(name, ()) if seen.uptime_s - one[0] <= FLAPS_S and one[1] <= count]
            kept = known if known and known[-1][1] == count else [*known, (seen.uptime_s, count)]
            found[name] = tuple(kept)
    return found


def sentence(name: str, why: str, logs: Mapping[str, Sequence[str]]) -> str:
    """A unit, why it is not up, and the last that it has said."""
    said = " / ".join(logs.get(name, ())[-MAX_QUOTED:])
    return line(f"{name} ({why}): {said}" if said else f"{name} ({why})")


def quotes(rows: Sequence[str]) -> dict[str, list[str]]:
    """The ``log NAME TEXT`` rows, by name."""
    found: dict[str, list[str]] = {}
    for row in rows:
        kind, _, rest = row.partition(" ")
        name, _, text = rest.partition(" ")
        if kind == "log" and line(text):
            found.setdefault(name, []).append(line(text))
    return found


def auto_started(rows: Sequence[str]) -> list[str]:
    """The enabled services that are up."""
    enabled = {"enabled", "enabled-runtime"}
    return [
        name
        for name, unit in _blocks(rows).items()
        if name.endswith(".service") and unit.get("UnitFileState") in enabled and unit.get("ActiveState") == "active"
    ]


def _printed(rows: Sequence[str]) -> _Printed:
    words = [row.split(" ", 2) for row in rows if row.startswith(("job ", "target ", "failed ", "state ", "uptime "))]
    told = [(kind, rest[0], rest[1] if len(rest) > 1 else "") for kind, *rest in words if rest]
    uptime = next((value for kind, value, _ in told if kind == "uptime" and _NUMBER.fullmatch(value)), "inf")
    return _Printed(
        _blocks(rows),
        frozenset(name for kind, name, _ in told if kind == "target"),
        {name: why or "failed" for kind, name, why in told if kind == "failed" and name},
        quotes(rows),
        [name for kind, name, _ in told if kind == "job" and name],
        next((line(name) for kind, name, _ in told if kind == "state"), ""),
        float(uptime),
    )


def _blocks(rows: Sequence[str]) -> dict[str, dict[str, str]]:
    """The ``Key=Value`` blocks of ``systemctl show``, by Id."""
    units: dict[str, dict[str, str]] = {}
    block: dict[str, str] = {}
    for row in [*rows, ""]:
        key, equals, value = row.partition("=")
        if equals and " " not in key:
            block[key] = value
        elif not row.strip() and block:
            units[line(block.get("Id", ""))] = block
            block = {}
    return units


def _named(seen: _Printed, named: Iterable[str]) -> Report:
    by_name = {name: unit for unit in seen.units.values() for name in unit.get("Names", "").split()}
    waiting, broken = [], []
    for name in sorted(named):
        if name in seen.targets:
            continue
        unit = seen.units.get(name) or by_name.get(name)
        own = unit.get("Id", name) if unit is not None else name
        if own in seen.failed or name in seen.failed:
            broken.append(sentence(name, seen.failed.get(own) or seen.failed[name], seen.logs))
        elif why := _why_not_active(unit, seen):
            waiting.append(line(f"{name} ({why})") if own != name else sentence(name, why, seen.logs))
    return Report(settled=True, waiting=tuple(waiting[:MAX_NAMED]), failed=tuple(broken[:MAX_NAMED]))


def _full(name: str) -> str:
    """A unit's whole name, as systemctl completes it."""
    return name if name.rpartition(".")[2] in KINDS else f"{name}.service"


def _why_not_active(unit: Unit | None, seen: _Printed) -> str:
    """Why a unit that the role names is not up: it has to be active, whatever else would be well by itself."""
    if unit is None:
        return "not loaded"
    if unit.get("LoadState", "loaded") != "loaded":
        return line(unit["LoadState"])
    if unit.get("ActiveState") == "active":
        return _flapping(unit, seen)
    return _state(unit)


def _why_down(unit: Unit, seen: _Printed) -> str:
    """Why a unit that should be up is not; "" if it is, or need not be."""
    if not _is_auto_start(unit, seen.targets) or unit.get("TriggeredBy"):
        return ""
    state, was_asked = unit.get("ActiveState", ""), unit.get("ConditionTimestampMonotonic", "0") != "0"
    if state in {"active", "reloading", "refreshing"}:
        return _flapping(unit, seen)
    if not was_asked:
        return "never started"
    if unit.get("ConditionResult") == "no":
        return ""
    if unit.get("AssertResult") == "no":
        return "its assertion does not hold"
    is_done = state == "inactive" and unit.get("Result") == "success" and unit.get("RemainAfterExit") != "yes"
    return "" if unit.get("Type") == "oneshot" and is_done else _state(unit)


def _is_auto_start(unit: Unit, targets: frozenset[str]) -> bool:
    wanted_by = " ".join(unit.get(key, "") for key in ("WantedBy", "RequiredBy", "UpheldBy"))
    is_loaded = unit.get("LoadState", "loaded") == "loaded"
    state = unit.get("UnitFileState")
    # What mounts only when it is looked at, and comes with the system, is nobody's service.
    is_on = state in AUTO_START and not (state == "static" and unit.get("Id", "").endswith(".automount"))
    return is_loaded and is_on and bool(set(wanted_by.split()) & targets)


def _flapping(unit: Unit, seen: _Printed) -> str:
    """Why a service that is active now may not be a moment later: it has been restarted, and only just."""
    entered = unit.get("ActiveEnterTimestampMonotonic", "")
    lasted_s = seen.uptime_s - float(entered) / 1e6 if _NUMBER.fullmatch(entered) else FLAPPING_S
    count, recent = _restarts(unit), seen.recent.get(unit.get("Id", ""), 0)
    if _is_new(count, lasted_s):
        return f"restarted {count} times, the last time {max(0.0, lasted_s):.0f} s ago"
    return f"restarted {count} times, {recent} of them in the last {FLAPS_S:.0f} s" if recent >= FLAPS else ""


def _is_new(count: int, lasted_s: float) -> bool:
    return count > 0 and lasted_s < FLAPPING_S


def _restarts(unit: Unit) -> int:
    count = unit.get("NRestarts", "0")
    return int(count) if count.isascii() and count.isdigit() and len(count) < 10 else 0


def _state(unit: Unit) -> str:
    state = f"{unit.get('ActiveState') or 'unknown'}, {unit.get('SubState', '')}"
    count = _restarts(unit)
    return line(f"{state}, restarted {count} times" if count else state)


def _is_telling(why: str) -> bool:
    """Whether it may be why the manager does not settle: a unit that starts, not one that waits for that."""
    return why.startswith(("activating", "restarted"))
