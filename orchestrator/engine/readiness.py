"""Whether a guest's services are up, judged from what its service manager printed. Pure.

The probe's text comes from the guest: it is read strictly, and whatever it does not say counts as not up.

systemd: every enabled service that an active target wants runs, or ended well if it is a oneshot, or was kept from
starting by its own condition, or waits for the socket, timer or path that starts it; nothing has failed; no job is
queued. runit: every service in /etc/service has run for a second, and its own check agrees.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.text import line, lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_RUNIT_UP = re.compile(r"ok: run: .*\) [1-9][0-9]*s")
MAX_NAMED = 10  # a guest may claim any number of services; so many are named

# Run by the guest's shell, as it stands. It waits a little for the service manager to settle, then reports.
PROBE = r"""
if [ -d /run/systemd/system ]; then
  echo manager systemd
  state=$(timeout 5 systemctl is-system-running --wait 2>/dev/null)
  echo state "${state:-$(systemctl is-system-running 2>/dev/null)}"
  for job in $(systemctl list-jobs --no-legend --plain 2>/dev/null | awk '{print $2}'); do echo job "$job"; done
  for unit in $(systemctl list-units --type=target --state=active --no-legend --plain 2>/dev/null \
      | awk '{print $1}'); do echo target "$unit"; done
  for unit in $(systemctl list-units --failed --no-legend --plain 2>/dev/null | awk '{print $1}'); do
    echo failed "$unit" $(systemctl show -p Result --value "$unit")
    journalctl -q -o cat -n 3 -u "$unit" 2>/dev/null | sed "s|^|log $unit |"
  done
  systemctl show --no-pager -p Id,Type,ActiveState,SubState,UnitFileState,ConditionResult,Result \
    -p RemainAfterExit,WantedBy,RequiredBy,TriggeredBy,ConditionTimestampMonotonic '*.service'
elif command -v sv >/dev/null 2>&1 && [ -d /etc/service ]; then
  echo manager runit
  report() {
    for dir in /etc/service/*; do
      [ -e "$dir/down" ] || echo sv "${dir##*/}" "$(sv -w 1 check "$dir" 2>&1 | tail -n 1)"
    done
  }
  for try in 1 2 3; do
    all=$(report)
    # A service that ends again and again is up for less than a second at a time.
    echo "$all" | grep -qv 'ok: run:.* [1-9][0-9]*s' || break
    sleep 0.5
  done
  echo "$all"
else
  echo manager none
fi
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a guest's services are like: all settled, which are not up yet and why, which have failed and why."""

    settled: bool
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def judge_services(text: str, named: tuple[str, ...] | None) -> Report:
    """Read the probe's output. ``named``: only these services count; None: every auto-start service."""
    rows = text.splitlines()
    manager = next((row.removeprefix("manager ") for row in rows if row.startswith("manager ")), "none")
    if manager == "systemd":
        return _systemd(rows, named)
    if manager == "runit":
        return _runit(rows, named)
    return Report(settled=False, waiting=("no service manager that is known here (systemd, runit) runs in the guest",))


def _systemd(rows: list[str], named: tuple[str, ...] | None) -> Report:
    units = _units(rows)
    failed = _failed(rows)
    if named is not None:
        return _named(units, failed, {_full(name) for name in named})
    jobs = [row.split()[1] for row in rows if row.startswith("job ") and len(row.split()) > 1]
    targets = {row.split()[1] for row in rows if row.startswith("target ") and len(row.split()) > 1}
    down = {name: why for name, unit in units.items() if (why := _why_down(unit, targets)) and name not in failed}
    state = next((line(row.removeprefix("state ")) for row in rows if row.startswith("state ")), "")
    is_settled = not jobs and state in {"running", "degraded"}
    waiting = [f"{name} ({why})" for name, why in sorted(down.items())] if is_settled else []
    waiting += [f"{line(job)} is queued" for job in jobs]
    if not is_settled and not waiting:
        waiting.append(f"systemd is {state or 'silent'}")
    return Report(is_settled, tuple(waiting[:MAX_NAMED]), tuple(failed.values())[:MAX_NAMED])


def _named(units: Mapping[str, Mapping[str, str]], failed: Mapping[str, str], named: Iterable[str]) -> Report:
    waiting, broken = [], []
    for name in sorted(named):
        unit = units.get(name)
        if name in failed:
            broken.append(failed[name])
        elif unit is None:
            waiting.append(f"{name} (not loaded)")
        elif unit.get("ActiveState") != "active":
            waiting.append(f"{name} ({line(unit.get('ActiveState', 'unknown'))})")
    return Report(settled=True, waiting=tuple(waiting), failed=tuple(broken))


def _full(name: str) -> str:
    return name if "." in name else f"{name}.service"


def _units(rows: list[str]) -> dict[str, dict[str, str]]:
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


def _failed(rows: list[str]) -> dict[str, str]:
    """Failed unit → its name, result and last log lines, as one sentence."""
    found: dict[str, str] = {}
    for row in rows:
        kind, _, rest = row.partition(" ")
        name, _, detail = rest.partition(" ")
        if kind == "failed":
            found[name] = line(f"{name} ({detail or 'failed'})")
        elif kind == "log" and name in found:
            found[name] = line(f"{found[name]}: {detail}" if ": " not in found[name] else f"{found[name]} / {detail}")
    return found


def _why_down(unit: Mapping[str, str], targets: set[str]) -> str:
    """Why a service that should run does not; "" if it does, or need not."""
    wanted_by = set(f"{unit.get('WantedBy', '')} {unit.get('RequiredBy', '')}".split())
    is_auto_start = unit.get("UnitFileState") in {"enabled", "enabled-runtime"} and bool(wanted_by & targets)
    state = unit.get("ActiveState", "")
    if not is_auto_start or state in {"active", "reloading"} or unit.get("TriggeredBy"):
        return ""
    was_asked = unit.get("ConditionTimestampMonotonic", "0") != "0"
    if was_asked and unit.get("ConditionResult") == "no":
        return ""
    if unit.get("Type") == "oneshot" and was_asked and state == "inactive" and unit.get("Result") == "success":
        return ""
    return line(f"{state or 'unknown'}, {unit.get('SubState', '')}" if was_asked else "never started")


def _runit(rows: list[str], named: tuple[str, ...] | None) -> Report:
    services = {
        row.split()[1]: line(row.split(" ", 2)[-1]) for row in rows if row.startswith("sv ") and row[3:].split()
    }
    counted = services if named is None else {name: services.get(name, "not there") for name in named}
    waiting = [f"{line(name)} ({said})" for name, said in sorted(counted.items()) if not _RUNIT_UP.match(said)]
    return Report(settled=True, waiting=tuple(waiting[:MAX_NAMED]))


def auto_started(text: str) -> tuple[str, ...]:
    """The auto-start services that are up, in the probe's output."""
    rows = text.splitlines()
    units = _units(rows)
    enabled = {"enabled", "enabled-runtime"}
    systemd = [n for n, u in units.items() if u.get("UnitFileState") in enabled and u.get("ActiveState") == "active"]
    runit = [line(row.split()[1]) for row in rows if row.startswith("sv ") and _RUNIT_UP.match(row.split(" ", 2)[-1])]
    return tuple(sorted([*systemd, *runit]))


def setup_result(text: str) -> tuple[str, ...] | None:
    """The errors in cloud-init's result.json; () for a good end, None if the text is not a result.

    A setup that did not read our disc has not set the machine up, however content it is with itself.
    """
    try:
        found = json.loads(text)["v1"]
        errors, source = list(found["errors"]), str(found["datasource"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    told = tuple(" / ".join(lines(str(error))) or "an error without words" for error in errors[:MAX_NAMED])
    if not told and "NoCloud" not in source:
        return (f"the guest did not find its answer file (its data source is {line(source)})",)
    return told
