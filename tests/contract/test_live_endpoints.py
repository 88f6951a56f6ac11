"""Endpoints that come, change and go on a live service: who is connected to another one notices nothing."""

import contextlib
import socket
import threading
from dataclasses import replace

import pytest

from orchestrator.model.action import Frontend, Server
from orchestrator.model.spec import Protocol, Traffic
from orchestrator.model.traffic import Balance

from .netns import eventually

pytestmark = pytest.mark.real

VIP, SECOND = "198.51.100.1", "198.51.100.2"
LASTING = Traffic(idle_s=3600.0)
ONE = Frontend("hello.production.web.one", VIP, 81, Protocol.TCP, traffic=LASTING)
TWO = Frontend("hello.production.web.two", VIP, 82, Protocol.TCP)
STEPS = {
    "another one comes": [ONE, TWO],
    "it has another port": [ONE, replace(TWO, port=83)],
    "it has another rule": [ONE, replace(TWO, port=83, traffic=Traffic(balance=Balance.LEASTCONN))],
    "it has another address": [ONE, replace(TWO, vip=SECOND)],
    "it goes": [ONE],
}


@pytest.fixture
def echo(space):
    """A server that gives back what it is sent, for as long as somebody is there."""
    listener = space.inside(lambda: socket.create_server(("127.0.0.1", 0)))

    def serve(link):
        with link, contextlib.suppress(OSError):
            while said := link.recv(4096):
                link.sendall(said)

    def listen():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=listen)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def lives(link, word):
    link.sendall(word.encode())
    return link.recv(4096).decode() == word


def test_a_connection_outlives_every_change_of_other_endpoints(haproxy, space, echo):
    def servers(fronts):
        return [Server(front.name, "web-0.g1", "127.0.0.1", echo) for front in fronts]

    def reach(front):
        with space.connect(front.vip, front.port) as other:
            return lives(other, "new")

    haproxy.add_vip(VIP)
    haproxy.configure([ONE], servers([ONE]))
    with space.connect(VIP, 81) as link:
        assert lives(link, "first")
        for what, fronts in STEPS.items():
            for front in fronts:
                haproxy.add_vip(front.vip)
            haproxy.configure(fronts, servers(fronts))
            assert lives(link, what), what
            assert all(reach(front) for front in fronts), what
        # What the old processes still serve is known, so that an address is not taken from under them.
        assert haproxy.observe().left == 1
        assert SECOND in haproxy.observe().added
    eventually(lambda: haproxy.observe().left == 0)
