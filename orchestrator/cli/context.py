"""What every command starts from: the state folder, the libvirt URI that was asked for, and a folder for caches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Context:
    """``home``: the state folder. ``connect``: a libvirt URI in place of the site's own, or None."""

    home: Path
    connect: str | None
    cache_dir: Path


def default_home() -> Path:
    """Root keeps state in /var/lib/vmrole, anybody else in the XDG state folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/vmrole")
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "vmrole"


def cache_dir() -> Path:
    """What may be deleted at any time: proofs about this machine, disks that were built here."""
    if given := os.environ.get("VMROLE_CACHE"):
        return Path(given).resolve()
    if os.geteuid() == 0:
        return Path("/var/cache/vmrole")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vmrole"
