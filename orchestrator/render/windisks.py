"""What a Windows guest does with its disks: functions of its script, and what the plan tells them of each disk.

What they never do is to format what is not blank: a disk gets a partition table, and a partition a file system, only
if its first MiB is all zero. The disks are found by their serial numbers: Windows' own numbers are no promise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model.disks import MIB, serial
from orchestrator.model.winpath import order, windows_path

if TYPE_CHECKING:
    from orchestrator.model.spec import Disk

MOST_LABEL = 32  # letters of an NTFS volume's label


def planned(disks: tuple[Disk, ...]) -> list[dict[str, object]]:
    r"""The disks in a plan, in the order in which they are mounted: ``D:\`` before ``D:\data``."""
    return [
        {
            "name": disk.name,
            "serial": serial(disk),
            "mount": windows_path(disk.mount),
            "label": disk.name[:MOST_LABEL],
            "private": disk.mode[-1] == "0",
        }
        for disk in sorted(disks, key=lambda disk: order(disk.mount))
    ]


def grow_words(disk: Disk) -> tuple[str, ...]:
    """What the script is called with in a running guest, to enlarge the file system to the disk."""
    return ("grow", serial(disk), str(disk.size_mib * MIB))


# Each value comes from the plan and is an argument: none is part of a text that is run.
FUNCTIONS = r"""
# The first of a disk's bytes can be read only by a handle of Windows' own: .NET opens no devices by name.
$native = @'
[System.Runtime.InteropServices.DllImport("kernel32.dll", SetLastError = true,
    CharSet = System.Runtime.InteropServices.CharSet.Unicode)]
public static extern Microsoft.Win32.SafeHandles.SafeFileHandle CreateFile(string name, uint access, uint share,
    System.IntPtr security, uint disposition, uint flags, System.IntPtr template);
'@

function Test-Blank([int]$Number, [long]$Offset) {
    if (-not ('Vmrole.Native' -as [type])) { Add-Type -Namespace Vmrole -Name Native -MemberDefinition $native }
    $read = 2147483648; $shared = 3; $existing = 3
    $handle = [Vmrole.Native]::CreateFile("\\.\PhysicalDrive$Number", $read, $shared, [IntPtr]::Zero, $existing, 0,
        [IntPtr]::Zero)
    if ($handle.IsInvalid) { throw 'it cannot be read' }
    $stream = New-Object IO.FileStream $handle, ([IO.FileAccess]::Read), 1048576
    try {
        $null = $stream.Seek($Offset, [IO.SeekOrigin]::Begin)
        $bytes = New-Object byte[] 1048576
        if ($stream.Read($bytes, 0, $bytes.Length) -ne $bytes.Length) { throw 'it cannot be read' }
    } finally { $stream.Dispose() }
    [Text.Encoding]::GetEncoding(28591).GetString($bytes).Trim([char]0).Length -eq 0
}

# Until it is there, and of so many bytes: Windows may be told later than we are.
function Find-PlannedDisk($wanted, [long]$Least) {
    $since = [Diagnostics.Stopwatch]::StartNew()
    while ($true) {
        $disk = Get-Disk | Where-Object { ([string]$_.SerialNumber).Trim() -eq $wanted.serial } |
            Select-Object -First 1
        if ($disk -and $disk.Size -ge $Least) { return $disk }
        if ($since.Elapsed.TotalSeconds -ge 60) {
            throw "no disk of $Least bytes or more has the serial number $($wanted.serial)"
        }
        Start-Sleep -Seconds 1
        Update-HostStorageCache
    }
}

# Its one partition beside what Windows reserves; nothing if there is none.
function Get-PlannedPartition([int]$Number) {
    $parts = @(Get-Partition -DiskNumber $Number -ErrorAction SilentlyContinue |
        Where-Object { [string]$_.Type -ne 'Reserved' })
    if ($parts.Count -gt 1) { throw 'it has several partitions: left as it is, not mounted' }
    $parts | Select-Object -First 1
}

# Online, with a file system of ours, and at no place that it is not wanted at: its letter may be another one's.
function Open-PlannedDisk($wanted) {
    $number = (Find-PlannedDisk $wanted 1).Number
    if ((Get-Disk -Number $number).IsOffline) { Set-Disk -Number $number -IsOffline $false }
    if ((Get-Disk -Number $number).IsReadOnly) { Set-Disk -Number $number -IsReadOnly $false }
    if ([string](Get-Disk -Number $number).PartitionStyle -eq 'RAW') {
        if (-not (Test-Blank $number 0)) { throw 'it is not blank, and what is on it is no partition: left as it is' }
        Initialize-Disk -Number $number -PartitionStyle GPT
    }
    $part = Get-PlannedPartition $number
    if (-not $part) { $part = New-Partition -DiskNumber $number -UseMaximumSize }
    $form = [string](Get-Volume -Partition $part).FileSystem
    if ($form -ne 'NTFS') {
        if ($form -notin '', 'RAW' -or -not (Test-Blank $number $part.Offset)) {
            throw 'it is not blank, and what is on it is not NTFS: left as it is, not mounted'
        }
        Format-Volume -Partition $part -FileSystem NTFS -NewFileSystemLabel $wanted.label -Force -Confirm:$false |
            Out-Null
    }
    foreach ($path in (Get-PlannedPartition $number).AccessPaths) {
        if (-not $path.StartsWith('\\') -and $path.TrimEnd('\') -ne $wanted.mount.TrimEnd('\')) {
            Remove-PartitionAccessPath -DiskNumber $number -PartitionNumber $part.PartitionNumber -AccessPath $path
        }
    }
}

# A letter that a drive for discs has is taken from it: it gets the last one that nobody has or wants.
function Clear-Letter([string]$Letter, $disks) {
    $volumes = @(Get-CimInstance Win32_Volume)
    $holder = $volumes | Where-Object { $_.DriveLetter -eq $Letter } | Select-Object -First 1
    if (-not $holder) { return }
    if ($holder.DriveType -ne 5) { throw "the letter $Letter is another volume's" }
    $taken = @($volumes.DriveLetter) + @(Get-PSDrive -PSProvider FileSystem | ForEach-Object { $_.Name + ':' }) +
        @($disks | ForEach-Object { $_.mount.Substring(0, 2) })
    $free = 90..68 | ForEach-Object { [string][char]$_ + ':' } | Where-Object { $_ -notin $taken } |
        Select-Object -First 1
    Set-CimInstance -InputObject $holder -Property @{ DriveLetter = $free }
}

# A new volume's root gives rights to users, authenticated users and everyone, which it inherits from nobody.
function Close-Root([string]$Path) {
    Protect-Path $Path '(OI)(CI)F'
    & icacls.exe $Path /remove:g '*S-1-5-32-545' '*S-1-5-11' '*S-1-1-0' | Out-Null
    if ($LASTEXITCODE) { throw "icacls of $Path ended with $LASTEXITCODE" }
}

function Mount-PlannedDisk($wanted, $disks) {
    $number = (Find-PlannedDisk $wanted 1).Number
    $part = Get-PlannedPartition $number
    $where = @{ DiskNumber = $number; PartitionNumber = $part.PartitionNumber }
    if (-not @($part.AccessPaths | Where-Object { $_.TrimEnd('\') -eq $wanted.mount.TrimEnd('\') }).Count) {
        if ($wanted.mount.Length -eq 3) {
            Clear-Letter ($wanted.mount.Substring(0, 2)) $disks
            Set-Partition @where -NewDriveLetter ($wanted.mount[0])
        } else {
            New-Item -ItemType Directory -Force -Path $wanted.mount | Out-Null
            Add-PartitionAccessPath @where -AccessPath $wanted.mount
            Set-Partition @where -NoDefaultDriveLetter $true
        }
    }
    if ($wanted.private) { Close-Root $wanted.mount }
    Expand-PlannedDisk $wanted 1
}

# The file system grows with its partition; less than a MiB is what alignment leaves over.
function Expand-PlannedDisk($wanted, [long]$Least) {
    $number = (Find-PlannedDisk $wanted $Least).Number
    Update-Disk -Number $number
    $part = Get-PlannedPartition $number
    $where = @{ DiskNumber = $number; PartitionNumber = $part.PartitionNumber }
    $most = (Get-PartitionSupportedSize @where).SizeMax
    if ($most - $part.Size -ge 1048576) { Resize-Partition @where -Size $most }
}

function Invoke-ForDisk($wanted, [scriptblock]$work) {
    try { & $work } catch { throw "disk $($wanted.name) ($($wanted.mount)): $($_.Exception.Message)" }
}

function Mount-All($disks) {
    foreach ($wanted in $disks) { Invoke-ForDisk $wanted { Open-PlannedDisk $wanted } }
    foreach ($wanted in $disks) { Invoke-ForDisk $wanted { Mount-PlannedDisk $wanted $disks } }
}

function Expand-One($disks, [string]$Serial, [long]$Bytes) {
    $wanted = $disks | Where-Object { $_.serial -eq $Serial } | Select-Object -First 1
    if (-not $wanted) { throw "no disk with the serial number $Serial is in the plan" }
    Invoke-ForDisk $wanted { Expand-PlannedDisk $wanted $Bytes }
}
"""
