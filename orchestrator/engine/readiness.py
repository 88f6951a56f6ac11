"""Whether a guest's services are up, judged from what its service manager printed. Pure.

The probe's text comes from the guest: it is read strictly, and whatever it does not say counts as not up.

systemd: see ``engine.systemd``. OpenRC: every service of the runlevels that were gone through is started. runit: every
service in /etc/service has run for a second, and its own check agrees.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from orchestrator.engine import systemd
from orchestrator.engine.systemd import MAX_NAMED, Report
from orchestrator.model.text import line, lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_RUNIT_UP = re.compile(r"ok: run: .*\) [1-9][0-9]*s")
_OPENRC = re.compile(r" *(\S+) +\[ +(\S+)(.*) +\]")  # `` sshd      [  started 00:12:03 (0) ]``
MAX_ROWS = 20_000  # of all that a guest printed, so many lines are read

# Run by the guest's shell, as it stands. It waits a little for the service manager to settle, then reports; told to
# "glance" (at a guest that has been ready) it reports at once. A unit's log is quoted where it may explain something.
PROBE = r"""
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
quote() { while IFS= read -r text; do printf 'log %s %s\n' "$1" "$text"; done; }
if [ -d /run/systemd/system ]; then
  echo manager systemd
  state=
  [ "$1" = glance ] || state=$(timeout 5 systemctl is-system-running --wait 2>/dev/null)
  echo state "${state:-$(systemctl is-system-running 2>/dev/null)}"
  read -r up rest </proc/uptime && echo uptime "$up"
  systemctl list-jobs --no-legend --plain 2>/dev/null | awk '{print "job", $2, $3, $4}'
  # Without --all what is inactive is left out of what a pattern matches.
  units=$(systemctl show --all --no-pager -p Id,Names,Type,LoadState,ActiveState,SubState,UnitFileState \
    -p ConditionResult,AssertResult,Result,RemainAfterExit,WantedBy,RequiredBy,UpheldBy,TriggeredBy,NRestarts \
    -p ConditionTimestampMonotonic,ActiveEnterTimestampMonotonic \
    '*.service' '*.socket' '*.timer' '*.mount' '*.automount' '*.path' '*.swap')
  systemctl list-units --type=target --state=active --no-legend --plain 2>/dev/null | awk '{print "target", $1}'
  odd=$(systemctl list-units --failed --no-legend --plain 2>/dev/null | awk '{print $1}')
  for unit in $odd; do echo failed "$unit" "$(systemctl show -p Result --value "$unit")"; done
  odd="$odd $(echo "$units" | awk 'BEGIN {RS = ""} {
    id = $0; sub(/^(.*\n)?Id=/, "", id); sub(/\n.*/, "", id)
    if (/\nActiveState=(activating|deactivating)/ || /^ActiveState=(activating|deactivating)/) print id
    else if (/ActiveState=inactive/ && /UnitFileState=enabled/ && /ConditionResult=yes/ && !/Type=oneshot/ \
      && !/TriggeredBy=[a-z]/) print id
    else if (/NRestarts=[1-9]/) print id
  }')"
  set -f
  set -- $odd
  while [ $# -gt 0 ] && [ "${quoted:-0}" -lt 6 ]; do
    journalctl -q -b -o cat -n 3 -u "$1" 2>/dev/null | quote "$1"
    quoted=$((${quoted:-0} + 1))
    shift
  done
  echo "$units"
elif command -v rc-status >/dev/null 2>&1 && [ -d /run/openrc ]; then
  echo manager openrc
  [ ! -e /run/openrc/rc.starting ] || echo state starting
  for level in sysinit boot "$(rc-status -C -r 2>/dev/null || rc-status -r)"; do
    rc-status -C "$level" 2>/dev/null || rc-status "$level"
  done
  rc-status -C --crashed 2>/dev/null | sed 's|^ *|crashed |'
  for name in $(rc-status -C --crashed 2>/dev/null | head -n 3); do
    grep -h -w -- "$name" /var/log/rc.log /var/log/messages /var/log/syslog 2>/dev/null | tail -n 3 | quote "$name"
  done
elif command -v sv >/dev/null 2>&1 && [ -d /etc/service ]; then
  echo manager runit
  tries="1 2 3"; [ "$1" != glance ] || tries=1
  set --
  for dir in /etc/service/*; do [ -e "$dir/down" ] || set -- "$@" "$dir"; done
  report() {
    # All of them by one program; what their own checks print is among it. A small guest is slow at starting more.
    sv -w 1 check "$@" 2>&1 | while IFS= read -r text; do
      name=${text#*: /etc/service/}
      [ "$name" != "$text" ] || continue
      echo sv "${name%%:*}" "$text"
      case $text in "ok: run:"*") "[1-9]*s*) ;; *) echo odd "${name%%:*}" ;; esac
    done
  }
  for try in $tries; do
    all=$(report "$@")
    # A service that ends again and again is up for less than a second at a time.
    case "
$all" in *"
odd "*) ;; *) break ;; esac
    [ "$tries" = 1 ] || sleep 0.5
  done
  echo "$all"
  case "
$all" in *"
odd "*) ;; *) exit 0 ;; esac
  echo "$all" | while read -r kind name rest; do
    [ "$kind" = odd ] || continue
    for log in "/etc/service/$name/log/main/current" "/var/log/$name/current" "/var/log/sv/$name/current"; do
      [ ! -r "$log" ] || tail -n 3 "$log" | quote "$name"
    done
  done
else
  echo manager none
fi
"""


def judge_services(text: str, named: tuple[str, ...] | None, *, was_ready: bool = False) -> Report:
    """Read the probe's output. ``named``: only these services count; None: every auto-start service.

    ``was_ready``: it is a later look, to which what the manager has queued does not matter.
    """
    rows = text.splitlines()[:MAX_ROWS]
    manager = next((row.removeprefix("manager ") for row in rows if row.startswith("manager ")), "none")
    if manager == "systemd":
        return systemd.judged(rows, named, was_ready=was_ready)
    if manager == "openrc":
        return _openrc(rows, named)
    if manager == "runit":
        return _runit(rows, named)
    known = "systemd, OpenRC, runit"
    return Report(settled=False, waiting=(f"no service manager that is known here ({known}) runs in the guest",))


def _openrc(rows: Sequence[str], named: tuple[str, ...] | None) -> Report:
    states = {found.group(1): found.group(2) for row in rows if (found := _OPENRC.fullmatch(row))}
    crashed = {line(row.removeprefix("crashed ")) for row in rows if row.startswith("crashed ")} - {""}
    crashed |= {name for name, state in states.items() if state == "crashed"}
    counted = set(named) if named is not None else {*states, *crashed}
    said = systemd.quotes(rows)
    down = {name: states.get(name, "not there") for name in sorted(counted - crashed)}
    waiting = [f"{line(name)} ({line(state)})" for name, state in down.items() if state != "started"]
    failed = [systemd.sentence(name, "crashed", said) for name in sorted(crashed & counted)]
    is_settled = bool(states) and "state starting" not in rows
    if not is_settled and not waiting:
        waiting.append("OpenRC is still starting" if states else "OpenRC names no services")
    return Report(is_settled, tuple(waiting[:MAX_NAMED]), tuple(failed[:MAX_NAMED]))


def _runit(rows: Sequence[str], named: tuple[str, ...] | None) -> Report:
    services = _sv(rows)
    counted = services if named is None else {name: services.get(name, "not there") for name in named}
    quoted = systemd.quotes(rows)
    waiting = [
        systemd.sentence(name, said, quoted) for name, said in sorted(counted.items()) if not _RUNIT_UP.match(said)
    ]
    return Report(settled=True, waiting=tuple(waiting[:MAX_NAMED]))


def _sv(rows: Sequence[str]) -> Mapping[str, str]:
    return {row.split()[1]: line(row.split(" ", 2)[-1]) for row in rows if row.startswith("sv ") and row[3:].split()}


def auto_started(text: str) -> tuple[str, ...]:
    """The auto-start services that are up, in the probe's output."""
    rows = text.splitlines()[:MAX_ROWS]
    runit = [line(name) for name, said in _sv(rows).items() if _RUNIT_UP.match(said)]
    openrc = [found.group(1) for row in rows if (found := _OPENRC.fullmatch(row)) and found.group(2) == "started"]
    return tuple(sorted([*systemd.auto_started(rows), *runit, *map(line, openrc)]))


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
