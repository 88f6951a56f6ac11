"""What a service file asks for that Windows has no way to be told. Pure; found before anything is changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.engine import template
from orchestrator.model.names import InstanceId
from orchestrator.model.spec import WINDOWS, DiskKind, Platform
from orchestrator.model.winpath import mount_problem, order

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.model.record import DeploymentRecord
    from orchestrator.model.setup import Setup, User
    from orchestrator.model.spec import Disk, Role

    Path = tuple[str | int, ...]
    Check = Callable[[Setup], Iterator[tuple[Path, str]]]

LEAST_DISK_MIB = 128
NO_OWNER = "root:root"  # what a disk has without a word of its owner
_ACCOUNT = re.compile(r'[^"/\\\[\]:;|=,+*?<>@\x00-\x1f]{1,20}')
_KEY = re.compile(r"[A-Z0-9]{5}(?:-[A-Z0-9]{5}){4}")
_IS_NAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,13}[A-Za-z0-9])?")


def unfit(record: DeploymentRecord, checks: Check) -> list[tuple[Path, str]]:
    """(path in the service file, what is wrong) of each. ``checks``: of what the rendering knows the names of."""
    found: list[tuple[Path, str]] = []
    for role in record.service.roles:
        if record.platforms.get(role.name, Platform()).os == WINDOWS:
            below = ("roles", role.name)
            found += [((*below, *path), why) for path, why in _role(record, role)]
            found += [((*below, "setup", *path), why) for path, why in (*_setup(role.setup), *checks(role.setup))]
    return found


def _role(record: DeploymentRecord, role: Role) -> Iterator[tuple[Path, str]]:
    rule = "a Windows computer's name has 1 to 15 letters, digits and - (not at an end), and not digits only"
    longest = _computer(record, role)
    if not _IS_NAME.fullmatch(longest):
        yield ("setup", "hostname"), f"{longest!r}: {rule}"
    for number, name in enumerate(role.ready.services or ()):
        if {"/", "\\"} & {*name}:
            yield ("ready", "services", number), f"{name!r:.80} is no service's name: Windows has none with / or \\"
    taken: dict[tuple[str, ...], str] = {}
    for disk in role.disks:
        kind = "volumes" if disk.kind is DiskKind.VOLUME else "local_storage"
        yield from (((kind, disk.name, field), why) for field, why in _disk(disk))
        other = taken.setdefault(order(disk.mount), disk.name)
        if other != disk.name:
            yield (kind, disk.name, "mount"), f"{disk.mount} is taken: to Windows it is where {other} is mounted"


def _computer(record: DeploymentRecord, role: Role) -> str:
    """The name of the role's last instance, which is its longest."""
    last = InstanceId(record.id, role.name, max(record.ordinals(role.name), default=0))
    own = (record.id.service, record.id.slot, role.name, last.name, str(last.ordinal))
    found = dict(zip(template.OWN, own, strict=False))
    return template.lenient(role.setup.hostname, found) or last.name


def _disk(disk: Disk) -> Iterator[tuple[str, str]]:
    if problem := mount_problem(disk.mount):
        yield "mount", problem
    if disk.owner != NO_OWNER:
        yield "owner", "is for Linux: on Windows administrators own it, and by `mode` others may read it or not"
    if disk.size_mib < LEAST_DISK_MIB:
        yield "size", f"must be at least {LEAST_DISK_MIB}MiB on Windows, which reserves a part of every disk"


def _setup(setup: Setup) -> Iterator[tuple[Path, str]]:
    for field in ("user_data", "user_parts", "packages"):
        if getattr(setup, field):
            yield ("packages" if field == "packages" else "user_data",), "is for Linux, and the image is Windows"
    if setup.administrator_password is None and not any(user.is_admin for user in setup.users):
        why = "is missing: Windows' first start asks for an administrator. Give this, or a user with `admin: true`"
        yield ("administrator",), why
    own = [certificate for certificate in setup.certificates if not certificate.is_root]
    for number, certificate in enumerate(own):
        if isinstance(certificate.content, str) and "PRIVATE KEY-----" in certificate.content:
            yield ("certificates", number), "is PEM with a private key: Windows takes the two as one PKCS #12 file"
    for number, user in enumerate(setup.users):
        yield from ((("users", number, *path), why) for path, why in _user(user))
    if isinstance(setup.license_key, str) and setup.license_key and not _KEY.fullmatch(setup.license_key):
        yield ("license_key",), "must be five groups of five letters and digits"


def _user(user: User) -> Iterator[tuple[Path, str]]:
    if not _ACCOUNT.fullmatch(user.name) or user.name.lower() in {"administrator", "guest"}:
        yield ("name",), f'{user.name!r} can be no account of Windows: 1 to 20 characters, none of "/\\[]:;|=,+*?<>@'
    if user.shell:
        yield ("shell",), "is for Linux, and the image is Windows"
    if user.password is None:
        yield ("password",), "is needed on Windows, in clear (in a secret): it knows no hashes of Linux"
    if user.ssh_authorized_keys and not user.is_admin:
        yield ("ssh_authorized_keys",), "are for administrators only on Windows"
