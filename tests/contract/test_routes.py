"""Two deployments that exchange their VIPs, on a real HAProxy: who gets which connection meanwhile."""

import threading
import time
from dataclasses import replace

import pytest

from orchestrator.model.action import Server
from orchestrator.model.spec import Protocol

from .netns import Web, eventually, web
from .test_balancer import BOTH, ONE, STAGED, SWAPPED, VIP, VIP2

pytestmark = pytest.mark.real


def behind(server: Server, about: Web) -> Server:
    return replace(server, port=about.port)


@pytest.fixture
def webs(space):
    with web(space, "one") as one, web(space, "two") as two:
        yield one, two


@pytest.fixture
def swappable(haproxy, webs):
    balancer = haproxy
    members = [behind(ONE, webs[0]), behind(STAGED, webs[1])]
    for vip in (VIP, VIP2):
        balancer.add_vip(vip)
    balancer.configure(BOTH, members)
    return balancer, members


def test_new_connections_go_to_the_other_backend_and_old_ones_finish(swappable, space, webs):
    balancer, members = swappable
    one, _two = webs
    assert (space.get(VIP, 80), space.get(VIP2, 80)) == ("one", "two")
    with space.connect(VIP, 80) as slow:
        slow.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        assert one.asked.wait(5)
        balancer.save(SWAPPED, members)
        balancer.route(SWAPPED)
        assert (space.get(VIP, 80), space.get(VIP2, 80)) == ("two", "one")
        one.release.set()
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.endswith(b"\r\n\r\none")
    balancer.route(BOTH)
    assert (space.get(VIP, 80), space.get(VIP2, 80)) == ("one", "two")


def test_a_connection_of_bytes_stays_where_it_is(haproxy, space, webs):
    balancer = haproxy
    one, two = webs
    fronts = tuple(replace(front, protocol=Protocol.TCP) for front in BOTH)
    for vip in (VIP, VIP2):
        balancer.add_vip(vip)
    balancer.configure(fronts, [behind(ONE, one), behind(STAGED, two)])
    with space.connect(VIP, 80) as old:
        old.sendall(b"GET /slow HTTP/1.0\r\n")
        eventually(lambda: balancer.observe().servers[ONE.backend, ONE.name].sessions == 1)
        balancer.route([replace(f, vip=s.vip) for f, s in zip(fronts, SWAPPED, strict=True)])
        assert space.get(VIP, 80) == "two"
        old.sendall(b"\r\n")
        assert one.asked.wait(5)
        one.release.set()
        assert b"".join(iter(lambda: old.recv(65536), b"")).endswith(b"\r\n\r\none")


def test_no_request_fails_while_ports_are_exchanged_again_and_again(swappable, space):
    balancer, members = swappable
    got: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            got.append(space.get(VIP, 80))

    askers = [threading.Thread(target=ask) for _n in range(2)]
    for asker in askers:
        asker.start()
    for round_ in range(20):
        fronts = BOTH if round_ % 2 else SWAPPED
        balancer.save(fronts, members)
        balancer.route(fronts)
        time.sleep(0.02)
    over.set()
    for asker in askers:
        asker.join()
    assert set(got) == {"one", "two"}


def test_killed_after_an_exchange_it_comes_back_with_it(swappable, space, kill_haproxy):
    balancer, members = swappable
    balancer.save(SWAPPED, members)
    balancer.route(SWAPPED)
    kill_haproxy()
    balancer.configure(SWAPPED, members)
    assert (space.get(VIP, 80), space.get(VIP2, 80)) == ("two", "one")


def test_a_map_that_was_begun_and_left_does_no_harm(swappable, space):
    balancer, _members = swappable
    balancer._ask("prepare map routes.map")  # who did this was killed
    balancer.route(SWAPPED)
    assert space.get(VIP, 80) == "two"
