"""Windows guests, by QEMU's agent for Windows: one PowerShell that is started in one look and collected in a later one.

A PowerShell costs its guest seconds, so one that has become ready is asked again only after a while.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestrator.engine.runtime import read_revision
from orchestrator.engine.winready import judge, parse
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.text import lines
from orchestrator.model.world import GuestSeen
from orchestrator.render.windisks import grow_words
from orchestrator.render.winscript import FOLDER, SCRIPT_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.drivers.looks import Outcome
    from orchestrator.model.spec import Disk
    from orchestrator.ports import Clock, Host

READY_EVERY_S = 15.0
TELL_EVERY_S = 5.0
CALL_S = 5.0
HUNG_S = 120.0  # a PowerShell that takes longer is left alone, and another is started
ANSWER_BYTES = 1024 * 1024
POWERSHELL = r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"
# For Windows PowerShell 5.1. The boot's name is in a key that is gone with the boot: the time of the boot, which
# Windows would tell, moves with its clock. The words of Win32_Service are English on every Windows.
PROBE = r"""$ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue'
[Console]::OutputEncoding = New-Object Text.UTF8Encoding $false
$key = [Microsoft.Win32.Registry]::LocalMachine.CreateSubKey('SOFTWARE\vmrole-run',
    [Microsoft.Win32.RegistryKeyPermissionCheck]::ReadWriteSubTree, [Microsoft.Win32.RegistryOptions]::Volatile)
if (-not $key.GetValue('boot')) { $key.SetValue('boot', [string][guid]::NewGuid()) }
$boot = [string]$key.GetValue('boot')
$setup = Get-ItemProperty HKLM:\SYSTEM\Setup
$image = (Get-ItemProperty HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State).ImageState
$own = @{ setup = ''; start_up = ''; errors = @() }
$folder = Join-Path $env:ProgramData 'vmrole'
if (Test-Path -LiteralPath (Join-Path $folder 'vmrole.json')) {
    $own.setup = 'waiting'; $own.start_up = 'waiting'
    $path = Join-Path $folder 'state.json'
    if (Test-Path -LiteralPath $path) {
        $told = Get-Content -Raw -LiteralPath $path | ConvertFrom-Json
        $own.setup = [string]$told.setup; $own.errors = @($told.errors | ForEach-Object { [string]$_ })
        if ($told.boot -eq $boot) { $own.start_up = [string]$told.start_up }
    }
}
$held = ''
# By its name in the folder: a link that leads nowhere has one, too.
if ((Test-Path -LiteralPath $folder) -and @([IO.Directory]::GetFileSystemEntries($folder, 'busy')).Count) {
    try { $held = [string](Get-Content -LiteralPath (Join-Path $folder 'busy') -TotalCount 1) } catch { $held = '' }
    if (-not $held.Trim()) { $held = 'no reason given' }
}
$told = ''; $path = Join-Path $folder 'runtime.json'
if (Test-Path -LiteralPath $path) { $told = @(Get-Content -LiteralPath $path -TotalCount 2) -join ' ' }
$services = @(Get-CimInstance Win32_Service -Filter "StartMode='Auto'" | ForEach-Object {
    $trigger = 'HKLM:\SYSTEM\CurrentControlSet\Services\' + $_.Name + '\TriggerInfo'
    @{ name = $_.Name; state = $_.State; delayed = [bool]$_.DelayedAutoStart; code = [long]$_.ExitCode
       triggered = (Test-Path -LiteralPath $trigger) }
})
$uptime = [Diagnostics.Stopwatch]::GetTimestamp() / [double][Diagnostics.Stopwatch]::Frequency
ConvertTo-Json -Compress -Depth 4 @{ boot = $boot; uptime = $uptime; image = [string]$image
    busy = [bool]($setup.SystemSetupInProgress -or $setup.OOBEInProgress); setup = $own.setup
    start_up = $own.start_up; held = $held; told = [string]$told; errors = @($own.errors); services = $services }
"""
# What has come is read whole before anything is replaced: half a file is no JSON. One round of hooks at a time.
TELL = r"""$ErrorActionPreference = 'Stop'; $ProgressPreference = 'SilentlyContinue'
$folder = Join-Path $env:ProgramData 'vmrole'
$path = Join-Path $folder 'runtime.json'
function Put([string]$Path, [string]$Text) {
    $new = "$Path.$PID"
    [IO.File]::WriteAllText($new, $Text)
    if (Test-Path -LiteralPath $Path) { [IO.File]::Replace($new, $Path, [NullString]::Value) }
    else { Move-Item -LiteralPath $new -Destination $Path }
}
$text = [IO.File]::ReadAllText((Join-Path $folder 'runtime.come'))
$told = $text | ConvertFrom-Json
Put (Join-Path $folder 'settings.json') (ConvertTo-Json $told.settings)
Put $path $text
& icacls.exe $path /grant '*S-1-5-32-545:R' | Out-Null
$hooks = Join-Path $folder 'on-change.d'
if (-not (Test-Path -LiteralPath $hooks)) { exit 0 }
$mutex = New-Object Threading.Mutex $false, 'Global\vmrole-on-change'
try { $null = $mutex.WaitOne() } catch [Threading.AbandonedMutexException] { }
$log = Join-Path $folder 'log'
New-Item -ItemType Directory -Force -Path $log | Out-Null
foreach ($hook in @(Get-ChildItem -LiteralPath $hooks -Filter '*.ps1' | Sort-Object Name)) {
    $base = Join-Path $log ('on-change-' + $hook.BaseName)
    $words = '-NoProfile -NonInteractive -ExecutionPolicy Bypass -File "{0}" "{1}"' -f $hook.FullName, $path
    $process = Start-Process powershell.exe -ArgumentList $words -PassThru -NoNewWindow `
        -RedirectStandardOutput "$base.out" -RedirectStandardError "$base.err"
    $null = $process.Handle
    if ($process.WaitForExit(60000)) { $code = $process.ExitCode }
    else { & taskkill.exe /f /t /pid $process.Id | Out-Null; $code = 'timeout' }
    [IO.File]::WriteAllText("$base.code", "$code")
}
$mutex.ReleaseMutex()
"""
# One name a line. Whoever depends on a service is restarted with it; one that stands is started.
RESTART = r"""$ErrorActionPreference = 'Continue'
$names = [Console]::In.ReadToEnd().Split([char]10) | ForEach-Object { $_.Trim() } | Where-Object { $_ }
foreach ($name in $names) { Restart-Service -Force -Name $name }
"""
COME = r"C:\ProgramData\vmrole\runtime.come"
PIECE_BYTES = 48 * 1024


def _argv(script: str) -> tuple[str, ...]:
    encoded = base64.b64encode(script.encode("utf-16-le")).decode()
    return (POWERSHELL, "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass", "-EncodedCommand", encoded)


ARGV, TELL_ARGV, RESTART_ARGV = _argv(PROBE), _argv(TELL), _argv(RESTART)


def grow_argv(disk: Disk) -> tuple[str, ...]:
    """Setup's script, which the guest keeps, enlarges a disk's file system by what its plan says of the disk."""
    script = rf"{FOLDER}\{SCRIPT_NAME}"
    return (
        POWERSHELL,
        "-NoProfile",
        "-NonInteractive",
        "-ExecutionPolicy",
        "Bypass",
        "-File",
        script,
        *grow_words(disk),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """The PowerShell under way (0: none) and when it began; what the last one found, and when."""

    pid: int = 0
    begun: float = 0.0
    seen: GuestSeen = field(default_factory=GuestSeen)
    at: float = float("-inf")


class WindowsLooks:
    """Looks at Windows guests; ``start`` and ``poll`` run a command by an agent, and ask how it went."""

    def __init__(
        self,
        clock: Clock,
        start: Callable[[Host, str, tuple[str, ...]], int],
        poll: Callable[[Host, str, int], Outcome | None],
    ) -> None:
        self._clock, self._start, self._poll = clock, start, poll
        self._known: dict[str, _Known] = {}

    def look(self, host: Host, domain: str, *, known_boot: str, services: tuple[str, ...] | None) -> GuestSeen:
        """What the last answer says, which may be of some seconds ago; another is asked for meanwhile."""
        known = self._known.get(domain, _Known())
        try:
            known = self._known[domain] = self._go_on(host, domain, known, services, is_ready=bool(known_boot))
        except AgentSilent:  # it boots: whatever was under way has gone
            self._known.pop(domain, None)
            return GuestSeen()
        except AgentRefused as error:
            self._known[domain] = replace(known, pid=0)
            return GuestSeen(waiting=(str(error),))
        return known.seen

    def tell(self, host: Host, domain: str, text: str) -> None:
        """Bring the file, and start the PowerShell that puts it in its place; the next look shows whether it did."""
        _write(host, domain, COME, text.encode())
        self._start(host, domain, TELL_ARGV)
        known = self._known.get(domain, _Known())
        seen = replace(known.seen, told=read_revision(text), tell_after=self._clock.now() + TELL_EVERY_S)
        self._known[domain] = replace(known, seen=seen)

    def _go_on(
        self, host: Host, domain: str, known: _Known, services: tuple[str, ...] | None, *, is_ready: bool
    ) -> _Known:
        now = self._clock.now()
        if known.pid and now - known.begun < HUNG_S:
            outcome = self._poll(host, domain, known.pid)
            if outcome is None:
                return known
            seen = replace(_judged(outcome, services), tell_after=known.seen.tell_after)
            return replace(known, pid=0, seen=seen, at=now)
        if now - known.at < (READY_EVERY_S if is_ready else 0.0):
            return known
        return replace(known, pid=self._start(host, domain, ARGV), begun=now)


def _judged(outcome: Outcome, services: tuple[str, ...] | None) -> GuestSeen:
    if outcome.code or len(outcome.stdout) > ANSWER_BYTES:
        said = lines(outcome.stderr[:2000].decode(errors="replace")) or ("it said nothing",)
        raise AgentRefused(f"the guest's PowerShell ended with {outcome.code}: {said[0]}")
    answer = parse(outcome.stdout.decode(errors="replace"))
    return replace(judge(answer, services), told=read_revision(answer.told))


def _write(host: Host, domain: str, path: str, content: bytes) -> None:
    """A file of the guest's, in pieces. Raises AgentSilent, AgentRefused."""
    handle = host.agent(domain, "guest-file-open", {"path": path, "mode": "wb"}, CALL_S)
    try:
        for begin in range(0, len(content), PIECE_BYTES):
            piece = base64.b64encode(content[begin : begin + PIECE_BYTES]).decode()
            host.agent(domain, "guest-file-write", {"handle": handle, "buf-b64": piece}, CALL_S)
    finally:
        host.agent(domain, "guest-file-close", {"handle": handle}, CALL_S)
