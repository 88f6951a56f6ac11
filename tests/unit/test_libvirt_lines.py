"""What keeps one guest from taking what belongs to all: the doorbell's patience, and the places for calls that hang."""

import contextlib

import pytest

from orchestrator.drivers._libvirt import LINES, MANY, WAKES, Doorbell, Lines
from orchestrator.errors import AgentSilent


class Bell:
    def __init__(self) -> None:
        self.at = 0.0
        self.rung = 0
        self.door = Doorbell(self.ring, lambda: self.at)

    def ring(self) -> None:
        self.rung += 1


def test_a_guest_that_flaps_wakes_once_a_second_in_the_end_and_hinders_no_other():
    bell = Bell()
    for _event in range(600):  # twenty a second for half a minute
        bell.door.ring("flapping")
        bell.at += 0.05
    assert bell.rung <= WAKES + 31
    before = bell.rung
    bell.door.ring("another")
    assert bell.rung == before + 1


def test_a_guest_that_was_calm_is_heard_at_once_again():
    bell = Bell()
    for _event in range(2 * WAKES):
        bell.door.ring("web")
    assert bell.rung == WAKES
    bell.at += WAKES
    for _event in range(WAKES):
        bell.door.ring("web")
    assert bell.rung == 2 * WAKES


def test_calm_domains_are_forgotten():
    bell = Bell()
    for number in range(2 * MANY):
        bell.door.ring(f"web-{number}")
    assert len(bell.door._left) <= MANY + 1


def test_each_call_has_a_connection_to_itself_and_the_first_comes_first():
    lines = Lines("local", "test:///default")
    with contextlib.ExitStack() as held:
        taken = [held.enter_context(lines.line(0.1)) for _call in range(LINES)]
        assert len({id(connection) for connection in taken}) == LINES
        with pytest.raises(AgentSilent, match="hang"), lines.line(0.01):
            pass
    with lines.line(0.1) as again:
        assert again is taken[0]
