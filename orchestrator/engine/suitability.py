"""What a setup asks for that the system in its image cannot do. Pure; found before anything is changed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.model.setup import Shell, When
from orchestrator.model.spec import DiskKind
from orchestrator.model.winpath import has_drive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.model.setup import Setup, User
    from orchestrator.model.spec import Role

Path = tuple[str | int, ...]
_FIELDS = {When.FIRST_BOOT: "run", When.EVERY_BOOT: "run_every_boot", When.START_UP: "startup_tasks"}
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_GROUP = re.compile(r"[a-z_][a-z0-9_-]*|[0-9]{1,10}")
PEM = "-----BEGIN CERTIFICATE-----"
# systemd's names (unit_name_is_valid), of which runit's and OpenRC's are some, but for a + that these may have.
_SERVICE = re.compile(r"(?![.-])[A-Za-z0-9:_.@\\+-]+|-\.mount")
NO_SERVICE = "is no service's name: it has letters, digits and :_.@\\+- only, and begins with no dot or dash"


def unfit_for_linux(role: Role) -> Iterator[tuple[Path, str]]:
    """(path below the role, what is wrong) of all that needs Windows."""
    for path, message in not_on_linux(role.setup):
        yield ("setup", *path), message
    for number, name in enumerate(role.ready.services or ()):
        if not _SERVICE.fullmatch(name):
            yield ("ready", "services", number), f"{name!r:.80} {NO_SERVICE}"
    for disk in role.disks:
        if has_drive(disk.mount):
            kind = "volumes" if disk.kind is DiskKind.VOLUME else "local_storage"
            yield (kind, disk.name, "mount"), f"{disk.mount} is for Windows, and the image is no Windows"


def not_on_linux(setup: Setup) -> Iterator[tuple[Path, str]]:
    """(path below ``setup``, what is wrong) of all that needs Windows."""
    for when, field in _FIELDS.items():
        commands = [command for command in setup.commands if command.when is when]
        for number, command in enumerate(commands):
            if command.shell is Shell.POWERSHELL:
                yield (field, number), "is for PowerShell, and the image is no Windows"
    for number, user in enumerate(setup.users):
        yield from ((("users", number, *path), why) for path, why in _user(user))
    only = {"domain_join": setup.join, "license_key": setup.license_key, "unattend": setup.unattend}
    for field, value in only.items():
        if value:
            yield (field,), "is for Windows, and the image is no Windows"
    own = [certificate for certificate in setup.certificates if not certificate.is_root]
    for number, certificate in enumerate(own):
        is_pem = not isinstance(certificate.content, str) or PEM in certificate.content
        if not is_pem or certificate.password is not None:
            yield (
                ("certificates", number),
                "is PKCS #12, or has a password: on Linux it must be PEM, and its key in clear",
            )


def _user(user: User) -> Iterator[tuple[Path, str]]:
    if not _ACCOUNT.fullmatch(user.name):
        yield ("name",), f"{user.name!r} can be no account of Linux: of a-z, 0-9, _ and -, up to 32, no digit first"
    for number, group in enumerate(user.groups):
        if not _GROUP.fullmatch(group):
            yield ("groups", number), f"{group!r:.60} can be no group of Linux: of a-z, 0-9, _ and -, no digit first"
