param([string]$Verb = 'boot', [string]$Serial = '', [long]$Bytes = 0)
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
