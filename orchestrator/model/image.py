"""Images as the repository knows them, and what was found out about a file before it is taken in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orchestrator.model.names import is_name
from orchestrator.model.spec import BIOS, LINUX, UEFI, WINDOWS, Platform

MAX_VIRTUAL_BYTES = 2 * 1024**4
VERSION_RULE = "1 to 40 of a-z, A-Z, 0-9, ., - and _, not starting with . or -"
_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:\.[0-9]+)?")
_VERSION_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a disk file is, by its own bytes.

    ``format``: as on the command line (``raw``, ``qcow2``, ``vhd``, …), "" when it cannot be told. ``virtual_bytes``:
    what a guest sees. ``why``: why the file is refused, "" when it is not. ``parent``: the identity that a
    differencing disk gives its parent; ``identity``: its own (both "" where the format has none).
    """

    format: str
    virtual_bytes: int = 0
    why: str = ""
    parent: str = ""
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a machine made of the image should be like; "" and 0: not known.

    ``os``: a family (linux, windows, bsd). ``firmware``: bios or uefi. ``disk_bytes``: the default size of overlays.
    ``drivers``: the digest of the disc of drivers that a Windows is set up with ("" : none).
    """

    os: str = ""
    firmware: str = ""
    secure_boot: bool = False
    tpm: bool = False
    virtio: bool = True
    disk_bytes: int = 0
    note: str = ""
    drivers: str = ""


def platform_of(traits: Traits) -> Platform:
    """The machine that an image with these traits asks for; what is not known is as on Linux, started by a BIOS."""
    firmware = UEFI if traits.secure_boot else traits.firmware or BIOS
    os = WINDOWS if traits.os == WINDOWS else LINUX
    drivers = traits.drivers if os == WINDOWS else ""
    return Platform(os, firmware, traits.secure_boot, traits.tpm, traits.virtio, drivers)


@dataclass(frozen=True, slots=True)
class Admission:
    """What came of the image's last trial: a machine that ran nothing else, alone in a network of its own.

    ``at``: Unix seconds. ``firmware``: what booted it (bios, uefi). ``agent``: the guest agent's version. ``setup``:
    how setup from the answer file ended. ``services``: auto-start services that are up. ``seconds``: (stage, seconds
    since power on) of each that it reached. ``reason``: why it did not pass, with the last ``console`` lines.
    """

    passed: bool
    at: float
    firmware: str = ""
    agent: str = ""
    system: str = ""
    setup: str = ""
    services: tuple[str, ...] = ()
    seconds: tuple[tuple[str, float], ...] = ()
    reason: str = ""
    console: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """An entry of the index. ``size_bytes`` is the file's, ``virtual_bytes`` what a guest sees; ``added`` Unix seconds.

    ``recipe``: the digest of the recipe that it was built from ("" if it was not built here). ``hashed``: what
    ``digest`` is of: the ``content`` that a guest sees, or (entries of older versions) the bytes of the ``file``.
    ``identity``: what differencing disks call it. ``leaving``: it goes as soon as nobody needs it any more.
    ``admission``: None as long as it has had no trial.
    """

    name: str
    version: str
    digest: str
    size_bytes: int
    virtual_bytes: int
    added: float
    recipe: str = ""
    hashed: str = "file"
    identity: str = ""
    leaving: bool = False
    traits: Traits = field(default_factory=Traits)
    admission: Admission | None = None

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.version}"


def is_dated(version: str) -> bool:
    """Whether a version is one that was filled in (``2026-11-20``, ``2026-11-20.2``), and not said by anybody."""
    return _DATED.fullmatch(version) is not None


def is_version(text: str) -> bool:
    """Whether ``text`` may be an image's version: it never reads as an option or a path."""
    return 0 < len(text) <= 40 and set(text) <= _VERSION_CHARACTERS and text[0] not in ".-"


def parse_tag(text: str) -> tuple[str, str] | None:
    """``debian-12:old`` → its name and version, the version "" where none was said; None if it cannot be a tag."""
    name, colon, version = text.partition(":")
    if not is_name(name) or (colon and not is_version(version)):
        return None
    return name, version
