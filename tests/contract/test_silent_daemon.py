"""A daemon that is stopped: its socket accepts, and nothing is ever said. Only who came first is kept waiting."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.config.site import DIP_POOL, HostSite
from orchestrator.control.observe import Observer
from orchestrator.drivers.host import LibvirtHost
from orchestrator.errors import HostAway
from orchestrator.model.record import Intent
from tests.fakes.balancer import FakeBalancer
from tests.fakes.build import OWNER
from tests.fakes.clock import FakeClock
from tests.fakes.faults import Faults
from tests.fakes.guests import FakeGuests, Script

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path):
    """A socket that accepts by itself (its backlog does), as a stopped daemon's; closing it is the daemon's death."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        made.bind(str(tmp_path / "socket"))
        made.listen(8)
        yield made


@pytest.fixture
def silent(server):
    uri = f"qemu+unix:///system?socket={server.getsockname()}"
    return LibvirtHost(HostSite("far", uri, DIP_POOL, "nat", "kvm"), OWNER)


def test_who_comes_second_is_told_at_once_and_who_came_first_when_it_ends(silent, server):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(silent.observe)
        time.sleep(0.5)
        begun = time.monotonic()
        with pytest.raises(HostAway, match="does not let us in"):
            silent.observe()
        assert time.monotonic() - begun < 3
        assert not first.done()
        server.close()
        with pytest.raises(HostAway, match="does not answer"):
            first.result(timeout=10)


def test_a_look_waits_for_it_once(silent):
    observer = Observer({"far": silent}, FakeGuests(FakeClock(), lambda _name: Script()), FakeBalancer(Faults()))
    taken = []
    for turn in range(3):
        begun = time.monotonic()
        world = observer.look(Intent(OWNER), {}, frozenset(), float(turn))
        taken.append(time.monotonic() - begun)
        assert "far does not answer" in world.hosts["far"].problem
    assert taken[0] < 9
    assert max(taken[1:]) < 0.3
    observer.close()
