"""`after:` of the roles: that each names other roles of the file, and that there is a first one.

Read from the file as it is, so that it is told together with whatever else is wrong in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.config.reading import problem, roles

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.config.reading import Places
    from orchestrator.errors import Problem


def problems(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """What is wrong with the order in which the roles are to be started."""
    order = {str(path[-1]): _names(role.get("after")) for path, role in roles(raw)}
    known = ", ".join(order)
    for name, before in order.items():
        for number, other in enumerate(before):
            place = ("roles", name, "after", number)
            if other == name:
                yield problem(places, place, "is the role itself, which would wait for itself for ever")
            elif other not in order:
                yield problem(places, place, f"there is no role {other!r:.60}; known: {known}")
            elif other in before[:number]:
                yield problem(places, place, f"{other} is given twice")
            elif (ring := _ring(name, other, order)) and min(ring) == name:
                told = ", ".join(f"{one} waits for {two}" for one, two in zip(ring, [*ring[1:], name], strict=True))
                yield problem(places, place, f"none of them would ever start: {told}")


def _names(value: object) -> list[str]:
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def _ring(name: str, other: str, order: Mapping[str, list[str]]) -> list[str]:
    """The roles from ``name`` by way of ``other`` back to before ``name``, each waiting for the next; [] if none."""
    paths, seen = [[name, other]], {name}
    while paths:
        path = paths.pop()
        if name in order.get(path[-1], []):
            return path
        seen.add(path[-1])
        paths += [[*path, after] for after in order.get(path[-1], []) if after not in seen]
    return []
