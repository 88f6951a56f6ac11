"""A service file's ``traffic``: which roles may reach an internal endpoint of their own deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, Field

from orchestrator.config.fields import STRICT
from orchestrator.config.reading import mapping, problem
from orchestrator.model import spec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from orchestrator.config.reading import Path_, Places
    from orchestrator.errors import Problem

ALL = "all"


def _origin(value: object) -> object:
    """The roles as they are told; None for all of them."""
    if value == ALL:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"must be a list of roles, or {ALL}")
    return value


class TrafficForm(BaseModel):
    """One rule: ``to`` is ROLE.ENDPOINT, ``from`` the roles that reach it, or ``all``."""

    model_config = STRICT

    to: str
    origin: Annotated[list[str] | None, BeforeValidator(_origin)] = Field(alias="from")

    def value(self, roles: Iterable[str]) -> spec.TrafficRule:
        role, _, endpoint = self.to.partition(".")
        return spec.TrafficRule(role, endpoint, tuple(roles if self.origin is None else dict.fromkeys(self.origin)))


def problems(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """What a rule names that is not there, or that no rule can be about."""
    rules = raw.get("traffic")
    for number, rule in enumerate(rules if isinstance(rules, list) else ()):
        if not isinstance(rule, dict):
            continue
        path: Path_ = ("traffic", number)
        if isinstance(rule.get("to"), str) and (told := _aim(raw, rule["to"])):
            yield problem(places, (*path, "to"), told)
        yield from _origins(raw, rule.get("from"), (*path, "from"), places)


def _aim(raw: dict[str, object], to: str) -> str:
    """What is wrong with where a rule leads; "" if nothing."""
    role, dot, endpoint = to.partition(".")
    if not dot:
        return f"must be ROLE.ENDPOINT, like db.pg, got {to!r:.60}"
    roles = mapping(raw, "roles")
    if role not in roles:
        return f"there is no role {role!r:.60}; known: {', '.join(map(str, roles))}"
    endpoints = mapping(mapping(roles, role), "endpoints")
    if endpoint not in endpoints:
        return f"role {role} has no endpoint {endpoint!r:.60}; known: {', '.join(map(str, endpoints)) or 'none'}"
    if mapping(endpoints, endpoint).get("visibility", "input") != "internal":
        return f"{to} is on the VIP, where everybody reaches it; a rule is for visibility: internal"
    return ""


def _origins(raw: dict[str, object], said: object, path: Path_, places: Places) -> Iterator[Problem]:
    roles = mapping(raw, "roles")
    for number, name in enumerate(said if isinstance(said, list) else ()):
        if isinstance(name, str) and name not in roles:
            told = f"there is no role {name!r:.60}; known: {', '.join(map(str, roles))}"
            yield problem(places, (*path, number), told)
