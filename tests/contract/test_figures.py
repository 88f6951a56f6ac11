"""The figures that HAProxy has of real traffic, which a role's number may follow."""

import pytest

from orchestrator.model.action import Frontend, Server
from orchestrator.model.spec import Protocol
from orchestrator.model.world import BackendSeen

from .netns import eventually, web

pytestmark = pytest.mark.real

VIP = "198.51.100.1"
HTTP = Frontend("hello.production.web.http", VIP, 80, Protocol.HTTP)
TCP = Frontend("hello.production.web.tcp", VIP, 81, Protocol.TCP)
MORE = Frontend("hello.production.web.more", VIP, 82, Protocol.TCP)


@pytest.fixture
def one(haproxy, space):
    """A web server behind both frontends."""
    with web(space, "one") as made:
        haproxy.add_vip(VIP)
        servers = [Server(front.name, "web-0.g1", "127.0.0.1", made.port) for front in (HTTP, TCP, MORE)]
        haproxy.configure([HTTP, TCP], servers[:2])
        made.servers = servers
        yield made


@pytest.mark.usefixtures("one")
def test_requests_are_counted_and_connections_where_nobody_sees_requests(haproxy, space):
    assert [space.get(VIP, 80) for _again in range(3)] == ["one"] * 3
    assert [space.get(VIP, 81) for _again in range(4)] == ["one"] * 4
    eventually(lambda: [haproxy.observe().backends[front.name].requests for front in (HTTP, TCP)] == [3, 4])


def test_sessions_also_of_the_process_before_a_reload(haproxy, space, one):
    with space.connect(VIP, 81), space.connect(VIP, 81):
        eventually(lambda: haproxy.observe().backends[TCP.name].sessions == 2)
        haproxy.configure([HTTP, TCP, MORE], one.servers)
        with space.connect(VIP, 81):
            eventually(lambda: haproxy.observe().backends[TCP.name] == BackendSeen(3, 1))
    eventually(lambda: haproxy.observe().backends[TCP.name].sessions == 0)
