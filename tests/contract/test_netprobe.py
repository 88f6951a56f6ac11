"""Probes over a real network: from this one, and from a namespace that only a program's prefix leads to."""

import contextlib
import socket
import threading
import time

import pytest

from orchestrator.drivers.netprobe import probe
from orchestrator.drivers.place import Place
from orchestrator.errors import VmroleError
from orchestrator.model.spec import Probe
from tests.contract.netns import namespace, web

INTERIM = "it has only interim answers (1xx)"


@pytest.fixture(scope="module")
def space():
    with namespace() as made:
        yield made


@pytest.fixture
def place(space):
    made = Place(space.prefix)
    yield made
    made.close()


@contextlib.contextmanager
def answering(space, pieces, pause_s=0.0):
    """A server that answers whatever comes with these bytes, piece by piece."""
    server = space.inside(lambda: socket.create_server(("127.0.0.1", 0)))

    def serve():
        with contextlib.suppress(OSError):
            link, _address = server.accept()
            with link:
                link.recv(4096)  # what is not read when a connection ends is answered with a reset
                for piece in pieces:
                    link.sendall(piece)
                    time.sleep(pause_s)

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def ask(place, what):
    return place.ask(lambda: probe("127.0.0.1", what)).result(timeout=10)


def test_what_is_there_is_seen_from_the_place_and_only_from_there(space, place):
    with web(space, "a") as server:
        assert ask(place, Probe("tcp", server.port)) == ""
        assert ask(place, Probe("http", server.port, "/")) == ""
        assert ask(Place(), Probe("tcp", server.port)) == "connection refused"
        assert threading.active_count() < 10


def test_a_port_that_nobody_listens_on(place):
    assert ask(place, Probe("tcp", 1)) == "connection refused"
    assert ask(place, Probe("http", 1, "/")) == "connection refused"


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([b"HTTP/1.1 200 OK\r\n\r\n"], ""), ([b"HTTP/1.0 302 Found\r\n"], ""), ([b"HTTP", b"/1.1 204", b" x\n"], ""),
        ([b"HTTP/1.1 503 \x1b[2J\r\n"], "503"), ([b"HTTP/1.1 404 No\r\n"], "404"),
        ([b"SSH-2.0-dropbear\r\n"], "the answer is not HTTP"), ([b"HTTP/1.1 20x\r\n"], "the answer is not HTTP"),
        ([b"x" * 100_000], "the answer is not HTTP"), ([], "the answer is not HTTP"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"], ""), ([b"HTTP/1.1 100\n\nHTTP/1.1 204\n"], ""),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n", b"\r\nHTTP/1.1 102 x\r\n\r", b"\nHTTP/1.1 503 x\r\n"], "503"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], INTERIM), ([b"HTTP/1.1 100 Continue\r\n"], INTERIM),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 1000], INTERIM), ([b"HTTP/1.1 101 Switching\r\n\r\n"], "101"),
    ],
)  # fmt: skip
def test_answers(space, place, pieces, why):
    with answering(space, pieces) as port:
        said = ask(place, Probe("http", port, "/"))
    assert said in {why, "connection reset by peer"} if not why.isdigit() and why else said == why


def test_a_slow_answer_is_not_waited_for_byte_by_byte(space, place):
    begun = time.monotonic()
    with answering(space, [b"H"] * 30, pause_s=0.1) as port:
        assert ask(place, Probe("http", port, "/", timeout_s=0.5)) == "no answer within 0.5 s"
        assert time.monotonic() - begun < 1.5


def test_a_place_that_is_gone():
    gone = Place(("nsenter", "--target", "1999999", "--net"))
    with pytest.raises(VmroleError):
        ask(gone, Probe("tcp", 80))
