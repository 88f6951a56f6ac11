"""Paths of values as their service file has them: some fields stand elsewhere there, or have another word."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.config.reading import Path_
    from orchestrator.model.setup import Certificate
    from orchestrator.model.spec import Service

_SETUP: dict[str, Path_] = {"administrator_password": ("administrator", "password"), "join": ("domain_join",)}
_READY: dict[str, Path_] = {"ssh_key": ("ssh", "key")}


def written(path: Path_, service: Service) -> Path_:
    """A path inside the values of ``service``, as ``refs`` gives it, in the words of the file."""
    role = service.role(str(path[1])) if path[:1] == ("roles",) else None
    if role is None:
        return path
    here, rest = path[:3], path[3:]
    if here[2] == "setup":
        return (*here, *_in_setup(rest, role.setup.certificates))
    if here[2] == "ready":
        return (*here, *_READY.get(str(rest[0]), rest[:1]), *rest[1:])
    # Of an endpoint's traffic the fields are the endpoint's own.
    return (*here, rest[0], *rest[2:]) if here[2] == "endpoints" and rest[1:2] == ("traffic",) else path


def _in_setup(rest: Path_, certificates: tuple[Certificate, ...]) -> Path_:
    field, *below = rest
    if field == "certificates":
        return _certificate(int(below[0]), tuple(below[1:]), certificates)
    if field == "files" and below[1:] == ["content"]:
        return (field, below[0], "secret")
    return (*_SETUP.get(str(field), (field,)), *below)


def _certificate(number: int, below: Path_, certificates: tuple[Certificate, ...]) -> Path_:
    """Of authorities the file has a list of its own."""
    is_root = certificates[number].is_root
    place = sum(other.is_root == is_root for other in certificates[:number])
    field = "trusted_certificates" if is_root else "certificates"
    return (field, place, *(("secret",) if below == ("content",) else below))
