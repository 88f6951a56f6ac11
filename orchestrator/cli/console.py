"""`vmrole console` and `logs`: what a machine printed on its serial console, and what its services have logged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from orchestrator.cli.deployments import slot_option
from orchestrator.cli.instance import ask, find_instance, parse_instance
from orchestrator.errors import AgentRefused, AgentSilent, UserError
from orchestrator.model.names import MachineId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.cli.context import Context
    from orchestrator.model.names import InstanceId
    from orchestrator.wiring import Wiring

FOLLOW_S = 0.5
MAX_LINES = 10_000
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@_.:-]{0,254}")
# The journal, else log files as with runit and OpenRC. $1: how many lines, $2: of which service, "" of all.
LOGS = r"""
LC_ALL=C; export LC_ALL; PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
if [ -d /run/systemd/system ]; then
  if [ -n "$2" ]; then exec journalctl -q --no-pager -o short-iso -n "$1" -u "$2"; fi
  exec journalctl -q --no-pager -o short-iso -b -n "$1"
fi
set -f
if [ -n "$2" ]; then
  places="/etc/service/$2/log/main/current /var/log/$2/current /var/log/sv/$2/current /var/log/$2.log"
else
  places="/var/log/syslog /var/log/messages /var/log/cloud-init-output.log"
fi
for log in $places; do
  [ ! -r "$log" ] || exec tail -n "$1" "$log"
done
echo "there is no log here: looked for $places" >&2
exit 1
"""


lines_option = click.option(
    "-n", "--lines", "count", type=click.IntRange(1, MAX_LINES), default=50, show_default=True, help="Lines, at most."
)


@click.command()
@click.argument("instance")
@slot_option
@lines_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what it prints, until Ctrl-C.")
@click.pass_obj
def console(context: Context, instance: str, slot: str, count: int, follow: bool) -> None:
    """Show the last lines of INSTANCE's serial console: also of a machine that does not boot.

    They are what the host keeps of it (the last 16 KiB), made safe to print. Nothing can be typed.

    \b
    Example:
      vmrole console hello/web-0 -f
    """
    from orchestrator.wiring import wired

    key = parse_instance(instance, slot)
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        seen = _printed(wiring, key)
        _print(seen[-count:])
        if not seen:
            click.echo(f"{key.words} has printed nothing yet", err=True)
        shown = seen
        while follow:
            wiring.clock.wait(FOLLOW_S)
            before, seen = seen, _printed(wiring, key)
            whole = seen if seen == before else seen[:-1]  # the last one may not be at its end yet
            _print(fresh(shown, whole))
            shown = whole or shown


def _printed(wiring: Wiring, key: InstanceId) -> tuple[str, ...]:
    record = find_instance(wiring, key)
    return wiring.hosts[record.host].console(MachineId(record.id, record.generation), last=MAX_LINES)


def _print(rows: Sequence[str]) -> None:
    for row in rows:
        click.echo(row)


def fresh(before: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """What has come since ``before``, in a window on the end of something that only grows; all if nothing is known."""
    for start in range(len(before)):
        kept = len(before) - start
        if list(before[start:]) == list(now[:kept]):
            return now[kept:]
    return () if list(now) == list(before[: len(now)]) else now


@click.command()
@click.argument("instance")
@slot_option
@lines_option
@click.option("-u", "--unit", default="", metavar="SERVICE", help="Only what this service or unit has logged.")
@click.pass_context
def logs(ctx: click.Context, instance: str, slot: str, count: int, unit: str) -> int:
    """Show what INSTANCE has logged in this boot: its journal, or the log files of a guest without systemd.

    Goes through the guest agent. A unit's log is told with that of earlier boots.

    \b
    Example:
      vmrole logs hello/web-0 -u nginx -n 100
    """
    from orchestrator.model.text import lines
    from orchestrator.wiring import wired

    context: Context = ctx.obj
    key = parse_instance(instance, slot)
    if unit and not _UNIT.fullmatch(unit):
        raise UserError(f"{unit!r} does not name a service", "say it as the guest does, like nginx or nginx.service")
    with wired(context.home, context.connect, context.cache_dir, lambda _text: None) as wiring:
        record = find_instance(wiring, key)
        machine = MachineId(record.id, record.generation)
        words = ("/bin/sh", "-c", LOGS, "vmrole-logs", str(count), unit)
        try:
            done = ask(wiring.hosts[record.host], key, machine.domain, words, wiring.clock)
        except (AgentSilent, AgentRefused) as error:
            hint = f"`vmrole console {key.words}` shows its console, for which nobody in the guest is asked"
            raise type(error)(error.message, hint) from error
    _print(lines(done.stdout.decode(errors="replace")))
    for row in lines(done.stderr.decode(errors="replace")):
        click.echo(row, err=True)
    return done.code
