"""What a role's answer file says, as values: the part of the service file that the guest itself carries out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from orchestrator.model.secret import SecretRef


@dataclass(frozen=True, slots=True)
class File:
    """A file that setup writes: ``mode`` is octal text (``0644``), ``owner`` is ``user:group``.

    ``is_template``: ``{{name}}`` in it stands for one of the instance's own values. ``is_base64``: the content is
    the base64 of bytes that are no text.
    """

    path: str
    content: str | SecretRef
    mode: str = "0644"
    owner: str = "root:root"
    is_template: bool = True
    is_base64: bool = False


@dataclass(frozen=True, slots=True)
class User:
    """An account. ``password``: in clear, in a secret; ``password_hash``: as crypt(3) has it (Linux only).

    ``is_admin``: may become root without a password on Linux; in the group Administrators on Windows.
    """

    name: str
    groups: tuple[str, ...] = ()
    password: SecretRef | None = None
    password_hash: str | SecretRef = ""
    ssh_authorized_keys: tuple[str, ...] = ()
    is_admin: bool = False
    shell: str = ""
    full_name: str = ""


class When(Enum):
    """When a command of setup runs. START_UP: at every boot, and the instance is not ready before it ended well."""

    FIRST_BOOT = "first_boot"
    EVERY_BOOT = "every_boot"
    START_UP = "start_up"


class Shell(Enum):
    """What runs a command of setup. SYSTEM: the system's own: sh on Linux, cmd on Windows."""

    SYSTEM = "system"
    POWERSHELL = "powershell"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of setup: a line for ``shell``, or an argv. ``name`` is how messages speak of it."""

    words: str | tuple[str, ...]
    when: When = When.FIRST_BOOT
    shell: Shell = Shell.SYSTEM
    name: str = ""
    timeout_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for the system's own store: PEM, or on Windows also PKCS #12 (its base64; as it is in a secret).

    ``is_root``: an authority's. ``password``: of a PKCS #12 file.
    """

    name: str
    content: str | SecretRef
    is_root: bool = False
    password: SecretRef | None = None


@dataclass(frozen=True, slots=True)
class Join:
    """The Windows domain that an instance joins, and the account that may do that."""

    domain: str
    user: str
    password: SecretRef
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """What the answer file does on first boot, on Linux and on Windows.

    ``hostname``: a pattern ("" : the instance's name). ``commands``: in the order of the file, each ``when`` by
    itself. ``user_data``: the user's own cloud-config as JSON text ("" if none); its lists are joined to ours, its
    other keys win. ``user_parts``: (MIME type, text) of further parts of a multipart user-data. ``unattend``: the
    user's own answer file for Windows, merged into ours. ``is_static``: the DIP is set in the guest, not by DHCP.
    ``settings``: sorted (key, value) pairs for the instance's code; of a role only, never of a machine.
    """

    ssh_authorized_keys: tuple[str, ...] = ()
    files: tuple[File, ...] = ()
    commands: tuple[Command, ...] = ()
    user_data: str = ""
    user_parts: tuple[tuple[str, str], ...] = ()
    unattend: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    hostname: str = ""
    timezone: str = ""
    locale: str = ""
    keyboard: str = ""
    users: tuple[User, ...] = ()
    administrator_password: SecretRef | None = None
    packages: tuple[str, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    ntp_servers: tuple[str, ...] = ()
    dns_servers: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    is_static: bool = False
    join: Join | None = None
    license_key: str | SecretRef = ""
