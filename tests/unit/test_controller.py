"""The controller: it keeps things true, sleeps when nothing happens, lets go when asked, and ends when told."""

import json
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestrator.cli import root
from orchestrator.cli.controller import unit_text
from orchestrator.cli.jsonlog import JsonLines
from orchestrator.control.controller import Controller
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.lease import FileLease
from orchestrator.drivers.notify import ServiceManager
from orchestrator.errors import Busy, StoreAway, UserError
from tests.fakes.build import HELLO, role, service
from tests.fakes.small import FakeLease
from tests.fakes.world import FakeWorld


class Listener:
    """Keeps what it was told."""

    def __init__(self, watchdog_s: float = 0.0) -> None:
        self.watchdog_s = watchdog_s
        self.told: list[dict[str, str]] = []
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def tell(self, **state: str) -> None:
        self.told.append(state)


@contextmanager
def running(world: FakeWorld, *, turns: int, lease: FakeLease | None = None, listener: Listener | None = None):
    """A controller that is told to end after so many turns."""
    plans: list = []
    listener = listener or Listener()
    with world.loop() as loop:
        yield (
            Controller(
                loop=loop,
                lease=lease or FakeLease(),
                store=world.store,
                clock=world.clock,
                teller=listener,
                is_over=lambda: len(plans) >= turns,
                begin=listener.begin,
                after=plans.append,
            ),
            plans,
        )


def test_brings_a_deployment_up_and_keeps_it_so():
    world = FakeWorld()
    world.up(service(role(instances=2)))
    listener = Listener()
    with running(world, turns=200, listener=listener) as (controller, plans):
        controller.run()
    assert plans[-1].deployments[0].state == "ready"
    assert listener.told[0] == {"READY": "1", "STATUS": "looks at its hosts"}
    assert {"STATUS": f"{HELLO}: ready", "WATCHDOG": "1"} in listener.told
    assert listener.told[-1] == {"STOPPING": "1"}


def test_is_woken_when_haproxy_dies():
    world = FakeWorld()
    world.up(service(role(instances=1)))
    with running(world, turns=2) as (controller, _plans):
        controller.run()
    assert world.clock.wake in world.balancer.wakes


def test_sleeps_as_long_as_the_plan_says_when_nothing_happens():
    world = FakeWorld()
    world.up(service(role(instances=1)))
    world.settle()
    begun = world.clock.now()
    with running(world, turns=5) as (controller, plans):
        controller.run()
    assert world.clock.now() - begun >= 4 * plans[-1].requeue_s


def test_a_changed_intent_ends_the_sleep():
    world = FakeWorld()
    world.up(service(role(instances=1)))
    world.settle()
    begun = world.clock.now()
    with running(world, turns=2) as (controller, plans):
        after = controller.after

        def change(plan) -> None:
            after(plan)
            if len(plans) == 1:
                world.up(service(role(instances=2)))

        object.__setattr__(controller, "after", change)
        controller.run()
    assert world.clock.now() - begun < 1.0
    assert len(plans[1].instances) == 2


def test_a_watchdog_hears_of_it_in_time():
    world = FakeWorld()
    listener = Listener(watchdog_s=2.0)
    begun = world.clock.now()
    with running(world, turns=5, listener=listener) as (controller, _plans):
        controller.run()
    assert world.clock.now() - begun <= 5 * 1.2


def test_lets_go_of_the_lease_when_asked_and_takes_it_again():
    world, lease = FakeWorld(), FakeLease(asked=4)
    with running(world, turns=2, lease=lease) as (controller, plans):
        controller.run()
    assert len(plans) == 2
    assert lease.held >= 2


def test_a_second_controller_is_told_so():
    lease = FakeLease("the controller, process 7")
    listener = Listener()
    with running(FakeWorld(), turns=1, lease=lease, listener=listener) as (made, _plans):
        with pytest.raises(Busy, match="process 7"):
            made.run()
        assert listener.begun == 0  # nothing is said of a beginning
        lease.other = ""
        made.run()
    assert listener.begun == 1


def test_waits_while_a_command_runs_the_loop():
    lease = FakeLease("process 7")
    world, listener = FakeWorld(), Listener()
    with running(world, turns=1, lease=lease, listener=listener) as (controller, plans):
        tell = listener.tell

        def told(**state: str) -> None:
            tell(**state)
            lease.other = ""

        listener.tell = told
        controller.run()
    assert len(plans) == 1
    assert listener.told[0] == {"STATUS": "waits: a command runs the loop", "WATCHDOG": "1"}


def test_a_turn_that_cannot_be_taken_is_tried_again(caplog):
    world = FakeWorld()
    with running(world, turns=1) as (controller, plans):
        intent, calls = world.store.intent, []

        def away():
            calls.append(1)
            if len(calls) == 1:
                raise StoreAway("the store cannot be used now: the disk is full")
            return intent()

        world.store.intent = away
        controller.run()
    assert len(plans) == 1
    assert "the disk is full" in caplog.text


# --- the lease --------------------------------------------------------------------------------------------------


@pytest.fixture
def lease(tmp_path: Path) -> FileLease:
    return FileLease(tmp_path / "loop.lock")


def test_a_command_gets_its_turn_from_a_controller(lease):
    clock, got = SystemClock(), threading.Event()

    def command() -> None:
        with lease.turn(clock, 5.0):
            got.set()

    with lease.try_hold(as_controller=True) as is_ours:
        assert is_ours
        thread = threading.Thread(target=command)
        thread.start()
        while not lease.is_asked():
            clock.wait(0.01)
        assert not got.is_set()
    assert got.wait(2.0)
    thread.join()
    assert not lease.is_asked()


def test_a_command_that_waits_in_vain_is_told_who_holds_it(lease):
    said = f"the controller, process {os.getpid()}"
    with lease.try_hold(as_controller=True), pytest.raises(Busy, match=said), lease.turn(SystemClock(), 0.2):
        raise AssertionError


def test_a_command_does_not_wait_for_another_command(lease):
    begun = SystemClock().now()
    with lease.try_hold(), pytest.raises(Busy, match=f"process {os.getpid()}"), lease.turn(SystemClock(), 30.0):
        raise AssertionError
    assert SystemClock().now() - begun < 5.0


def test_waiting_for_a_turn_opens_no_more_files(lease):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with lease.try_hold(as_controller=True), pytest.raises(Busy), lease.turn(SystemClock(), 0.5):
        raise AssertionError
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- systemd, and logs ------------------------------------------------------------------------------------------


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(path)
        link.settimeout(2.0)
        yield path, link


@pytest.mark.real
def test_systemd_is_told(listener):
    path, link = listener
    manager = ServiceManager(path, "30000000")
    manager.tell(READY="1", STATUS="two\nlines")
    assert link.recv(1000) == b"READY=1\nSTATUS=two lines"
    assert manager.watchdog_s == 30.0


@pytest.mark.real
def test_a_manager_that_does_not_read_keeps_nobody_waiting(listener):
    path, _link = listener
    begun = SystemClock().now()
    for _ in range(5000):
        ServiceManager(path, "").tell(STATUS="x" * 1000)
    assert SystemClock().now() - begun < 5.0


@pytest.mark.real
@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@vmrole-nobody"])
def test_nobody_to_tell_is_no_fault(address):
    manager = ServiceManager(address, "")
    manager.tell(READY="1")
    assert manager.watchdog_s == 0.0


def test_a_log_line_is_one_json_object():
    record = logging.LogRecord("x", logging.INFO, "f", 1, "two\n%s", ("lines",), None)
    record.event = {"subject": "hello", "actor": "loop"}
    line = JsonLines().format(record)
    assert "\n" not in line
    told = json.loads(line)
    assert (told["message"], told["subject"], told["level"]) == ("two\nlines", "hello", "info")


def test_the_unit_file_names_the_program_and_the_home():
    text = unit_text(Path("/opt/vmrole/bin/vmrole"), Path("/var/lib/vmrole"))
    assert "ExecStart=/opt/vmrole/bin/vmrole --home /var/lib/vmrole controller\n" in text
    assert "KillMode=process\n" in text
    assert "@" not in text


def test_a_unit_file_can_be_asked_of_a_module(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/orchestrator/__main__.py"])
    program = Path(sys.executable).with_name("vmrole")
    assert f"ExecStart={program} --home " in CliRunner().invoke(root, ["--home", "/x", "controller", "--unit"]).output


def test_a_path_with_a_meaning_in_a_unit_file_is_refused():
    with pytest.raises(UserError, match="a b"):
        unit_text(Path("/a b/vmrole"), Path("/x"))
