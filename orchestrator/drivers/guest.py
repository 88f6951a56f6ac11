"""Guests, by their agents: how far one is on its way to ready, and commands run in it, the last one too.

A look costs a few cheap calls, and is over within LOOK_S. What takes time is started in one look and collected in a
later one (see ``looks``), so that neither the guest nor we are made slower by it.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.drivers import looks, telling, winguest
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.hurried import Asks, Hurried
from orchestrator.drivers.looks import BOOT_ID, CALL_S, FILE_BYTES, Memory, Outcome, Rounds
from orchestrator.drivers.place import Place
from orchestrator.drivers.winguest import WindowsLooks
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.spec import LINUX, WINDOWS, Via
from orchestrator.model.text import line, lines
from orchestrator.model.world import GuestSeen
from orchestrator.render.disks import grow_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.drivers.looks import Way
    from orchestrator.drivers.ssh import SshWays
    from orchestrator.model.names import MachineId
    from orchestrator.model.record import Act
    from orchestrator.model.secret import Secret, SecretRef
    from orchestrator.model.spec import Disk, Ready
    from orchestrator.ports import Clock, Host

log = logging.getLogger(__name__)

# A command's output goes to files and is read in pieces: an answer of more than 4 MiB is lost on its way, and one of
# more than 10 MiB ends libvirt's channel to the agent for good (measured). The command's words are its arguments.
SPOOL = r"""umask 077; d=$(mktemp -d /tmp/vmrole-exec.XXXXXX) || exit 126
( "$@" ) >"$d/out" 2>"$d/err" </dev/null; code=$?; echo "$d"; exit $code"""
_SPOOL_FOLDER = re.compile(r"/tmp/vmrole-exec\.[A-Za-z0-9]+")  # noqa: S108 - the guest's, made by its mktemp
PIECE_BYTES = 1024 * 1024
GROW_S = 30.0
# The notice, the guest's own hook, the end. Who makes the file does it: asked again, it is on its way already.
# By its path: busybox's shell has a "poweroff" of its own, which only busybox's init understands.
STOP = r"""PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin; umask 022; mkdir -p /run/vmrole
(set -C; echo "$1" >/run/vmrole/stopping) 2>/dev/null || [ ! -e /run/vmrole/stopping ] || exit 0
[ ! -x /etc/vmrole/stopping ] || /etc/vmrole/stopping "$1" </dev/null
/sbin/poweroff || poweroff"""
# A name that ends in a folder of its own, or that systemd takes for an option, is none.
_SERVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9@_.:\\+-]{0,254}")
RESTART = r"""PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin
if [ -d /run/systemd/system ]; then
  systemctl reset-failed -- "$@"
  systemctl restart --no-block -- "$@"
elif [ -d /run/openrc ]; then
  for name in "$@"; do
    rc-service "$name" restart || { rc-service "$name" zap; rc-service "$name" start; }  # one that has crashed
  done
else
  for name in "$@"; do sv restart "/etc/service/$name"; done
fi"""


GLANCE_S = 1.0
LOOK_S = 8.0  # a look at one guest ends by then, however slowly each call is answered
SURE_S, SURE_TRIES, FIRST_TRIES = 0.015, 16, 32
FORGET_S = 120.0  # after so long without a look a machine is gone


@dataclass(frozen=True, slots=True)
class AgentWay:
    """One guest by its agent: what ``looks.Way`` asks for."""

    host: Asks
    domain: str

    def read(self, path: str, *, last_bytes: int = 0, first_bytes: int = FILE_BYTES) -> str:
        return _read(self.host, self.domain, path, last_bytes=last_bytes, first_bytes=first_bytes)

    def start(self, argv: Sequence[str], *, stdin: bytes = b"") -> int:
        return start(self.host, self.domain, argv, stdin=stdin)

    def poll(self, pid: int) -> Outcome | None:
        return poll(self.host, self.domain, pid)

    def is_frozen(self) -> bool:
        """Whether its file systems are frozen: the agent then refuses nearly everything, but not to say so."""
        try:
            return self.host.agent(self.domain, "guest-fsfreeze-status", {}, CALL_S) == "frozen"
        except (AgentRefused, AgentSilent):
            return False


class AgentGuests:
    """Looks at guests, and runs commands in them. ``reveal``: the secret that a reference stands for."""

    def __init__(
        self,
        clock: Clock | None = None,
        place: Place | None = None,
        reveal: Callable[[SecretRef], Secret] | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._place = place or Place()
        self._rounds = Rounds(self._place)
        self._reveal = reveal or no_secret
        self._ssh: SshWays | None = None
        self._memories: dict[str, Memory] = {}
        self._windows = WindowsLooks(self._clock, start, poll)

    def look(
        self,
        host: Host,
        machine: MachineId,
        *,
        dip: str,
        ready: Ready,
        known_boot: str | None,
        system: str = LINUX,
    ) -> GuestSeen:
        if system == WINDOWS:
            return self._windows.look(host, machine.domain, known_boot=known_boot or "", services=ready.services)
        now = self._clock.now()
        memory = self._remembered(machine.domain, now)
        if not memory.lock.acquire(blocking=False):
            return GuestSeen()  # the last look still hangs there
        try:
            if ready.via is Via.NETWORK:
                return self._from_outside(memory, dip, ready, was_ready=known_boot is not None, now=now)
            if ready.via is Via.SSH:
                return self._by_ssh(memory, machine.domain, dip, ready, known_boot)
            return self._by_agent(
                AgentWay(Hurried(host, self._clock, now + LOOK_S), machine.domain), memory, dip, ready, known_boot
            )
        finally:
            memory.lock.release()

    def _remembered(self, domain: str, now: float) -> Memory:
        for name, memory in tuple(self._memories.items()):
            if now - memory.used > FORGET_S and self._memories.pop(name, None) is not None and self._ssh is not None:
                self._ssh.forget(name)
        found = self._memories.setdefault(domain, Memory())
        found.used = now
        return found

    def _from_outside(self, memory: Memory, dip: str, ready: Ready, *, was_ready: bool, now: float) -> GuestSeen:
        """A guest that nobody can be asked in: once its ports answer it is taken as set up."""
        if not was_ready and memory.boot:
            memory.restart("")  # it is to become ready once more
        memory.boot = "ready" if was_ready else ""
        go_on = self._rounds.when_ready if was_ready else self._rounds.until_ready
        report = go_on(memory, None, dip, ready, now)
        is_there = was_ready or memory.streak > 0
        seen = GuestSeen(settled=report.settled, waiting=report.waiting, failed=report.failed, reached=is_there)
        return replace(seen, setup_done=is_there, settled=report.settled and is_there)

    def _by_ssh(self, memory: Memory, domain: str, dip: str, ready: Ready, known_boot: str | None) -> GuestSeen:
        try:
            way = self._ways().way(domain, dip, ready, is_up=known_boot is not None)
            return replace(self._inside(way, memory, dip, ready, known_boot), reached=True)
        except (AgentSilent, AgentRefused) as error:
            return GuestSeen(waiting=(line(error.message),))

    def _ways(self) -> SshWays:
        if self._ssh is None:
            from orchestrator.drivers.ssh import SshWays  # noqa: PLC0415 - takes 0.2 s to load, and few need it

            self._ssh = SshWays(self._place, self._reveal)
        return self._ssh

    def _by_agent(self, way: AgentWay, memory: Memory, dip: str, ready: Ready, known_boot: str | None) -> GuestSeen:
        try:
            return self._inside(way, memory, dip, ready, known_boot)
        except AgentSilent:
            return GuestSeen()
        except AgentRefused as error:
            return GuestSeen(waiting=(line(error.message),), frozen=way.is_frozen())

    def _inside(self, way: Way, memory: Memory, dip: str, ready: Ready, known_boot: str | None) -> GuestSeen:
        seen = self._stage(way, memory, dip, ready, known_boot)
        if not seen.boot_id:
            return seen
        told = telling.told(way, memory, self._clock.now())
        return replace(seen, told=told, tell_after=memory.tell_after, hooks=memory.hooks)

    def _stage(self, way: Way, memory: Memory, dip: str, ready: Ready, known_boot: str | None) -> GuestSeen:
        boot = line(way.read(BOOT_ID))
        if not boot:
            return GuestSeen()
        if boot != memory.boot:
            memory.restart(boot)
        if boot == known_boot:
            report = self._rounds.when_ready(memory, way, dip, ready, self._clock.now())
            if memory.is_odd is None:
                memory.is_odd = looks.is_odd(way, self._clock)
            busy = looks.busy(way, memory)
            return GuestSeen(boot, True, "", (), report.settled, report.waiting, report.failed, busy)
        ran = looks.commands(way)
        errors = looks.setup_errors(way, ran)
        if errors is None:
            return GuestSeen(boot, setup_stage=ran.running or looks.setup_stage(way))
        if errors or ran.failed:
            return GuestSeen(boot, setup_done=True, setup_errors=errors, startup="" if errors else ran.failed)
        return self._services(way, memory, dip, ready)

    def _services(self, way: Way, memory: Memory, dip: str, ready: Ready) -> GuestSeen:
        """The services of a guest that is not ready yet. One that has just been found well is not left for that.

        Neither is one that is asked for the first time in this boot: by then it may have been up for long.
        """
        report, is_first = looks.UNSEEN, not memory.open and memory.last is looks.UNSEEN
        # The guest is asked for the rest while it works on that.
        self._rounds.begin(memory, way, dip, ready, self._clock.now())
        busy, kept = looks.busy(way, memory), looks.has_kept(way)
        for _try in range(FIRST_TRIES if is_first else SURE_TRIES):
            report = self._rounds.until_ready(memory, way, dip, ready, self._clock.now())
            is_left = memory.streak == 0 and not (is_first and memory.last is looks.UNSEEN)
            if report.settled or is_left:
                break
            self._clock.wait(SURE_S)
        return GuestSeen(memory.boot, True, "", (), report.settled, report.waiting, report.failed, busy, kept=kept)

    def tell(self, host: Host, machine: MachineId, text: str, *, dip: str, ready: Ready, system: str = LINUX) -> None:
        if system == WINDOWS:
            self._windows.tell(host, machine.domain, text)
            return
        memory = self._remembered(machine.domain, self._clock.now())
        if ready.via is Via.SSH:
            telling.tell(self._ways().way(machine.domain, dip, ready, is_up=True), memory, text, self._clock)
        elif ready.via is Via.AGENT:
            telling.tell(AgentWay(host, machine.domain), memory, text, self._clock)

    def close(self) -> None:
        for domain in tuple(self._memories) if self._ssh is not None else ():
            self._ways().forget(domain)
        self._place.close()

    def is_busy(self, host: Host, machine: MachineId) -> bool:
        try:
            opened = host.agent(machine.domain, "guest-file-open", {"path": looks.BUSY, "mode": "r"}, GLANCE_S)
        except AgentRefused:  # no such file
            return False
        host.agent(machine.domain, "guest-file-close", {"handle": _integer(opened)}, GLANCE_S)
        return True

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

    def grow(self, host: Host, machine: MachineId, disk: Disk, *, system: str = LINUX) -> None:
        is_windows = system == WINDOWS
        shell, *words = winguest.grow_argv(disk) if is_windows else grow_argv(disk)
        pid = start(host, machine.domain, [shell if is_windows else f"/bin/{shell}", *words])
        most_s = winguest.HUNG_S if is_windows else GROW_S
        deadline = self._clock.now() + most_s
        while (outcome := poll(host, machine.domain, pid)) is None:
            if self._clock.now() >= deadline:
                raise AgentSilent(f"{machine.domain} is still enlarging disk {disk.name} after {most_s:.0f} s")
            self._clock.wait(0.1)
        if outcome.code:
            said = lines(outcome.stderr[-FILE_BYTES:].decode(errors="replace")) or (f"exit code {outcome.code}",)
            # PowerShell says first what was wrong, and then where in its script.
            raise AgentRefused(f"{machine.domain} cannot enlarge disk {disk.name}: {said[0 if is_windows else -1]}")

    def restart(self, host: Host, machine: MachineId, services: tuple[str, ...], *, system: str = LINUX) -> None:
        names = [name for name in services if _SERVICE_NAME.fullmatch(name)]
        if not names:
            return
        script: dict[str, object] = {"path": "/bin/sh", "arg": ["-c", RESTART, "vmrole-restart", *names]}
        if system == WINDOWS:
            given = base64.b64encode("\n".join(names).encode()).decode()
            script = {"path": winguest.POWERSHELL, "arg": list(winguest.RESTART_ARGV[1:]), "input-data": given}
        try:
            host.agent(machine.domain, "guest-exec", {**script, "capture-output": False}, CALL_S)
        except AgentRefused as error:
            log.info("%s does not restart %s: %s", machine.domain, ", ".join(names), error.message)


def no_secret(secret: SecretRef) -> Secret:
    """For whoever looks at guests that need none."""
    raise AgentRefused(f"the secret {secret.source} cannot be had here")


def _power_down(host: Host, machine: MachineId) -> None:
    """Ask the agent to shut the guest down by its own means: it has no answer for the case that it does."""
    try:
        host.agent(machine.domain, "guest-shutdown", {"mode": "powerdown"}, CALL_S)
    except AgentSilent:
        pass
    except AgentRefused:
        host.shut_down(machine)


def start(host: Asks, domain: str, argv: Sequence[str], *, stdin: bytes = b"") -> int:
    """Start a command in a guest and return its process id there. Raises AgentSilent, AgentRefused."""
    arguments: dict[str, object] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    if stdin:
        arguments["input-data"] = base64.b64encode(stdin).decode()
    return _integer(_dict(host.agent(domain, "guest-exec", arguments, CALL_S)).get("pid"))


def poll(host: Asks, domain: str, pid: int) -> Outcome | None:
    """What a command that was started left when it ended; None while it runs. Raises AgentSilent, AgentRefused."""
    status = _dict(host.agent(domain, "guest-exec-status", {"pid": pid}, CALL_S))
    if not status.get("exited"):
        return None
    signal = status.get("signal")
    code = 128 + _integer(signal) if signal is not None else _integer(status.get("exitcode", -1))
    return Outcome(code, _bytes(status.get("out-data", "")), _bytes(status.get("err-data", "")))


def execute(host: Asks, domain: str, argv: Sequence[str], *, clock: Clock, on_wait: Callable[[float], None]) -> Outcome:
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


def _read_all(host: Asks, domain: str, path: str) -> bytes:
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


def _read(host: Asks, domain: str, path: str, *, last_bytes: int, first_bytes: int) -> str:
    """A small text file of the guest, its beginning or its end. Raises AgentRefused when it is not there."""
    handle = _integer(host.agent(domain, "guest-file-open", {"path": path, "mode": "r"}, CALL_S))
    try:
        if last_bytes:
            _seek_to_end(host, domain, handle, last_bytes)
        answer = _dict(host.agent(domain, "guest-file-read", {"handle": handle, "count": first_bytes}, CALL_S))
    finally:
        host.agent(domain, "guest-file-close", {"handle": handle}, CALL_S)
    return _bytes(answer.get("buf-b64", "")).decode(errors="replace")


def _seek_to_end(host: Asks, domain: str, handle: int, last_bytes: int) -> None:
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
