"""What did not work is told to every process of a home, while it is news."""

from pathlib import Path

import pytest

from orchestrator.control.settle import End, Settler
from orchestrator.drivers.board import FRESH_S, FileBoard
from orchestrator.errors import NoRoom
from orchestrator.model.world import Notice
from tests.fakes.build import HELLO, role, service
from tests.fakes.small import FakeLease
from tests.fakes.world import FakeWorld

FULL = Notice("the pool on host local is full", "make room", 1_700_000_000.0, "local", is_lasting=True, is_room=True)
NOW = 1_700_000_100.0


def test_what_is_posted_is_read_by_others_while_it_is_fresh(tmp_path: Path):
    path = tmp_path / "trouble.json"
    FileBoard(path).post({"balancer": FULL}, NOW)
    assert FileBoard(path).read(NOW + 1) == {"balancer": FULL}
    assert path.stat().st_mode & 0o777 == 0o600
    assert FileBoard(path).read(NOW + FRESH_S + 1) == {}
    FileBoard(path).post({}, NOW)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", '{"at": "x"}', '{"at": 1700000100.0, "told": {"a": {"other": 1}}}'])
def test_what_cannot_be_read_says_nothing(tmp_path: Path, text):
    path = tmp_path / "trouble.json"
    path.write_text(text)
    assert FileBoard(path).read(NOW) == {}


def test_whoever_only_watches_knows_why_the_loop_gets_no_further():
    world = FakeWorld()
    world.up(service(role(instances=1)))
    world.board.told = {str(HELLO): FULL}
    with world.loop() as loop:
        assert isinstance(loop.trouble()[str(HELLO)].error, NoRoom)
        assert loop.see().trouble == {str(HELLO): FULL.message}
        said: list[str] = []
        rest = Settler(loop, FakeLease("process 7"), world.clock, lambda _plan: None, said.append).settle(HELLO, 60)
    assert (rest.end, rest.error.message, rest.error.hint) == (End.REFUSED, FULL.message, FULL.hint)


def test_anothers_trouble_ends_nobodys_wait():
    world = FakeWorld()
    world.up(service(role(instances=1)))
    world.board.told = {"other.production.web-0": FULL}
    with world.loop() as loop:
        rest = Settler(loop, FakeLease("process 7"), world.clock, lambda _plan: None, lambda _text: None).settle(
            HELLO, 9
        )
    assert rest.end is End.TIMEOUT


def test_the_loop_that_runs_posts_what_did_not_work_and_takes_it_back():
    world = FakeWorld()
    world.up(service(role(instances=1)))
    world.balancer.is_away = True
    with world.loop() as loop:
        for _ in range(40):
            loop.tick()
            world.clock.pass_by(1.0)
        told = dict(world.board.told)
        world.balancer.is_away = False
        for _ in range(40):
            loop.tick()
            world.clock.pass_by(1.0)
    assert world.board.told == {}
    assert all(notice.message for notice in told.values())
