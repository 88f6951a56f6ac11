"""Giving a guest its runtime file: whole or not at all, and then whoever in it wants to know is told.

The hooks run in the guest, apart from what we asked for: one that hangs keeps nobody waiting, and is ended there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.drivers.looks import FILE_BYTES, Outcome
from orchestrator.engine import runtime
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.text import lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.drivers.looks import Memory, Way
    from orchestrator.ports import Clock

AGAIN_S = 1.0  # neighbours may flap: a guest is told of them no more often than this
REFUSED_S = 5.0
TELL_S = 20.0
PIECE_BYTES = 48 * 1024  # more than 128 KiB, as the agent is sent it, does not come whole (measured)
POLL_S = 0.02
HEAD_BYTES = 256  # the revision is in the file's first line

# The newest version counts: who waits for another's hooks to end finds them run for it already, or runs them.
HOOKS = r"""PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; umask 022; cd /
export PATH HOME="${HOME:-/root}"
logs=/var/lib/vmrole/on-change
mkdir -p /run/vmrole $logs && chmod 700 $logs && exec 9>/run/vmrole/on-change.lock || exit
flock 9
now=$(head -n 2 /etc/vmrole/runtime.json)
[ "$(cat /run/vmrole/on-change.done 2>/dev/null)" != "$now" ] || exit 0
printf '%s\n' "$now" >/run/vmrole/on-change.done
bad=/run/vmrole/on-change.failed; : >$bad.new
for hook in /etc/vmrole/on-change.d/*; do
    [ -f "$hook" ] && [ -x "$hook" ] || continue
    log=$logs/${hook##*/}
    timeout -k 5 60 "$hook" /etc/vmrole/runtime.json </dev/null >"$log.out" 2>&1 9>&-
    code=$?; echo $code >"$log.code"
    [ $code -eq 0 ] || echo "$code ${hook##*/}" >>$bad.new
    [ "$(wc -c <"$log.out")" -le 262144 ] || { tail -c 262144 "$log.out" >"$log.cut" && mv -f "$log.cut" "$log.out"; }
done
mv -f $bad.new $bad"""
FAILED = "/run/vmrole/on-change.failed"
HOOKS_S = 90.0  # so long after a new version its hooks' end is looked for
# What is too much for one call comes in pieces before. They are of one call after the other, and the whole is counted.
BRING = r"""PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin; umask 077
come=/etc/vmrole/.come; mkdir -p /etc/vmrole || exit
[ "$1" != first ] || : >$come || exit
cat >>$come"""
# Both files come one after the other by stdin. busybox's head reads more than it prints, so not two heads on a pipe.
TELL = r"""PATH=$PATH:/usr/sbin:/sbin:/usr/bin:/bin; umask 022
file=/etc/vmrole/runtime.json settings=/etc/vmrole/settings.json new=/etc/vmrole/.new.$$ come=/etc/vmrole/.come
trap 'rm -f $new $new.1 $new.2 $come' EXIT
mkdir -p /etc/vmrole && { [ "$5" != more ] || cat $come; cat; } >$new || exit
[ "$(wc -c <$new)" -eq $(($2 + $3)) ] || { echo "what was sent has not come whole" >&2; exit 1; }
! head -n 2 $file 2>/dev/null | grep -qF "\"revision\": \"$1\"" || [ ! -e $settings ] || exit 0
head -c "$2" $new >$new.1 && tail -c "$3" $new >$new.2 && chmod 644 $new.1 && chmod 600 $new.2 || exit
mv -f $new.2 $settings && mv -f $new.1 $file || exit
for hook in /etc/vmrole/on-change.d/*; do
    [ -f "$hook" ] && [ -x "$hook" ] || continue
    setsid sh -c "$4" vmrole-on-change </dev/null >/dev/null 2>&1 &
    break
done"""


def told(way: Way, memory: Memory, now: float) -> str:
    """The revision of the guest's runtime file; asked anew after a moment, and once it was told.

    What became of its hooks is asked for with it, for a while after each other version.
    """
    if now - memory.told_at >= AGAIN_S:
        before, memory.told_at = memory.told, now
        memory.told = runtime.read_revision(_read(way, runtime.LINUX_PATH, HEAD_BYTES))
        if memory.told != before:
            memory.hooks_until = now + HOOKS_S
        if now < memory.hooks_until:
            memory.hooks = runtime.failed_hooks(_read(way, FAILED, FILE_BYTES))
    return memory.told


def _read(way: Way, path: str, first_bytes: int) -> str:
    try:
        return way.read(path, first_bytes=first_bytes)
    except AgentRefused:  # no such file
        return ""


def tell(way: Way, memory: Memory, text: str, clock: Clock) -> None:
    """Write the file, and start the hooks. Raises AgentSilent, AgentRefused."""
    memory.tell_after = clock.now() + REFUSED_S
    settings = runtime.settings(text)
    words = [runtime.read_revision(text), str(len(text.encode())), str(len(settings.encode())), HOOKS]
    content = (text + settings).encode()
    *before, last = [content[begin : begin + PIECE_BYTES] for begin in range(0, len(content), PIECE_BYTES)]
    for number, piece in enumerate(before):
        _run(way, [BRING, "vmrole-bring", "more" if number else "first"], piece, clock)
    _run(way, [TELL, "vmrole-tell", *words, "more" if before else ""], last, clock)
    memory.told, memory.told_at = words[0], clock.now()
    memory.hooks_until = clock.now() + HOOKS_S
    memory.tell_after = clock.now() + AGAIN_S


def _run(way: Way, words: Sequence[str], stdin: bytes, clock: Clock) -> None:
    outcome = _ended(way, way.start(["/bin/sh", "-c", *words], stdin=stdin), clock)
    if outcome.code:
        said = lines(outcome.stderr[-FILE_BYTES:].decode(errors="replace")) or (f"exit code {outcome.code}",)
        raise AgentRefused(f"the guest's {runtime.LINUX_PATH} cannot be written: {said[-1]}")


def _ended(way: Way, pid: int, clock: Clock) -> Outcome:
    deadline = clock.now() + TELL_S
    while (outcome := way.poll(pid)) is None:
        if clock.now() >= deadline:
            raise AgentSilent(f"the guest is still writing {runtime.LINUX_PATH} after {TELL_S:.0f} s")
        clock.wait(POLL_S)
    return outcome
