"""Guests, by their agents: how far one is on its way to ready, and commands run in it, the last one too.

A look costs a few cheap calls. The services are judged by one probe that runs inside the guest and waits there for
its service manager to settle, so the guest is not made slower by being watched; the probe under way is remembered
here, and lost without harm when this process ends.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING

from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.winguest import Command, WindowsLooks
from orchestrator.engine.readiness import PROBE, Report, judge_services, setup_result
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.spec import LINUX, WINDOWS
from orchestrator.model.text import line, lines
from orchestrator.model.world import GuestSeen
from orchestrator.render.disks import grow_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.model.names import MachineId
    from orchestrator.model.record import Act
    from orchestrator.model.spec import Disk
    from orchestrator.ports import Clock, Host

CALL_S = 5.0
BOOT_ID = "/proc/sys/kernel/random/boot_id"
RESULT = "/run/cloud-init/result.json"
STATUS = "/run/cloud-init/status.json"
OUTPUT = "/var/log/cloud-init-output.log"
# A command's output goes to files and is read in pieces: an answer of more than 4 MiB is lost on its way, and one of
# more than 10 MiB ends libvirt's channel to the agent for good (measured). The command's words are its arguments.
SPOOL = r"""umask 077; d=$(mktemp -d /tmp/vmrole-exec.XXXXXX) || exit 126
( "$@" ) >"$d/out" 2>"$d/err" </dev/null; code=$?; echo "$d"; exit $code"""
_SPOOL_FOLDER = re.compile(r"/tmp/vmrole-exec\.[A-Za-z0-9]+")  # noqa: S108 - the guest's, made by its mktemp
_ITS_OWN = re.compile(r"Cloud-init v\. |[0-9-]{10} [0-9:,]{12} - [a-z_]+\.py\[")  # cloud-init's own lines in OUTPUT
PIECE_BYTES = 1024 * 1024
FILE_BYTES = 64 * 1024
GROW_S = 30.0
# The notice, the guest's own hook, the end. Who makes the file does it: asked again, it is on its way already.
# By its path: busybox's shell has a "poweroff" of its own, which only busybox's init understands.
STOP = r"""PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin; umask 022; mkdir -p /run/vmrole
(set -C; echo "$1" >/run/vmrole/stopping) 2>/dev/null || [ ! -e /run/vmrole/stopping ] || exit 0
[ ! -x /etc/vmrole/stopping ] || /etc/vmrole/stopping "$1" </dev/null
/sbin/poweroff || poweroff"""
PROBE_BYTES = 1024 * 1024


# A command that ended in a guest. Its code: its exit code, or 128 + n if signal n ended it.
Outcome = Command


class AgentGuests:
    """Looks at guests, and runs commands in them."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._windows = WindowsLooks(self._clock, start, poll)
        self._probes: dict[str, tuple[str, int]] = {}  # domain → (boot, process in the guest)
        self._reports: dict[str, tuple[str, Report]] = {}  # domain → (boot, what its last probe found)

    def look(
        self,
        host: Host,
        machine: MachineId,
        *,
        known_boot: str,
        services: tuple[str, ...] | None,
        system: str = LINUX,
    ) -> GuestSeen:
        if system == WINDOWS:
            return self._windows.look(host, machine.domain, known_boot=known_boot, services=services)
        try:
            boot = line(_read(host, machine.domain, BOOT_ID))
            if not boot or boot == known_boot:
                return GuestSeen(boot)
            return self._far(host, machine.domain, boot, services)
        except AgentSilent:
            return GuestSeen()
        except AgentRefused as error:
            return GuestSeen(waiting=(str(error),))

    def _far(self, host: Host, domain: str, boot: str, services: tuple[str, ...] | None) -> GuestSeen:
        try:
            errors = setup_result(_read(host, domain, RESULT))
        except AgentRefused:  # no such file: setup has not ended
            errors = None
        if errors is None:
            return GuestSeen(boot, setup_stage=_setup_stage(host, domain))
        if errors:
            return GuestSeen(boot, setup_done=True, setup_errors=(*errors, *_last_words(host, domain)))
        report = self._probe(host, domain, boot, services)
        return GuestSeen(boot, True, "", (), report.settled, report.waiting, report.failed)

    def _probe(self, host: Host, domain: str, boot: str, services: tuple[str, ...] | None) -> Report:
        """Start a probe, or collect the one under way; until it ends, what the last one found, but not as settled."""
        known = self._reports.get(domain, ("", Report(settled=False)))
        last = known[1] if known[0] == boot else Report(settled=False)
        running = self._probes.get(domain)
        if running is None or running[0] != boot:
            self._probes[domain] = (boot, start(host, domain, ["/bin/sh", "-c", PROBE]))
            return Report(settled=False, waiting=last.waiting)
        outcome = poll(host, domain, running[1])
        if outcome is None:
            return Report(settled=False, waiting=last.waiting)
        del self._probes[domain]
        report = judge_services(outcome.stdout[:PROBE_BYTES].decode(errors="replace"), services)
        self._reports[domain] = (boot, report)
        return report

    def shut_down(self, host: Host, machine: MachineId, act: Act) -> None:
        """By what there is: our script, else (Windows, guest-exec disabled) the agent's own way, else the power button.

        Only one of them in each call: a second one would cut short what the first gives time for.
        """
        script = {"path": "/bin/sh", "arg": ["-c", STOP, "vmrole-stop", act.value], "capture-output": False}
        try:
            host.agent(machine.domain, "guest-exec", script, CALL_S)
        except AgentSilent:
            host.shut_down(machine)
        except AgentRefused:
            _power_down(host, machine)

    def grow(self, host: Host, machine: MachineId, disk: Disk) -> None:
        shell, *words = grow_argv(disk)
        pid = start(host, machine.domain, [f"/bin/{shell}", *words])
        deadline = self._clock.now() + GROW_S
        while (outcome := poll(host, machine.domain, pid)) is None:
            if self._clock.now() >= deadline:
                raise AgentSilent(f"{machine.domain} is still enlarging disk {disk.name} after {GROW_S:.0f} s")
            self._clock.wait(0.1)
        if outcome.code:
            said = lines(outcome.stderr[-FILE_BYTES:].decode(errors="replace")) or (f"exit code {outcome.code}",)
            raise AgentRefused(f"{machine.domain} cannot enlarge disk {disk.name}: {said[-1]}")


def _power_down(host: Host, machine: MachineId) -> None:
    """Ask the agent to shut the guest down by its own means: it has no answer for the case that it does."""
    try:
        host.agent(machine.domain, "guest-shutdown", {"mode": "powerdown"}, CALL_S)
    except AgentSilent:
        pass
    except AgentRefused:
        host.shut_down(machine)


def start(host: Host, domain: str, argv: Sequence[str], *, stdin: bytes = b"") -> int:
    """Start a command in a guest and return its process id there. Raises AgentSilent, AgentRefused."""
    arguments: dict[str, object] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if stdin:
        arguments["input-data"] = base64.b64encode(stdin).decode()
    return _integer(_dict(host.agent(domain, "guest-exec", arguments, CALL_S)).get("pid"))


def poll(host: Host, domain: str, pid: int) -> Outcome | None:
    """What a command that was started left when it ended; None while it runs. Raises AgentSilent, AgentRefused."""
    status = _dict(host.agent(domain, "guest-exec-status", {"pid": pid}, CALL_S))
    if not status.get("exited"):
        return None
    signal = status.get("signal")
    code = 128 + _integer(signal) if signal is not None else _integer(status.get("exitcode", -1))
    return Outcome(code, _bytes(status.get("out-data", "")), _bytes(status.get("err-data", "")))


def execute(host: Host, domain: str, argv: Sequence[str], *, clock: Clock, on_wait: Callable[[float], None]) -> Outcome:
    """Run a command in a guest to its end; ``on_wait`` is told the seconds so far, again and again."""
    begun = clock.now()
    pid = start(host, domain, ["/bin/sh", "-c", SPOOL, "vmrole", *argv])
    pause = 0.02
    while (outcome := poll(host, domain, pid)) is None:
        on_wait(clock.now() - begun)
        clock.wait(pause)
        pause = min(0.5, pause * 1.5)
    folder = outcome.stdout.decode(errors="replace").strip()
    if not _SPOOL_FOLDER.fullmatch(folder):
        return outcome
    try:
        return Outcome(outcome.code, _read_all(host, domain, f"{folder}/out"), _read_all(host, domain, f"{folder}/err"))
    finally:
        start(host, domain, ["/bin/rm", "-rf", folder])


def _read_all(host: Host, domain: str, path: str) -> bytes:
    """A file of any size, in pieces that the agent's channel carries."""
    handle = _integer(host.agent(domain, "guest-file-open", {"path": path, "mode": "r"}, CALL_S))
    parts = []
    try:
        while not (answer := _dict(host.agent(domain, "guest-file-read", _piece(handle), CALL_S))).get("eof"):
            parts.append(_bytes(answer.get("buf-b64", "")))
        parts.append(_bytes(answer.get("buf-b64", "")))
    finally:
        host.agent(domain, "guest-file-close", {"handle": handle}, CALL_S)
    return b"".join(parts)


def _piece(handle: int) -> dict[str, object]:
    return {"handle": handle, "count": PIECE_BYTES}


def _last_words(host: Host, domain: str) -> tuple[str, ...]:
    """What setup's commands printed last: cloud-init's own errors often only say that there was one."""
    try:
        said = [text for text in lines(_read(host, domain, OUTPUT, last_bytes=2048)) if not _ITS_OWN.match(text)]
    except (AgentRefused, AgentSilent):
        return ()
    return (f"its last output: {' / '.join(said[-3:])}",) if said else ()


def _setup_stage(host: Host, domain: str) -> str:
    """The stage that cloud-init says it is in; "" before it says anything."""
    try:
        stage = json.loads(_read(host, domain, STATUS))["v1"]["stage"]
    except (AgentRefused, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return line(str(stage)) if stage else ""


def _read(host: Host, domain: str, path: str, *, last_bytes: int = 0) -> str:
    """A small text file of the guest, or its end. Raises AgentRefused when it is not there."""
    handle = _integer(host.agent(domain, "guest-file-open", {"path": path, "mode": "r"}, CALL_S))
    try:
        if last_bytes:
            _seek_to_end(host, domain, handle, last_bytes)
        answer = _dict(host.agent(domain, "guest-file-read", {"handle": handle, "count": FILE_BYTES}, CALL_S))
    finally:
        host.agent(domain, "guest-file-close", {"handle": handle}, CALL_S)
    return _bytes(answer.get("buf-b64", "")).decode(errors="replace")


def _seek_to_end(host: Host, domain: str, handle: int, last_bytes: int) -> None:
    """Stand ``last_bytes`` before a file's end, or at its beginning if it is shorter."""
    end: dict[str, object] = {"handle": handle, "offset": 0, "whence": 2}
    size = _integer(_dict(host.agent(domain, "guest-file-seek", end, CALL_S)).get("position"))
    start: dict[str, object] = {"handle": handle, "offset": max(0, size - last_bytes), "whence": 0}
    host.agent(domain, "guest-file-seek", start, CALL_S)


def _dict(answer: object) -> dict[str, object]:
    if not isinstance(answer, dict):
        raise AgentRefused("the guest agent answered with something that is not an object")
    return answer


def _integer(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise AgentRefused("the guest agent answered with something that is not a number")
    return value


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except binascii.Error as error:
        raise AgentRefused("the guest agent answered with something that is not base64") from error
