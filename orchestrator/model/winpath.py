r"""Paths on Windows: ``/srv/a`` is ``C:\srv\a`` there, and a disk is mounted at a drive's root or at a folder. Pure."""

from __future__ import annotations

import re

_DRIVE = re.compile(r"[A-Za-z]:(?:\\|$)")
_FOLDERS = re.compile(r"[A-Za-z]:(?:\\[A-Za-z0-9_.-]+)*\\?")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
# What Windows, or vmrole in it, needs as it is: these folders and all below them, and these alone.
_NOT_BELOW = {"windows", "programdata", "boot", "recovery", "system", "$recycle.bin"}
_NOT_AT = {"c:\\", "c:\\users"}
RULE = r"must be a drive (D:\) or an absolute path of a folder, short, of letters, digits and _ . - only"


def windows_path(path: str) -> str:
    r"""``/srv/a`` → ``C:\srv\a``; what has a drive stays as it is."""
    return "C:" + path.replace("/", "\\") if path.startswith("/") else path


def has_drive(path: str) -> bool:
    """Whether a path is one of Windows' own, as no Linux has it."""
    return _DRIVE.match(path) is not None


def one_form(path: str) -> str:
    r"""A mount with a drive as it is kept: ``d:`` → ``D:\``, ``d:\a\`` → ``D:\a``."""
    bare = path[0].upper() + path[1:].rstrip("\\")
    return bare + "\\" if bare.endswith(":") else bare


def mount_problem(path: str) -> str:
    """Why no disk can be mounted there on Windows, "" if one can."""
    told = windows_path(path)
    if not _FOLDERS.fullmatch(told):
        return RULE
    drive, *folders = told.lower().rstrip("\\").split("\\")
    if any(name.endswith(".") or _DEVICE.fullmatch(name) for name in folders):
        return f"{path} has a name that Windows keeps for itself"
    if drive in {"a:", "b:"}:
        return f"no disk can be mounted at {path}: A: and B: are for floppy disks"
    if drive == "c:" and (one_form(told).lower() in _NOT_AT or folders[0] in _NOT_BELOW):
        return f"no disk can be mounted at {path}: the system needs it as it is"
    return ""


def order(path: str) -> tuple[str, ...]:
    r"""By what mounts are sorted, so that ``D:\`` comes before ``D:\a``; the same for names that are one to Windows."""
    return tuple(windows_path(path).lower().rstrip("\\").split("\\"))
