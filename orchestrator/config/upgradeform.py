"""The form of a role's `upgrade:`: how a change that needs other machines goes through its instances."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from orchestrator.config.fields import STRICT
from orchestrator.config.quantities import bounded, seconds
from orchestrator.model import upgrade

DEFAULT = upgrade.Upgrade()
MOST = 200
_PERCENT = re.compile(r"([0-9]{1,3})%")


def _share(value: object) -> upgrade.Share:
    """``2`` or ``"50%"``."""
    if isinstance(value, upgrade.Share):
        return value
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    amount = int(match.group(1)) if match is not None else value
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise ValueError("must be a number of instances, or a part of them like 25%")  # noqa: TRY004 - pydantic collects these
    most = 100 if match is not None else MOST
    if not 0 <= amount <= most:
        raise ValueError(f"must be from 0 to {most}{'%' if match is not None else ''}, got {value}")
    return upgrade.Share(amount, match is not None)


class UpgradeForm(BaseModel):
    """How a change goes through the role."""

    model_config = STRICT

    domains: Annotated[int, Field(ge=1, le=MOST)] = DEFAULT.domains
    max_unavailable: Annotated[upgrade.Share, BeforeValidator(_share)] = DEFAULT.max_unavailable
    max_surge: Annotated[upgrade.Share, BeforeValidator(_share)] = DEFAULT.max_surge
    min_ready: Annotated[float, BeforeValidator(bounded(seconds, "0s", "24h"))] = DEFAULT.min_ready_s
    timeout: Annotated[float, BeforeValidator(bounded(seconds, "1s", "24h"))] | None = DEFAULT.timeout_s
    automatic: bool = DEFAULT.is_automatic

    @model_validator(mode="after")
    def _goes_on(self) -> UpgradeForm:
        if not self.max_unavailable.amount and not self.max_surge.amount:
            raise ValueError("max_unavailable must be at least 1 without max_surge: nobody could be replaced")
        return self

    def value(self) -> upgrade.Upgrade:
        return upgrade.Upgrade(
            self.domains, self.max_unavailable, self.max_surge, self.min_ready, self.timeout, self.automatic
        )
