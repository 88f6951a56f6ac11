"""The form of a role's `repair:`: the ladder's rungs, and how many instances may be disturbed at once."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from orchestrator.config.fields import STRICT
from orchestrator.config.quantities import bounded, seconds
from orchestrator.model import spec

DEFAULT = spec.Repair()
Wait = Annotated[float, BeforeValidator(bounded(seconds, "0s", "24h"))]


class _Form(BaseModel):
    model_config = STRICT


class RungForm(_Form):
    """How often a rung is tried (0: never), and how long its effect is waited for."""

    tries: Annotated[int, Field(ge=0, le=100)] | None = None
    wait: Wait | None = None

    def value(self, default: spec.Rung) -> spec.Rung:
        tries = default.tries if self.tries is None else self.tries
        return spec.Rung(tries, default.wait_s if self.wait is None else self.wait)


class RepairForm(_Form):
    """What is done about an instance that is not healthy."""

    grace: Wait = DEFAULT.grace_s
    max_percent: Annotated[int, Field(ge=1, le=100)] = DEFAULT.max_percent
    restart: RungForm = RungForm()
    reboot: RungForm = RungForm()
    reimage: RungForm = RungForm()
    relocate: RungForm = RungForm()

    def value(self) -> spec.Repair:
        return spec.Repair(
            True,
            self.grace,
            self.max_percent,
            self.restart.value(DEFAULT.restart),
            self.reboot.value(DEFAULT.reboot),
            self.reimage.value(DEFAULT.reimage),
            self.relocate.value(DEFAULT.relocate),
        )


def or_off(value: object) -> object:
    """``off`` → None; YAML 1.1 reads the bare word as false."""
    if value is False or value == "off":
        return None
    if not isinstance(value, dict | RepairForm):
        raise ValueError("must be off, or a mapping")  # noqa: TRY004 - pydantic collects these
    return value


MaybeRepair = Annotated[RepairForm | None, BeforeValidator(or_off)]


def repair_of(form: RepairForm | None) -> spec.Repair:
    return form.value() if form is not None else spec.Repair(is_on=False)
