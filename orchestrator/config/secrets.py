"""Reading the secrets that a service file refers to, once, where the command runs: every problem at once."""

from __future__ import annotations

from stat import S_ISREG
from typing import TYPE_CHECKING

from orchestrator.config.certificates import without_certificate, wrong_certificate
from orchestrator.config.reading import path_text
from orchestrator.config.servicefile import line_of
from orchestrator.config.written import written
from orchestrator.errors import InvalidInput, Problem
from orchestrator.model.secret import MAX_BYTES, Secret, SecretRef, line_of_secret
from orchestrator.model.secretrefs import refs, with_refs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from orchestrator.model.secretrefs import Path as Path_
    from orchestrator.model.spec import Service

    Lookup = Callable[[str], Secret | None]

ONE_LINE = "is not one line of printable characters"
_OF_ONE_LINE = {"password", "password_hash", "administrator_password", "license_key"}
HINT = "nothing was changed; `vmrole secret --help` tells where a secret can be"


def resolved(
    service: Service, file: Path, *, env: Mapping[str, str], stored: Lookup, digest: Callable[[Secret], str]
) -> tuple[Service, dict[str, Secret]]:
    """The service with a key for each secret, and the values by their keys.

    ``file``: the service file, which ``file:`` is relative to. ``stored``: the value under a name of `vmrole secret`.
    Raises InvalidInput.
    """
    found: dict[str, Secret | str] = {}
    problems = []
    for path, ref in refs(service):
        if ref.source not in found:
            found[ref.source] = _checked(_read(ref.source, file.parent, env, stored))
        value = found[ref.source]
        if wrong := value if isinstance(value, str) else _misused(path, value, service):
            problems.append(_problem(file, written(path, service), f"the secret {ref.source} {wrong}"))
    if problems:
        raise InvalidInput(str(file), tuple(problems), HINT)
    values = {source: value for source, value in found.items() if isinstance(value, Secret)}
    keys = {source: digest(value) for source, value in values.items()}
    known = with_refs(service, lambda ref: SecretRef(ref.source, keys[ref.source]))
    return known, {keys[source]: value for source, value in values.items()}


def _misused(path: Path_, value: Secret, service: Service) -> str:
    """Why a value cannot be what it is to be at its place; "" if it can, or if only the guest will tell."""
    if path[-2:] == ("tls", "certificate"):
        return wrong_certificate(value)
    if path[2:4] == ("setup", "certificates") and path[5:] == ("content",):
        return without_certificate(value, is_authority=written(path, service)[3] == "trusted_certificates")
    return "" if path[-1] not in _OF_ONE_LINE or line_of_secret(value.reveal()) else ONE_LINE


def _read(source: str, folder: Path, env: Mapping[str, str], stored: Lookup) -> Secret | str:
    """A secret's value, or what is wrong with its source."""
    kind, _, rest = source.partition(":")
    if kind == "file":
        return _read_file(folder / rest)
    if kind == "env":
        return Secret(env[rest].encode(errors="surrogateescape")) if rest in env else "is not set in the environment"
    return stored(rest) or f"is not there: `vmrole secret set {rest}` stores it"


def _read_file(path: Path) -> Secret | str:
    try:
        if not S_ISREG(path.stat().st_mode):
            return "is not a regular file"
        with path.open("rb") as file:
            return Secret(file.read(MAX_BYTES + 1))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"


def _checked(value: Secret | str) -> Secret | str:
    if isinstance(value, str):
        return value
    return wrong if (wrong := unfit(value)) else value


def unfit(value: Secret) -> str:
    """Why nobody can use such a secret; "" if it is fit."""
    if not value.reveal():
        return "is empty"
    return f"is larger than {MAX_BYTES // 1024} KiB" if len(value.reveal()) > MAX_BYTES else ""


def _problem(file: Path, path: Path_, message: str) -> Problem:
    return Problem(path_text(path), message, line_of(file.read_bytes().decode(errors="surrogateescape"), path))
