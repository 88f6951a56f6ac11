"""What a Linux guest runs for its setup: a script that cloud-init calls at every boot, in its last stage.

POSIX sh, for busybox as well. A command of the first boot is begun once in a generation, also when it reboots the
machine itself; the next one goes on after that boot. Then those of every boot, then the start-up tasks, one after
another; the first that fails ends it. What each printed, and its exit code, stay in the guest below FOLDER; how far it
is stands in a file that the host reads (engine/startup.py): setup's own commands fail setup, and cloud-init says so;
those of every boot fail this boot only.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from orchestrator.model.setup import When
from orchestrator.render.disks import own_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.model.names import MachineId
    from orchestrator.model.setup import Command, Setup
    from orchestrator.model.spec import Disk

FOLDER = "/var/lib/vmrole/setup"
NAME_LENGTH = 60
ORDER = (When.FIRST_BOOT, When.EVERY_BOOT, When.START_UP)

# What is run is the calls below it, so that every value is a word of its own, never a part of the text.
FUNCTIONS = r"""
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=${HOME:-/root}
export PATH HOME
umask 022
cd /

state() { # LINE...: whole or not at all
    printf '%s\n' "$@" >/run/vmrole/setup.new && mv -f /run/vmrole/setup.new /run/vmrole/setup
}

uptime_s() {
    read -r up _ </proc/uptime
    echo "${up%%.*}"
}

# An image may have been made of a machine that had such a script: this one is only for its own.
begin() { # INSTANCE-ID
    read -r now </var/lib/cloud/data/instance-id 2>/dev/null
    [ "$now" = "$1" ] || exit 0
    folder=/var/lib/vmrole/setup/$1
    mkdir -p /run/vmrole "$folder" && chmod 700 /var/lib/vmrole/setup || exit 1
    [ ! -s /run/vmrole/disks.failed ] || { cat /run/vmrole/disks.failed >&2; exit 1; }
}

failed() { # WHEN NAME
    said=$(tail -c 2000 "$file.out" 2>/dev/null | tail -n 5 | tr -d '\000' | sed 's/^/out /')
    read -r code <"$file.code" || code=1
    state "failed $1 $code $2" "$said"
    echo "$2: exit code $code: $(tail -n 1 "$file.out" 2>/dev/null)" >&2
    [ "$1" != first_boot ] || exit 1
    exit 0
}

# Run WORD... for LIMIT seconds at most; its output is capped once it has ended, as it may leave a service behind.
run() { # WHEN LIMIT NAME WORD...
    when=$1 limit=$2 name=$3
    shift 3
    if [ "$when" = first_boot ] && [ -e "$file.begun" ]; then
        read -r code <"$file.code" 2>/dev/null || code=0 # it rebooted the machine
        [ "$code" = 0 ] || failed "$when" "$name"
        return
    fi
    state "running $when 0 $name"
    rm -f "$file.code"
    : >"$file.begun"
    [ "$when" != first_boot ] || sync
    begun=$(uptime_s)
    timeout -k 10 "$limit" "$@" </dev/null >"$file.out" 2>&1
    code=$?
    case $code in 124 | 137 | 143) [ $(($(uptime_s) - begun)) -lt "$limit" ] || code=timeout ;; esac
    echo "$code" >"$file.code"
    if [ "$(wc -c <"$file.out")" -gt 262144 ]; then
        tail -c 262144 "$file.out" >"$file.cut" && mv -f "$file.cut" "$file.out"
    fi
    cat "$file.out"
    [ "$code" = 0 ] || failed "$when" "$name"
}

words() { # NUMBER WHEN LIMIT NAME WORD...
    file=$folder/$1
    shift
    run "$@"
}

text() { # NUMBER WHEN LIMIT NAME TEXT: a shell line, or a script that names its own interpreter
    file=$folder/$1
    printf '%s\n' "$5" >"$file.script"
    chmod 700 "$file.script"
    case $5 in
    '#!'*) run "$2" "$3" "$4" "$file.script" ;;
    *) run "$2" "$3" "$4" sh "$file.script" ;;
    esac
}
"""


def script(machine: MachineId, setup: Setup, disks: tuple[Disk, ...]) -> str:
    """The whole of it for one machine; "" if there is nothing to run."""
    calls = [*_disks(disks), *_calls(setup)]
    if not calls:
        return ""
    lines = [["begin", str(machine)], *calls, ["state", "finished"]]
    return "#!/bin/sh\n" + FUNCTIONS + "\n" + "\n".join(map(shlex.join, lines)) + "\n"


def _disks(disks: tuple[Disk, ...]) -> Iterator[list[str]]:
    if disks:
        yield ["words", "000-first_boot", When.FIRST_BOOT.value, "600", "the disks", *own_argv(disks)]


def _calls(setup: Setup) -> Iterator[list[str]]:
    ordered = sorted(setup.commands, key=lambda command: ORDER.index(command.when))
    for number, command in enumerate(ordered, start=1):
        kind = "text" if isinstance(command.words, str) else "words"
        words = [command.words] if isinstance(command.words, str) else list(command.words)
        limit = str(max(1, round(command.timeout_s)))
        yield [kind, f"{number:03}-{command.when.value}", command.when.value, limit, name(command), *words]


def name(command: Command) -> str:
    """How messages speak of a command: its name, or how its line begins."""
    line = command.name or (command.words if isinstance(command.words, str) else shlex.join(command.words))
    said = " ".join("".join(char if char.isprintable() else " " for char in line).split())
    return said if len(said) <= NAME_LENGTH else f"{said[: NAME_LENGTH - 1]}…"
