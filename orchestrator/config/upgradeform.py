"""The form of a role's `upgrade:`: how a change that needs other machines goes through its instances."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from orchestrator.config.fields import STRICT
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


def _some(value: object) -> upgrade.Share:
    found = _share(value)
    if not found.amount:
        raise ValueError("must be at least 1")
    return found


class UpgradeForm(BaseModel):
    """How a change goes through the role."""

    model_config = STRICT

    max_unavailable: Annotated[upgrade.Share, BeforeValidator(_some)] = DEFAULT.max_unavailable

    def value(self) -> upgrade.Upgrade:
        return upgrade.Upgrade(max_unavailable=self.max_unavailable)
