"""What a look at a guest is made of: rounds of questions, asked now and answered later, and what is remembered of them.

A round asks everything once: the service manager, each command of the role's own, each port. The questions run side by
side, in the guest or in threads; a look starts them or collects what has come, and never waits for one that hangs. One
round of a machine is under way at any time. All of this is in memory only, and lost without harm.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from orchestrator.drivers import netprobe
from orchestrator.engine import startup
from orchestrator.engine.readiness import PROBE, first_starts, judge_services, recent_restarts, setup_result
from orchestrator.engine.systemd import Report
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.text import line, lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.drivers.place import Place
    from orchestrator.engine.systemd import Counts
    from orchestrator.model.spec import Probe, Ready
    from orchestrator.ports import Clock

CALL_S = 5.0
FILE_BYTES = 64 * 1024
PROBE_BYTES = 1024 * 1024
STUCK_S = 30.0  # a round takes as long as its slowest question; after this it is told as what it is
BOOT_ID = "/proc/sys/kernel/random/boot_id"
BUSY = "/run/vmrole/busy"
NO_REASON = "no reason given"
# The agent opens what there is: a folder, but no link that leads nowhere, and it reads neither.
ODD = f"[ ! -f {BUSY} ] && {{ [ -e {BUSY} ] || [ -L {BUSY} ]; }}"
ODD_S, POLL_S = 1.0, 0.02
KEPT = "/var/lib/cloud/seed/nocloud/meta-data"
RESULT = "/run/cloud-init/result.json"
STATUS = "/run/cloud-init/status.json"
OUTPUT = "/var/log/cloud-init-output.log"
UNSEEN = Report(settled=False)
LOOK = f"if {ODD}; then echo busy odd; fi{PROBE}"
# The words of a role's own probe are its arguments; it is ended in the guest when its time is over. What it prints goes
# through a file: the agent waits for whatever it left running to close its output, and 10 MiB of it end the channel.
LIMITED = r"""limit=$1; shift; umask 077; said=$(mktemp /tmp/vmrole-probe.XXXXXX) || said=/dev/null
timeout -s KILL "$limit" "$@" >"$said" 2>&1 </dev/null; code=$?
tail -c 4096 "$said"; [ "$said" = /dev/null ] || rm -f "$said"; exit $code"""
_KILLED = {124, 137}
# Lines in OUTPUT of cloud-init's own, and of ssh-keygen, which it calls.
_ITS_OWN = re.compile(
    r"Cloud-init v\. |[0-9-]{10} [0-9:,]{12} - [a-z_]+\.py\[|ci-info: |Generating public/private |The key('s|) "
    r"(?:fingerprint|randomart)|Your (?:identification|public key) has been saved|SHA256:\S+ |\+--+\[|\|.{17}\|$"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A command that ended in a guest. ``code``: its exit code, or 128 + n if signal n ended it."""

    code: int
    stdout: bytes
    stderr: bytes


class Way(Protocol):
    """A way into one guest. Every method may raise AgentSilent and AgentRefused."""

    def read(self, path: str, *, last_bytes: int = 0, first_bytes: int = FILE_BYTES) -> str:
        """A small text file, its beginning or its end. Raises AgentRefused when it is not there."""

    def start(self, argv: Sequence[str], *, stdin: bytes = b"") -> int:
        """Start a command; the number to ask for its outcome by."""

    def poll(self, pid: int) -> Outcome | None:
        """What a command left when it ended; None while it runs."""


Question = Callable[[Way | None], Report | None]  # its answer, None until that has come


@dataclass
class Memory:
    """What is remembered of one machine: the round under way, what the last whole one found, how many were good.

    ``starts``: when each of its services was first seen to be started, in this boot; ``restarts``: how often systemd
    has restarted them of late. ``is_odd``: something that is no file, and so cannot be read, says that it is busy;
    None: not known yet.
    ``told``: the revision of its runtime file, as it was at ``told_at``; it is told of another after ``tell_after``.
    ``hooks``: which of its programs for a change ended badly, looked for until ``hooks_until``.
    """

    boot: str = ""
    open: list[Question] = field(default_factory=list)
    found: list[Report] = field(default_factory=list)
    begun: float = -math.inf
    last: Report = UNSEEN
    streak: int = 0
    starts: dict[str, int] = field(default_factory=dict)
    restarts: Counts = field(default_factory=dict)
    is_odd: bool | None = None
    used: float = 0.0
    told: str = ""
    told_at: float = -math.inf
    tell_after: float = 0.0
    hooks: str = ""
    hooks_until: float = -math.inf
    lock: threading.Lock = field(default_factory=threading.Lock)

    def restart(self, boot: str) -> None:
        """Another kernel runs: whatever was asked of the old one has no answer."""
        self.boot, self.open, self.found, self.begun = boot, [], [], -math.inf
        self.last, self.streak, self.starts, self.restarts, self.is_odd = UNSEEN, 0, {}, {}, None
        self.told, self.told_at, self.hooks = "", -math.inf, ""

    def begin(self, questions: list[Question], now: float) -> None:
        self.open, self.found, self.begun = questions, [], now

    def collect(self, way: Way | None) -> bool:
        """Take the answers that have come; whether the round is whole."""
        for question in tuple(self.open):
            answer = _answer(question, way)
            if answer is not None:
                self.open.remove(question)
                self.found.append(answer)
        if self.open:
            return False
        self.last = _joined(self.found)
        self.streak = self.streak + self.last.rounds if is_good(self.last) else 0
        return True


def _answer(question: Question, way: Way | None) -> Report | None:
    try:
        return question(way)
    except AgentRefused as error:  # the agent was started anew, and knows nothing of the command any more
        return Report(settled=False, waiting=(line(error.message),))


def _joined(found: Sequence[Report]) -> Report:
    return Report(
        bool(found) and all(report.settled for report in found),
        tuple(text for report in found for text in report.waiting),
        tuple(text for report in found for text in report.failed),
        min((report.rounds for report in found), default=0),
    )


def is_good(report: Report) -> bool:
    return report.settled and not report.waiting and not report.failed


class Rounds:
    """Asks rounds of questions. ``place``: where those about the network are asked from."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def begin(self, memory: Memory, way: Way | None, dip: str, ready: Ready, now: float) -> None:
        """Ask a guest that is not ready yet, unless it has been asked and has not answered."""
        if not memory.open:
            memory.begin(self._questions(memory, way, dip, ready, was_ready=False), now)

    def until_ready(self, memory: Memory, way: Way | None, dip: str, ready: Ready, now: float) -> Report:
        """One round after the other. Settled only once enough of them in a row were good, or one found what is bad."""
        self.begin(memory, way, dip, ready, now)
        is_whole = memory.collect(way)
        if is_whole and is_good(memory.last) and memory.streak < ready.successes:
            # Sure of it at once, instead of a look later.
            self.begin(memory, way, dip, ready, now)
            is_whole = memory.collect(way)
        if not is_whole:
            return Report(settled=False, waiting=_still(memory, now) or memory.last.waiting)
        is_sure = not is_good(memory.last) or memory.streak >= ready.successes
        return memory.last if is_sure else UNSEEN

    def when_ready(self, memory: Memory, way: Way | None, dip: str, ready: Ready, now: float) -> Report:
        """A round each interval; what the last whole one found. Not settled until there was one."""
        if not memory.open and now - memory.begun >= ready.interval_s:
            memory.begin(self._questions(memory, way, dip, ready, was_ready=True), now)
        if memory.open:
            memory.collect(way)
        stuck = _still(memory, now)
        return Report(settled=True, waiting=stuck, failed=memory.last.failed) if stuck else memory.last

    def _questions(self, memory: Memory, way: Way | None, dip: str, ready: Ready, *, was_ready: bool) -> list[Question]:
        inside = [probe for probe in ready.probes if probe.kind == "exec"]
        asked = [self._network(dip, probe) for probe in ready.probes if probe.kind != "exec"]
        if way is None:
            return asked
        # Where nothing but the services is asked for, all the answers that it takes come of one question.
        times = 1 if was_ready or ready.probes else max(1, ready.successes - memory.streak)
        return [
            _services(memory, way, ready, times, was_ready=was_ready),
            *(_exec(way, probe) for probe in inside),
            *asked,
        ]

    def _network(self, dip: str, probe: Probe) -> Question:
        future = self._place.ask(lambda: netprobe.probe(dip, probe))

        def question(_way: Way | None) -> Report | None:
            if not future.done():
                return None
            error = future.exception()
            why = line(f"it could not be taken: {error}") if error is not None else future.result()
            return _verdict(probe, why)

        return question


def _services(memory: Memory, way: Way, ready: Ready, times: int, *, was_ready: bool) -> Question:
    mode = "glance" if was_ready else "settle"
    pid = way.start(["/bin/sh", "-c", LOOK, "vmrole-look", mode, str(times), *(ready.services or ())])

    def question(way: Way | None) -> Report | None:
        outcome = way.poll(pid) if way is not None else None
        if outcome is None:
            return None
        text = outcome.stdout[:PROBE_BYTES].decode(errors="replace")
        memory.restarts = recent_restarts(text, memory.restarts)
        seen = memory.starts, memory.restarts
        report = judge_services(text, ready.services, was_ready=was_ready, starts=seen[0], restarts=seen[1])
        memory.starts = {**first_starts(text), **memory.starts}
        memory.is_odd = text.startswith("busy odd\n")
        return report

    return question


def _exec(way: Way, probe: Probe) -> Question:
    words = ("/bin/sh", "-c", probe.words) if isinstance(probe.words, str) else probe.words
    pid = way.start(["/bin/sh", "-c", LIMITED, "vmrole-probe", f"{math.ceil(probe.timeout_s)}", *words])

    def question(way: Way | None) -> Report | None:
        outcome = way.poll(pid) if way is not None else None
        return None if outcome is None else _verdict(probe, _why_bad(outcome, probe))

    return question


def _why_bad(outcome: Outcome, probe: Probe) -> str:
    if outcome.code == 0:
        return ""
    if outcome.code in _KILLED:
        return f"not done within {probe.timeout_s:g} s"
    said = lines((outcome.stdout + b"\n" + outcome.stderr)[-FILE_BYTES:].decode(errors="replace"))
    return line(f"exit code {outcome.code}: {' / '.join(said[-3:])}" if said else f"exit code {outcome.code}")


def _verdict(probe: Probe, why: str) -> Report:
    return Report(settled=True, waiting=(line(f"{probe.name}: {why}"),) if why else ())


def _still(memory: Memory, now: float) -> tuple[str, ...]:
    is_stuck = bool(memory.open) and now - memory.begun > STUCK_S
    return (f"what was asked {now - memory.begun:.0f} s ago has no answer yet",) if is_stuck else ()


def has_kept(way: Way) -> bool:
    """Whether the guest has its own copy of the answer file, so that the disc can go."""
    try:
        return bool(way.read(KEPT))
    except AgentRefused:  # no such file
        return False


def commands(way: Way) -> startup.Progress:
    """How far setup's commands are; nothing before the first one began, or where there are none."""
    try:
        return startup.progress(way.read(startup.STATE))
    except AgentRefused:  # no such file
        return startup.Progress()


def setup_errors(way: Way, ran: startup.Progress) -> tuple[str, ...] | None:
    """What went wrong in setup, with the last that it printed; () if nothing did, None until it has ended."""
    try:
        errors = setup_result(way.read(RESULT))
    except AgentRefused:  # no such file
        return None
    if not errors:
        return errors
    return (*errors, *((ran.failed,) if ran.failed else _last_words(way)))


def _last_words(way: Way) -> tuple[str, ...]:
    """What setup's commands printed last: cloud-init's own errors often only say that there was one."""
    try:
        said = [text for text in lines(way.read(OUTPUT, last_bytes=2048)) if not _ITS_OWN.match(text)]
    except (AgentRefused, AgentSilent):
        return ()
    return (f"its last output: {' / '.join(said[-3:])}",) if said else ()


def setup_stage(way: Way) -> str:
    """The stage that cloud-init says it is in; "" before it says anything."""
    try:
        stage = json.loads(way.read(STATUS))["v1"]["stage"]
    except (AgentRefused, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return line(str(stage)) if stage else ""


def busy(way: Way, memory: Memory) -> str:
    """Why the code in the guest wants to be out of rotation now; "" if it does not."""
    try:
        said = lines(way.read(BUSY))
    except AgentRefused:  # no such file, or none that can be read
        return NO_REASON if memory.is_odd else ""
    return said[0] if said else NO_REASON


def is_odd(way: Way, clock: Clock) -> bool:
    """Whether what says that a guest is busy is no file: for whoever has not asked for its services yet."""
    pid = way.start(["/bin/sh", "-c", ODD, "vmrole-busy"])
    deadline = clock.now() + ODD_S
    while (outcome := way.poll(pid)) is None and clock.now() < deadline:
        clock.wait(POLL_S)
    return outcome is not None and outcome.code == 0
