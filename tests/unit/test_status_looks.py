"""`vmrole status` looks again while what it would say is vague: the guest has been asked, and answers in a moment."""

import pytest

from orchestrator.cli.show import MORE_LOOKS, looked
from orchestrator.engine.plan import Plan
from orchestrator.engine.status import InstanceStatus, State
from orchestrator.model.record import Stage
from tests.fakes.build import HELLO, record
from tests.fakes.clock import FakeClock

VAGUE = "waiting for its services, 3 s"
NAMED = "waiting for services: broken (down): no such database, 4 s"


class Looking:
    """A loop of which each look gives the next reason, and the last one again and again."""

    def __init__(self, state, stage, *reasons):
        self._state, self._stage, self._reasons, self.looks = state, stage, list(reasons), 0

    def look(self):
        reason = self._reasons[min(self.looks, len(self._reasons) - 1)]
        self.looks += 1
        status = InstanceStatus(record(), self._state, self._stage, 0.0, reason)
        return None, Plan((), (), (), (status,), (), 1.0)


@pytest.mark.parametrize(
    ("state", "stage", "reasons", "looks"),
    [
        (State.STARTING, Stage.SERVICES, [VAGUE, NAMED], 2),
        (State.STARTING, Stage.SERVICES, [VAGUE, VAGUE, VAGUE, VAGUE, VAGUE], 1 + MORE_LOOKS),
        (State.STARTING, Stage.SERVICES, [NAMED], 1),
        (State.UNHEALTHY, Stage.ROTATION, ["HAProxy's check failed; it is looked at again", "httpd (down)"], 2),
        (State.READY, Stage.ROTATION, [""], 1),
        (State.SETUP, Stage.SETUP, ["waiting for setup to finish, 9 s"], 1),
    ],
)
def test_a_vague_reason_is_worth_another_look(state, stage, reasons, looks):
    loop = Looking(state, stage, *reasons)
    _intent, plan = looked(loop, FakeClock(), HELLO)
    assert loop.looks == looks
    assert plan.instances[0].reason == reasons[min(looks, len(reasons)) - 1]
