"""The form of a role's `autoscale:`, and what of it does not fit the rest of the role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from orchestrator.config.endpointform import ports_of
from orchestrator.config.fields import STRICT
from orchestrator.config.quantities import bounded, seconds
from orchestrator.config.reading import mapping, problem, roles
from orchestrator.model.load import Autoscale, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.config.reading import Places
    from orchestrator.errors import Problem

MAX_INSTANCES = 200
Count = Annotated[int, Field(ge=1, le=MAX_INSTANCES)]
FIGURES = [figure.value for figure in Figure]


class _Form(BaseModel):
    model_config = STRICT


class TargetForm(_Form):
    """One figure, and what it should be for each instance."""

    sessions_per_instance: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    requests_per_second: Annotated[float, Field(gt=0, le=1_000_000)] | None = None
    cpu_percent: Annotated[float, Field(ge=1, le=100)] | None = None

    @model_validator(mode="after")
    def _is_one(self) -> TargetForm:
        if len(self._given()) != 1:
            raise ValueError(f"needs one of {', '.join(FIGURES)}, and one only")
        return self

    def _given(self) -> list[tuple[Figure, float]]:
        values = {figure: getattr(self, figure.value) for figure in Figure}
        return [(figure, float(value)) for figure, value in values.items() if value is not None]

    def value(self) -> tuple[Figure, float]:
        return self._given()[0]


class AutoscaleForm(_Form):
    """Between which numbers a role's follows which figure, and how fast."""

    min: Count = 1
    max: Count
    target: TargetForm
    cool_down: Annotated[float, BeforeValidator(bounded(seconds, "5s", "24h"))] = 120.0

    def value(self) -> Autoscale:
        figure, target = self.target.value()
        return Autoscale(self.min, self.max, figure, target, self.cool_down)


def problems(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """What does not go together; read from the file as it is, so that it is told with all else that is wrong."""
    for path, role in roles(raw):
        if "autoscale" not in role or not isinstance(role["autoscale"], dict):
            continue
        wish, endpoints = mapping(role, "autoscale"), mapping(role, "endpoints")
        least, most, count = wish.get("min", 1), wish.get("max"), role.get("instances")
        here = (*path, "autoscale")
        if not isinstance(least, int) or not isinstance(most, int):
            continue
        if least > most:
            yield problem(places, (*here, "max"), f"must be at least min, which is {least}; got {most}")
        elif isinstance(count, int) and not least <= count <= most:
            yield problem(
                places, (*path, "instances"), f"must be from {least} to {most}, as autoscale says; got {count}"
            )
        offered = {name: mapping(endpoints, name) for name in endpoints}
        on_vip = {name: e for name, e in offered.items() if e.get("visibility", "input") != "internal"}
        if not on_vip and "cpu_percent" not in mapping(wish, "target"):
            yield problem(places, (*here, "target"), "needs an endpoint on the VIP: it is HAProxy that counts there")
        for name, endpoint in on_vip.items():
            ports = len(ports_of(endpoint.get("port")))
            if endpoint.get("visibility") == "instance" and 0 < ports < most:
                yield problem(
                    places, (*path, "endpoints", name, "port"), f"has {ports} ports for up to {most} instances"
                )
