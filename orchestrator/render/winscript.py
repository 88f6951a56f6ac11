"""What setup does on Windows beyond the answer file: a script that is the same for everybody, and a plan beside it.

Every value is in the plan, as JSON: nothing of it is part of a script or a command line of ours. What the script
keeps is in ``C:\\ProgramData\\vmrole``: ``state.json`` (how far it is), and ``log\\`` with each command's output.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

from orchestrator.engine import runtime
from orchestrator.errors import Refused
from orchestrator.model.setup import Shell
from orchestrator.model.winpath import windows_path
from orchestrator.render.cloudconfig import secret_line
from orchestrator.render.windisks import FUNCTIONS, planned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.secret import SecretRef
    from orchestrator.model.setup import Certificate, Command, File

    Reveal = Callable[[SecretRef], bytes]

FOLDER = r"C:\ProgramData\vmrole"
PLAN, SCRIPT_NAME = "vmrole.json", "vmrole.ps1"
ONE_FILE = "one PKCS #12 file, as `openssl pkcs12 -export` makes it"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\s.*?\s-----END CERTIFICATE-----", re.DOTALL)
_PLAIN = re.compile(r"\S+")
_BEFORE_A_QUOTE = re.compile(r'(\\*)"')
_AT_THE_END = re.compile(r"(\\+)$")


def plan(record: InstanceRecord, runtime_text: str, reveal: Reveal) -> bytes:
    """The plan of an instance's setup, in ASCII. ``runtime_text``: its first runtime file."""
    setup = record.machine.setup
    told = {
        "machine": f"{record.id}.g{record.generation}",
        "drivers": bool(record.machine.platform.drivers),
        "disks": planned(record.machine.disks),
        "files": [*(_file(file, reveal) for file in setup.files), *_told(runtime_text)],
        "keys": sorted({*setup.ssh_authorized_keys, *(k for u in setup.users for k in u.ssh_authorized_keys)}),
        "ports": list(record.machine.ports),
        "ntp": " ".join(setup.ntp_servers),
        "certificates": [one for certificate in setup.certificates for one in _certificates(certificate, reveal)],
        "commands": [_command(number, command) for number, command in enumerate(setup.commands, 1)],
    }
    return json.dumps(told, indent=1).encode("ascii")


def _file(file: File, reveal: Reveal) -> dict[str, object]:
    content = reveal(file.content) if not isinstance(file.content, str) else file.content.encode()
    encoded = content if file.is_base64 and isinstance(file.content, str) else base64.b64encode(content)
    return {"path": windows_path(file.path), "content": encoded.decode(), "private": file.mode[-1:] == "0"}


def _told(text: str) -> list[dict[str, object]]:
    """The runtime file, which every account may read, and the settings alone."""
    whole, settings = (base64.b64encode(each.encode()).decode() for each in (text, runtime.settings(text)))
    return [
        {"path": FOLDER + r"\settings.json", "content": settings, "private": True},
        {"path": runtime.WINDOWS_PATH, "content": whole, "private": False, "public": True},
    ]


def _certificates(certificate: Certificate, reveal: Reveal) -> Iterator[dict[str, object]]:
    """Of PEM one by one, as Windows takes one of a file: the first is the instance's own, the rest lead to its root.

    Raises Refused of PEM with a private key, which Windows would leave aside without a word.
    """
    name, content = certificate.name, _content(certificate, reveal)
    found = [match[0] for match in _PEM.finditer(content.replace(b"\r\n", b"\n"))]
    if found and b"PRIVATE KEY-----" in content:
        raise Refused(f"certificate {name} is PEM with a private key", f"Windows takes the two as {ONE_FILE}")
    rest = "Root" if certificate.is_root else "CA"
    for number, pem in enumerate(found):
        store = rest if number else "Root" if certificate.is_root else "My"
        yield {"name": name, "content": base64.b64encode(pem + b"\n").decode(), "password": "", "store": store}
    if not found:
        password = certificate.password and secret_line(certificate.password, f"the password of {name}", reveal)
        encoded = base64.b64encode(content).decode()
        store = "Root" if certificate.is_root else "My"
        yield {"name": name, "content": encoded, "password": password or "", "store": store}


def _content(certificate: Certificate, reveal: Reveal) -> bytes:
    """The bytes of a certificate; what is no text is in the record as base64."""
    content = certificate.content
    if not isinstance(content, str):
        return reveal(content)
    return content.encode() if "-----BEGIN " in content else base64.b64decode(content)


def _command(number: int, command: Command) -> dict[str, object]:
    """A line is put into a script of its own; of an argv the words are quoted as Windows programs take them apart."""
    words = command.words
    is_line = isinstance(words, str)
    return {
        "name": command.name or f"command {number}",
        "when": command.when.value,
        "shell": ("powershell" if command.shell is Shell.POWERSHELL else "cmd") if is_line else "",
        "script": base64.b64encode(words.encode()).decode() if isinstance(words, str) else "",
        "program": "" if isinstance(words, str) else words[0],
        "arguments": "" if isinstance(words, str) else " ".join(map(quoted, words[1:])),
        "seconds": command.timeout_s,
    }


def quoted(word: str) -> str:
    """A word of a command line, by the rules of Microsoft's C run-time (CommandLineToArgvW)."""
    escaped = _BEFORE_A_QUOTE.sub(lambda match: match[1] * 2 + '\\"', word)
    if _PLAIN.fullmatch(word):
        return escaped
    return '"' + _AT_THE_END.sub(lambda match: match[1] * 2, escaped) + '"'


# For Windows PowerShell 5.1, which every supported Windows has.
_SETUP = r"""param([string]$Verb = 'boot', [string]$Serial = '', [long]$Bytes = 0)
$ErrorActionPreference = 'Stop'
$folder = Join-Path $env:ProgramData 'vmrole'
$plan = Join-Path $folder 'vmrole.json'
$state = @{ setup = 'waiting'; start_up = 'waiting'; boot = ''; errors = @() }

# A key that is gone with this boot; who asks first for the boot's name gives it one.
function Open-Boot {
    [Microsoft.Win32.Registry]::LocalMachine.CreateSubKey('SOFTWARE\vmrole-run',
        [Microsoft.Win32.RegistryKeyPermissionCheck]::ReadWriteSubTree, [Microsoft.Win32.RegistryOptions]::Volatile)
}

function Save-State {
    $key = Open-Boot
    if (-not $key.GetValue('boot')) { $key.SetValue('boot', [string][guid]::NewGuid()) }
    $state.boot = [string]$key.GetValue('boot')
    $new = Join-Path $folder 'state.new'
    [IO.File]::WriteAllText($new, (ConvertTo-Json $state -Compress))
    Move-Item -Force -LiteralPath $new -Destination (Join-Path $folder 'state.json')
}

# Only the system and administrators (by their SIDs: names are translated) get at what is in it.
function Protect-Path([string]$Path, [string]$Grant) {
    & icacls.exe $Path /inheritance:r /grant "*S-1-5-18:$Grant" /grant "*S-1-5-32-544:$Grant" | Out-Null
    if ($LASTEXITCODE) { throw "icacls of $Path ended with $LASTEXITCODE" }
}

# Every account may read it: the folder's own rights are not asked for on the way to a file in it.
function Publish-Path([string]$Path) {
    & icacls.exe $Path /grant '*S-1-5-32-545:R' | Out-Null
    if ($LASTEXITCODE) { throw "icacls of $Path ended with $LASTEXITCODE" }
}

function Install-Vmrole {
    New-Item -ItemType Directory -Force -Path $folder | Out-Null
    Protect-Path $folder '(OI)(CI)F'
    $disc = Split-Path -Parent $PSCommandPath
    foreach ($name in 'vmrole.ps1', 'vmrole.json') {
        $target = Join-Path $folder $name
        Copy-Item -Force -LiteralPath (Join-Path $disc $name) -Destination $target
        Set-ItemProperty -LiteralPath $target -Name IsReadOnly -Value $false
    }
    Remove-Item -Force -ErrorAction SilentlyContinue -LiteralPath (Join-Path $folder 'state.json')
    # With fast start-up a shutdown would be no shutdown: the next boot would go on with the same kernel.
    $power = 'HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager\Power'
    Set-ItemProperty -Path $power -Name HiberbootEnabled -Value 0 -Type DWord
    $run = 'powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -File "{0}" boot'
    $run = $run -f (Join-Path $folder 'vmrole.ps1')
    & schtasks.exe /create /f /tn vmrole /sc onstart /ru SYSTEM /rl HIGHEST /tr $run | Out-Null
    if ($LASTEXITCODE) { throw "schtasks ended with $LASTEXITCODE" }
}

function Wait-Setup {
    $image = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State'
    while ((Get-ItemProperty $image).ImageState -ne 'IMAGE_STATE_COMPLETE' -or
           (Get-ItemProperty 'HKLM:\SYSTEM\Setup').SystemSetupInProgress -ne 0) { Start-Sleep -Seconds 2 }
}

function Write-PlannedFile($file) {
    New-Item -ItemType Directory -Force -Path (Split-Path -Parent $file.path) | Out-Null
    [IO.File]::WriteAllBytes($file.path, [Convert]::FromBase64String($file.content))
    if ($file.private) { Protect-Path $file.path 'F' }
    if ($file.public) { Publish-Path $file.path }
}

function Add-Keys($keys) {
    if (-not $keys.Count) { return }
    $path = Join-Path $env:ProgramData 'ssh\administrators_authorized_keys'
    New-Item -ItemType Directory -Force -Path (Split-Path -Parent $path) | Out-Null
    [IO.File]::WriteAllLines($path, [string[]]$keys)
    Protect-Path $path 'F'
}

function Add-Certificate($certificate) {
    $path = Join-Path $folder 'certificate.tmp'
    [IO.File]::WriteAllBytes($path, [Convert]::FromBase64String($certificate.content))
    try {
        $store = 'Cert:\LocalMachine\' + $certificate.store
        $head = [Text.Encoding]::ASCII.GetString([IO.File]::ReadAllBytes($path), 0, 11)
        if ($head -eq '-----BEGIN ' -or $certificate.store -eq 'Root') {
            Import-Certificate -FilePath $path -CertStoreLocation $store | Out-Null
        } else {
            $more = @{}
            if ($certificate.password) {
                $more.Password = ConvertTo-SecureString -AsPlainText -Force $certificate.password
            }
            Import-PfxCertificate -FilePath $path -CertStoreLocation $store @more | Out-Null
        }
    } finally { Remove-Item -Force -LiteralPath $path }
}

function Invoke-Planned($command, [int]$number) {
    $log = Join-Path $folder 'log'
    New-Item -ItemType Directory -Force -Path $log | Out-Null
    $base = Join-Path $log ('{0:d2}' -f $number)
    $program = $command.program; $arguments = $command.arguments
    if ($command.shell) {
        $text = [Text.Encoding]::UTF8.GetString([Convert]::FromBase64String($command.script))
        if ($command.shell -eq 'cmd') {
            $script = "$base.cmd"
            $text = "@echo off`r`nchcp 65001 >nul`r`n" + ($text -replace "`r?`n", "`r`n") + "`r`n"
            [IO.File]::WriteAllText($script, $text)
            $program = 'cmd.exe'; $arguments = '/d /s /c ""{0}""' -f $script
        } else {
            $script = "$base.ps1"
            $text = "`$ErrorActionPreference = 'Stop'`r`n$text`r`nexit `$LASTEXITCODE`r`n"
            [IO.File]::WriteAllText($script, $text, (New-Object Text.UTF8Encoding $true))
            $program = 'powershell.exe'
            $arguments = '-NoProfile -NonInteractive -ExecutionPolicy Bypass -File "{0}"' -f $script
        }
    }
    $how = @{ FilePath = $program; PassThru = $true; NoNewWindow = $true
              RedirectStandardOutput = "$base.out"; RedirectStandardError = "$base.err" }
    if ($arguments) { $how.ArgumentList = $arguments }
    $process = Start-Process @how
    $null = $process.Handle  # else there is no exit code afterwards
    if (-not $process.WaitForExit([int]($command.seconds * 1000))) {
        & taskkill.exe /f /t /pid $process.Id | Out-Null
        throw "$($command.name) took longer than $($command.seconds) s"
    }
    if ($process.ExitCode) {
        $said = @(Get-Content -Tail 3 -LiteralPath "$base.err") + @(Get-Content -Tail 3 -LiteralPath "$base.out")
        throw "$($command.name) ended with $($process.ExitCode): $($said -join ' / ')"
    }
}

function Invoke-All($commands, [string]$when) {
    $number = 0
    foreach ($command in $commands) {
        $number++
        if ($command.when -eq $when) { Invoke-Planned $command $number }
    }
}
"""
_MAIN = r"""
# From the disc that goes with the machine (virtio-win's); 1638: another version is there, which stays.
function Install-Drivers {
    foreach ($name in 'virtio-win-gt-x64.msi', 'guest-agent\qemu-ga-x86_64.msi') {
        $package = Get-PSDrive -PSProvider FileSystem | ForEach-Object { $_.Root + $name } |
            Where-Object { Test-Path -LiteralPath $_ } | Select-Object -First 1
        if (-not $package) { throw "no disc has $name" }
        $done = Start-Process -Wait -PassThru msiexec.exe -ArgumentList ('/i "{0}" /qn /norestart' -f $package)
        if ($done.ExitCode -notin 0, 1638, 3010) { throw "the installer of $name ended with $($done.ExitCode)" }
    }
}

function Invoke-Setup($told) {
    foreach ($file in $told.files) { Write-PlannedFile $file }
    Add-Keys @($told.keys)
    foreach ($certificate in $told.certificates) { Add-Certificate $certificate }
    foreach ($port in $told.ports) {
        foreach ($protocol in 'TCP', 'UDP') {
            $name = "vmrole-$protocol-$port"
            Remove-NetFirewallRule -Name $name -ErrorAction SilentlyContinue
            New-NetFirewallRule -Name $name -DisplayName $name -Direction Inbound -Protocol $protocol `
                -LocalPort $port -Action Allow | Out-Null
        }
    }
    if ($told.ntp) {
        & w32tm.exe /config /update /syncfromflags:manual "/manualpeerlist:$($told.ntp)" | Out-Null
        if ($LASTEXITCODE) { throw "w32tm ended with $LASTEXITCODE" }
    }
    Invoke-All $told.commands 'first_boot'
}

function Read-Plan { Get-Content -Raw -LiteralPath $plan | ConvertFrom-Json }

# What is secret goes as soon as it is used; the disks and the commands of every boot stay.
function Remove-Secrets($told) {
    $told.files = @(); $told.certificates = @()
    $told.commands = @($told.commands | Where-Object { $_.when -ne 'first_boot' })
    [IO.File]::WriteAllText($plan, (ConvertTo-Json $told -Depth 5))
    Clear-Answers
}

# Windows keeps copies of the answer file, less what it takes for secret; and until the one logon that it was told of
# has been, the password for that.
function Clear-Answers {
    foreach ($place in 'Panther\unattend.xml', 'Panther\unattend-original.xml', 'Panther\autounattend.xml',
            'Panther\Unattend', 'System32\Sysprep\unattend.xml') {
        $path = Join-Path $env:windir $place
        if (Test-Path -LiteralPath $path) {
            Remove-Item -Recurse -Force -ErrorAction SilentlyContinue -LiteralPath $path
        }
    }
    $logon = 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon'
    if (-not (Get-ItemProperty $logon).AutoLogonCount) {
        Remove-ItemProperty -Path $logon -Name DefaultPassword -ErrorAction SilentlyContinue
    }
}

function Start-Boot {
    $key = Open-Boot
    if ($key.GetValue('begun')) { return }  # once a boot, whoever comes first
    $key.SetValue('begun', 1)
    Wait-Setup
    $path = Join-Path $folder 'state.json'
    if (Test-Path -LiteralPath $path) {
        $state.setup = [string](Get-Content -Raw -LiteralPath $path | ConvertFrom-Json).setup
    }
    $told = Read-Plan
    $step = 'setup'
    try {
        if ($state.setup -ne 'done') {
            if ($state.setup -eq 'failed') { return }
            $state.setup = 'running'; Save-State
            try {
                if ($told.drivers) { Install-Drivers }
                Mount-All $told.disks
                Invoke-Setup $told
                $state.setup = 'done'
            } finally { Remove-Secrets $told }  # setup that failed is not tried again
        } else { $step = 'start_up'; Mount-All $told.disks }
        $step = 'start_up'; $state.start_up = 'running'; Save-State
        Invoke-All $told.commands 'every_boot'
        Invoke-All $told.commands 'start_up'
        Clear-Answers
        $state.start_up = 'done'; Save-State
    } catch {
        $state[$step] = 'failed'; $state.errors = @([string]$_.Exception.Message); Save-State
        throw
    }
}

switch ($Verb) {
    'install' { Install-Vmrole }
    'grow' { Expand-One (Read-Plan).disks $Serial $Bytes }
    default { Start-Boot }
}
"""
SCRIPT = _SETUP.rstrip() + "\n" + FUNCTIONS.rstrip() + "\n" + _MAIN
