"""Windows guests, by QEMU's agent for Windows: one PowerShell that is started in one look and collected in a later one.

A PowerShell costs its guest seconds, so one that has become ready is asked again only after a while.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from orchestrator.engine.winready import judge, parse
from orchestrator.errors import AgentRefused, AgentSilent
from orchestrator.model.text import lines
from orchestrator.model.world import GuestSeen

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.drivers.looks import Outcome
    from orchestrator.ports import Clock, Host

READY_EVERY_S = 15.0
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
$held = ''; $sign = Join-Path $folder 'busy'
if (Test-Path -LiteralPath $sign) {
    $held = [string](Get-Content -LiteralPath $sign -TotalCount 1)
    if (-not $held.Trim()) { $held = 'no reason given' }
}
$services = @(Get-CimInstance Win32_Service -Filter "StartMode='Auto'" | ForEach-Object {
    $trigger = 'HKLM:\SYSTEM\CurrentControlSet\Services\' + $_.Name + '\TriggerInfo'
    @{ name = $_.Name; state = $_.State; delayed = [bool]$_.DelayedAutoStart; code = [long]$_.ExitCode
       triggered = (Test-Path -LiteralPath $trigger) }
})
$uptime = [Diagnostics.Stopwatch]::GetTimestamp() / [double][Diagnostics.Stopwatch]::Frequency
ConvertTo-Json -Compress -Depth 4 @{ boot = $boot; uptime = $uptime; image = [string]$image
    busy = [bool]($setup.SystemSetupInProgress -or $setup.OOBEInProgress); setup = $own.setup
    start_up = $own.start_up; held = $held; errors = @($own.errors); services = $services }
"""
ARGV = (
    POWERSHELL, "-NoProfile", "-NonInteractive", "-ExecutionPolicy", "Bypass",
    "-EncodedCommand", base64.b64encode(PROBE.encode("utf-16-le")).decode(),
)  # fmt: skip


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

    def _go_on(
        self, host: Host, domain: str, known: _Known, services: tuple[str, ...] | None, *, is_ready: bool
    ) -> _Known:
        now = self._clock.now()
        if known.pid and now - known.begun < HUNG_S:
            outcome = self._poll(host, domain, known.pid)
            if outcome is None:
                return known
            return replace(known, pid=0, seen=_judged(outcome, services), at=now)
        if now - known.at < (READY_EVERY_S if is_ready else 0.0):
            return known
        return replace(known, pid=self._start(host, domain, ARGV), begun=now)


def _judged(outcome: Outcome, services: tuple[str, ...] | None) -> GuestSeen:
    if outcome.code or len(outcome.stdout) > ANSWER_BYTES:
        said = lines(outcome.stderr[:2000].decode(errors="replace")) or ("it said nothing",)
        raise AgentRefused(f"the guest's PowerShell ended with {outcome.code}: {said[0]}")
    return judge(parse(outcome.stdout.decode(errors="replace")), services)
