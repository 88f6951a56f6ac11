"""When an answer that was waited for, or comes late, is used; and when it is asked for again."""

import threading

import pytest

from orchestrator.control.looks import STALE_S, Look, await_all
from orchestrator.control.workers import Workers
from orchestrator.errors import HostAway


class Subject:
    """What is looked at: it counts, and answers when its gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.asked = 0
        self.woken = threading.Event()
        self.workers = Workers(1, name="look")
        self.look: Look[int] = Look()

    def __call__(self) -> int:
        self.asked += 1
        self.gate.wait()
        return self.asked

    def turn(self, now: float) -> int | None:
        self.look.ask(self.workers, self, now)
        await_all([self.look], 0.1)
        return self.look.take(self.woken.set)

    def end(self) -> None:
        self.gate.set()
        assert self.woken.wait(5)


@pytest.fixture
def subject():
    made = Subject()
    yield made
    made.gate.set()
    made.workers.close()


def test_it_is_asked_anew_in_every_turn_that_has_its_answer(subject):
    subject.gate.set()
    assert [subject.turn(now) for now in range(3)] == [1, 2, 3]


def test_a_late_answer_is_the_next_turns_and_it_is_asked_once(subject):
    assert [subject.turn(now) for now in range(3)] == [None] * 3
    assert (subject.look.is_slow, subject.asked) == (True, 1)
    subject.end()
    assert subject.turn(3) == 1
    subject.look.is_slow = False
    assert subject.turn(4) == 2


def test_a_late_answer_that_was_outdated_meanwhile_is_not_used(subject):
    subject.turn(0)
    subject.look.void()
    subject.end()
    subject.look.is_slow = False
    assert subject.turn(1) == 2
    assert subject.look.last == 2


def test_an_answer_that_was_outdated_in_the_turn_that_asked_is_that_turns_only(subject):
    subject.gate.set()
    subject.look.ask(subject.workers, subject, 0)
    subject.look.void()
    await_all([subject.look], 1)
    assert subject.look.take(subject.woken.set) == 1
    assert subject.look.last is None


def test_a_late_answer_that_nobody_came_for_is_asked_for_again(subject):
    subject.turn(0)
    subject.end()
    subject.look.is_slow = False
    assert subject.turn(STALE_S + 1) == 2


def test_what_a_look_raised_is_raised_once(subject):
    def fail() -> int:
        raise HostAway("away")

    subject.look.ask(subject.workers, fail, 0)
    await_all([subject.look], 1)
    with pytest.raises(HostAway):
        subject.look.take(subject.woken.set)
    subject.gate.set()
    assert subject.turn(1) == 1
