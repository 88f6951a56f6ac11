"""Roles' names: each is also a name in the deployment's DNS, beside those of all instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.config.reading import problem, roles
from orchestrator.model.names import parse_instance_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.config.reading import Places
    from orchestrator.errors import Problem


def problems(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """Every role that is called as an instance of another role is, or would be with more of them."""
    known = {str(path[-1]) for path, _role in roles(raw)}
    for name in sorted(known):
        instance = parse_instance_name(name)
        if instance is not None and instance[0] in known:
            why = f"is also the name of an instance of role {instance[0]}: both are names in the deployment's DNS"
            yield problem(places, ("roles", name), why)
