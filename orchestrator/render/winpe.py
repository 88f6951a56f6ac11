"""The answer file for an install from Windows' own disc, which ends in a sysprepped disk that is switched off.

Windows Setup gets virtio's drivers before it looks for a disk (pass windowsPE), the installed system gets them too
(offlineServicing); the first logon then takes every answer file out of ``%WINDIR%\\Panther`` and runs sysprep.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.model.spec import UEFI
from orchestrator.render.answerfile import Component, Setting, document, flag, hidden

LABEL = "UNATTEND"
SCRIPT_NAME = "vmrole-sysprep.ps1"
DRIVERS = ("viostor", "vioscsi", "NetKVM", "vioserial", "Balloon", "viorng")
_LETTERS = "DEFGH"  # which of the drives has which disc is Windows' choice
_SETUP = "Microsoft-Windows-Setup"
START = (
    "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -Command "
    f"\"gdr -PSProvider FileSystem|%{{$p=$_.Root+'{SCRIPT_NAME}';if(Test-Path $p){{& $p}}}}\""
)


@dataclass(frozen=True, slots=True)
class Install:
    """What is installed. ``edition``: the image's name or number on the disc; ``virtio_folder``: 2k22, w11.

    ``password``: the administrator's, until sysprep; it is nobody's afterwards.
    """

    edition: str
    firmware: str
    virtio_folder: str
    password: str
    product_key: str = ""
    locale: str = "en-US"


def seed(install: Install) -> dict[str, bytes]:
    """The files of the disc that goes with Windows' own."""
    answers = answer_file(install)
    script = SCRIPT.encode("utf-8-sig")
    return {"Autounattend.xml": answers, "unattend.xml": answers, SCRIPT_NAME: script}


def answer_file(install: Install) -> bytes:
    paths = _driver_paths(install.virtio_folder)
    language = Setting("SetupUILanguage", (Setting("UILanguage", install.locale),))
    return document(
        [
            Component("windowsPE", "Microsoft-Windows-International-Core-WinPE", (language, *_locale(install))),
            Component("windowsPE", "Microsoft-Windows-PnpCustomizationsWinPE", paths),
            Component("windowsPE", _SETUP, (_disk(install.firmware), _image(install), _user_data(install))),
            Component("offlineServicing", "Microsoft-Windows-PnpCustomizationsNonWinPE", paths),
            Component("oobeSystem", "Microsoft-Windows-International-Core", _locale(install)),
            Component("oobeSystem", "Microsoft-Windows-Shell-Setup", _first_logon(install.password)),
        ]
    )


def _locale(install: Install) -> tuple[Setting, ...]:
    return tuple(Setting(name, install.locale) for name in ("InputLocale", "SystemLocale", "UILanguage", "UserLocale"))


def _driver_paths(folder: str) -> tuple[Setting, ...]:
    paths = [f"{letter}:\\{driver}\\{folder}\\amd64" for letter in _LETTERS for driver in DRIVERS]
    listed = [Setting("PathAndCredentials", (Setting("Path", p),), key=str(n)) for n, p in enumerate(paths, 1)]
    return (Setting("DriverPaths", tuple(listed)),)


# (type, MiB (0: the rest), format, letter, label), as Microsoft's samples for UEFI and for BIOS have them; Windows
# last, so that a larger overlay can be grown into.
_LAYOUTS = {
    "uefi": (
        ("EFI", 260, "FAT32", "", "System"),
        ("MSR", 16, "", "", ""),
        ("Primary", 0, "NTFS", "C", "Windows"),
    ),
    "bios": (("Primary", 350, "NTFS", "", "System"), ("Primary", 0, "NTFS", "C", "Windows")),
}


def _layout(firmware: str) -> tuple[tuple[str, int, str, str, str], ...]:
    return _LAYOUTS["uefi" if firmware == UEFI else "bios"]


def _disk(firmware: str) -> Setting:
    made, changed = [], []
    for number, (kind, mib, form, letter, label) in enumerate(_layout(firmware), 1):
        size = Setting("Size", str(mib)) if mib else flag("Extend", is_on=True)
        made.append(Setting("CreatePartition", (Setting("Order", str(number)), Setting("Type", kind), size), key=""))
        told = (
            Setting("Order", str(number)),
            Setting("PartitionID", str(number)),
            Setting("Format", form),
            Setting("Label", label),
            Setting("Letter", letter),
        )
        is_active = (flag("Active", is_on=True),) if firmware != UEFI and number == 1 else ()
        changed.append(Setting("ModifyPartition", (*told, *is_active), key=""))
    disk = (
        Setting("DiskID", "0"),
        flag("WillWipeDisk", is_on=True),
        Setting("CreatePartitions", tuple(made)),
        Setting("ModifyPartitions", tuple(changed)),
    )
    return Setting("DiskConfiguration", (Setting("Disk", disk, key=""), Setting("WillShowUI", "OnError")))


def _image(install: Install) -> Setting:
    key = "/IMAGE/INDEX" if install.edition.isdecimal() else "/IMAGE/NAME"
    chosen = (Setting("Key", key), Setting("Value", install.edition))
    to = (Setting("DiskID", "0"), Setting("PartitionID", str(len(_layout(install.firmware)))))
    image = (Setting("InstallFrom", (Setting("MetaData", chosen, key=""),)), Setting("InstallTo", to))
    return Setting("ImageInstall", (Setting("OSImage", image),))


def _user_data(install: Install) -> Setting:
    key = (Setting("Key", install.product_key), Setting("WillShowUI", "OnError" if install.product_key else ""))
    return Setting("UserData", (flag("AcceptEula", is_on=True), Setting("ProductKey", key)))


def _first_logon(password: str) -> tuple[Setting, ...]:
    pages = ("HideEULAPage", "HideOEMRegistrationScreen", "HideOnlineAccountScreens", "HideWirelessSetupInOOBE")
    command = (Setting("Order", "1"), Setting("CommandLine", START), Setting("Description", "sysprep"))
    logon = (flag("Enabled", is_on=True), Setting("LogonCount", "1"), Setting("Username", "Administrator"))
    return (
        Setting("OOBE", (*(flag(page, is_on=True) for page in pages), Setting("ProtectYourPC", "3"))),
        Setting("UserAccounts", (hidden("AdministratorPassword", password),)),
        Setting("AutoLogon", (*logon, hidden("Password", password))),
        Setting("FirstLogonCommands", (Setting("SynchronousCommand", command, key=""),)),
    )


SCRIPT = r"""$ErrorActionPreference = 'Stop'
$agent = Get-PSDrive -PSProvider FileSystem | ForEach-Object { $_.Root + 'guest-agent\qemu-ga-x86_64.msi' } |
    Where-Object { Test-Path -LiteralPath $_ } | Select-Object -First 1
if (-not $agent) { throw 'no disc has guest-agent\qemu-ga-x86_64.msi' }
$done = Start-Process -Wait -PassThru msiexec.exe -ArgumentList ('/i "{0}" /qn /norestart' -f $agent)
if ($done.ExitCode -notin 0, 3010) { throw "the agent's installer ended with $($done.ExitCode)" }
# An answer file that stays in one of these places would win over the disc of every machine made of this image.
foreach ($place in 'Panther\unattend.xml', 'Panther\autounattend.xml', 'Panther\Unattend',
        'System32\Sysprep\unattend.xml') {
    $path = Join-Path $env:windir $place
    if (Test-Path -LiteralPath $path) { Remove-Item -Recurse -Force -LiteralPath $path }
}
Remove-ItemProperty -Path HKLM:\SYSTEM\Setup -Name UnattendFile -ErrorAction SilentlyContinue
& "$env:windir\System32\Sysprep\sysprep.exe" /generalize /oobe /shutdown /quiet
"""
