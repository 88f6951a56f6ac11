"""A guest that becomes busy brings the next look forward; one that stays as it was, and one that is silent, do not."""

import threading

from orchestrator.control import glances
from orchestrator.control.glances import Glances
from orchestrator.errors import AgentSilent
from orchestrator.model.names import InstanceId, MachineId
from tests.fakes.build import HELLO

FIRST, SECOND = (MachineId(InstanceId(HELLO, "web", number), 1) for number in (0, 1))


class Guests:
    """Who is busy; a guest that is in neither list is silent."""

    def __init__(self) -> None:
        self.busy = {FIRST: False, SECOND: False}
        self.asked = threading.Semaphore(0)

    def is_busy(self, _host, machine) -> bool:
        self.asked.release()
        if machine not in self.busy:
            raise AgentSilent("x")
        return self.busy[machine]

    def round(self) -> None:
        for _question in range(4):  # two whole rounds: the first may have begun before
            assert self.asked.acquire(timeout=5)


def test_only_a_change_wakes_and_once(monkeypatch):
    monkeypatch.setattr(glances, "GLANCE_S", 0.001)
    guests, woken = Guests(), []
    made = Glances({"local": object()}, guests, lambda: woken.append(1))
    made.expect({"local": {FIRST: False, SECOND: False}})
    made.begin()
    made.begin()
    guests.round()
    assert not woken
    guests.busy[FIRST] = True
    guests.round()
    guests.round()
    assert len(woken) == 1
    made.expect({"local": {FIRST: True, SECOND: False}})
    guests.round()
    assert len(woken) == 1
    guests.busy[FIRST] = False
    guests.round()
    guests.round()
    assert len(woken) == 2
    del guests.busy[SECOND]
    guests.round()
    guests.round()
    assert len(woken) == 2
    made.close()


def test_one_that_hangs_keeps_no_other_waiting_and_is_left_alone(monkeypatch):
    monkeypatch.setattr(glances, "GLANCE_S", 0.001)
    hung, guests, woken, asked = threading.Event(), Guests(), threading.Event(), []

    def is_busy(_host, machine):
        asked.append(machine)
        guests.asked.release()
        if machine is FIRST:
            assert hung.wait(timeout=10)
            raise AgentSilent("x")
        return guests.busy[machine]

    guests.is_busy = is_busy
    made = Glances({"local": object()}, guests, woken.set)
    made.expect({"local": {FIRST: False, SECOND: False}})
    made.begin()
    guests.busy[SECOND] = True
    assert woken.wait(timeout=5)
    hung.set()
    later = len(asked) + 20
    deadline = threading.Event()
    while len(asked) < later and not deadline.wait(0.01):
        pass
    made.close()
    assert asked.count(FIRST) == 1
