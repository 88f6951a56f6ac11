"""Whether a guest's services are up, judged from what its service manager printed. Pure.

The probe's text comes from the guest: it is read strictly, and whatever it does not say counts as not up.

systemd: see ``engine.systemd``. OpenRC: every service of the runlevels that were gone through is started. runit: every
service in /etc/service has run for a second (for five, if it has been seen to be started again), and its own check
agrees.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from orchestrator.engine import systemd
from orchestrator.engine.systemd import FLAPPING_S, MAX_NAMED, Report
from orchestrator.model.text import line, lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# ``sv NAME AGE START CHECK STATE``: hundredths of a second that it has run, those of the boot when it was started, how
# its own check ended; "-" for each if it does not run.
_RUNIT = re.compile(r"sv (\S+) (-?[0-9]{1,12}|-) ([0-9]{1,12}|-) ([0-9]{1,3}|-) (.*)")
_RUNIT_S = 1.0
_OPENRC = re.compile(r" *(\S+) +\[ +(\S+)(.*) +\]")  # `` sshd      [  started 00:12:03 (0) ]``
MAX_ROWS = 20_000  # of all that a guest printed, so many lines are read

# Run by the guest's shell, as it stands. It waits a little for the service manager to settle, then reports; told to
# "glance" (at a guest that has been ready) it reports at once. A unit's log is quoted where it may explain something:
# no more of it than fits into an agent's answer, however long its lines are.
# Its further words: how often at most it is to look (of runit, while all is well), and the services that count.
PROBE = r"""
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
quote() { head -c 8192 | while IFS= read -r text; do printf 'log %s %s\n' "$1" "$text"; done; }
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
  tries=3 left=${2:-1} known=''
  [ "$1" != glance ] || tries=1
  [ $# -lt 2 ] || shift 2
  named=" $* "
  while :; do
    echo round
    # What sv says has whole seconds only. One program reads for all: this shell takes each byte by itself, and a small
    # guest is slow at starting many. What ran a moment ago is known.
    new=''
    for file in /etc/service/*/supervise/pid; do
      pid=''
      { read -r pid <"$file"; } 2>/dev/null
      case "$known " in *" $pid:"*) ;; *) [ -z "$pid" ] || new="$new /proc/$pid/stat" ;; esac
    done
    if [ -n "$new" ]; then
      set -f
      all=$(cat $new 2>/dev/null)
      IFS='
'
      for stat in $all; do
        unset IFS
        set -- ${stat##*) }
        known="$known ${stat%% *}:$2:${20}"
      done
      unset IFS
      set +f
    fi
    read -r up rest </proc/uptime
    odd='' pause=0
    for dir in /etc/service/*; do
      [ -d "$dir" ] && [ ! -e "$dir/down" ] || continue
      name=${dir##*/} state='' pid='' age=- start=- code=-
      { read -r state <"$dir/supervise/stat"; read -r pid <"$dir/supervise/pid"; } 2>/dev/null
      of=${known#*" ${pid:-none}:"}
      # The files may be an earlier boot's, but runsv stands in the folder of the service that it has started.
      if [ "$of" != "$known" ] && [ "/proc/${of%%:*}/cwd" -ef "$dir" ]; then
        of=${of%% *}
        start=${of#*:} age=$((${up%.*}${up#*.} - ${of#*:})) code=0
        [ ! -x "$dir/check" ] || (cd "$dir" && exec ./check) </dev/null >/dev/null 2>&1 || code=$?
      fi
      echo "sv $name $age $start $code ${state:-not supervised}"
      wait=50
      case $state,$age,$code in
      run*,[0-9],0 | run*,[0-9][0-9],0) wait=$((101 - age)) ;;
      run*,[0-9]*,0) continue ;;
      esac
      case $named in "  " | *" $name "*) ;; *) continue ;; esac
      odd="$odd $name"
      [ "$pause" -ge "$wait" ] || pause=$wait
    done
    if [ -z "$odd" ]; then
      left=$((left - 1))
      [ "$left" -gt 0 ] || break
    else
      tries=$((tries - 1))
      [ "$tries" -gt 0 ] || break
      sleep "$((pause / 100)).$(printf %02d $((pause % 100)))"
    fi
  done
  for name in $odd; do
    for log in "/etc/service/$name/log/main/current" "/var/log/$name/current" "/var/log/sv/$name/current"; do
      [ ! -r "$log" ] || tail -n 3 "$log" | quote "$name"
    done
  done
else
  echo manager none
fi
"""


def judge_services(
    text: str,
    named: tuple[str, ...] | None,
    *,
    was_ready: bool = False,
    starts: Mapping[str, int] = MappingProxyType({}),
    restarts: systemd.Counts = MappingProxyType({}),
) -> Report:
    """Read the probe's output. ``named``: only these services count; None: every auto-start service.

    ``was_ready``: it is a later look, to which what the manager has queued does not matter. ``starts``: of this boot,
    what ``first_starts`` of the texts before said; ``restarts``: what ``recent_restarts`` has made of all of them.
    """
    rows = text.splitlines()[:MAX_ROWS]
    manager = next((row.removeprefix("manager ") for row in rows if row.startswith("manager ")), "none")
    if manager == "systemd":
        return systemd.judged(rows, named, restarts, was_ready=was_ready)
    if manager == "openrc":
        return _openrc(rows, named)
    if manager == "runit":
        return _runit(rows, named, {**first_starts(text), **starts})
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


def _runit(rows: Sequence[str], named: tuple[str, ...] | None, starts: Mapping[str, int]) -> Report:
    """What the last round found; ``rounds``: how many at the end were good."""
    quoted = systemd.quotes(rows)
    found = [_round(part, named, starts, quoted) for part in _rounds(rows)]
    bad = [number for number, waiting in enumerate(found) if waiting]
    good = len(found) - 1 - bad[-1] if bad else len(found)
    return Report(settled=True, waiting=found[-1][:MAX_NAMED], rounds=good)


def _rounds(rows: Sequence[str]) -> Sequence[Mapping[str, _Service]]:
    """Each round's services. There is one at least, if an empty one."""
    parts: list[dict[str, _Service]] = [{}]
    for row in rows:
        if row == "round" and parts[-1]:
            parts.append({})
        elif found := _RUNIT.fullmatch(row):
            name, age, start, check, state = found.groups()
            parts[-1][name] = _Service(
                line(state), *(None if value == "-" else int(value) for value in (age, start, check))
            )
    return parts


def _round(
    services: Mapping[str, _Service],
    named: tuple[str, ...] | None,
    starts: Mapping[str, int],
    quoted: Mapping[str, Sequence[str]],
) -> tuple[str, ...]:
    counted = sorted(services) if named is None else sorted(named)
    why = {name: _why_down(services.get(name), starts.get(name)) for name in counted}
    return tuple(systemd.sentence(name, said, quoted) for name, said in why.items() if said)


@dataclass(frozen=True, slots=True)
class _Service:
    """One of runit's. ``age``, ``start``: hundredths of a second. All but ``state`` are None if it does not run."""

    state: str
    age: int | None
    start: int | None
    check: int | None


def _why_down(service: _Service | None, first: int | None) -> str:
    """Why one of runit's services is not up; "" if it is. ``first``: when in this boot it was first started."""
    if service is None:
        return "not there"
    is_meant = service.state.startswith("run") and "paused" not in service.state and "want down" not in service.state
    if service.age is None or not is_meant:
        return "not supervised" if is_meant else service.state or "down"
    lasted_s = max(0.0, service.age / 100)
    if first is not None and service.start != first and lasted_s < FLAPPING_S:
        return f"started again, {lasted_s:.1f} s ago"
    if lasted_s < _RUNIT_S:
        return f"started {lasted_s:.1f} s ago"
    return f"its check ended with {service.check}" if service.check else ""


def first_starts(text: str) -> dict[str, int]:
    """When each of runit's services was first seen to be started, in hundredths of a second of the guest's boot."""
    starts: dict[str, int] = {}
    for part in _rounds(text.splitlines()[:MAX_ROWS]):
        for name, service in part.items():
            if service.start is not None:
                starts.setdefault(name, service.start)
    return starts


def recent_restarts(text: str, before: systemd.Counts) -> systemd.Counts:
    """How often systemd has restarted units of late, after this look."""
    return systemd.restarts(text.splitlines()[:MAX_ROWS], before)


def auto_started(text: str) -> tuple[str, ...]:
    """The auto-start services that are up, in the probe's output."""
    rows = text.splitlines()[:MAX_ROWS]
    runit = [line(name) for name, service in _rounds(rows)[-1].items() if not _why_down(service, None)]
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
