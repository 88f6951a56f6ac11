"""A real HAProxy refuses what one service asks for: its words say whose it is, and all others come and go meanwhile."""

import contextlib
import socket
import time
from dataclasses import replace

import pytest

from orchestrator.control.apply import _apply_to_balancer
from orchestrator.engine.balance import Parting, balance
from orchestrator.engine.rotation import fingerprint, layout
from orchestrator.errors import Refused
from orchestrator.model.action import Frontend, Server
from orchestrator.model.secret import SecretRef
from orchestrator.model.spec import Protocol, Tls, Traffic

pytestmark = pytest.mark.real

VIP = "198.51.100.1"
FRONT = Frontend("hello.production.web.http", VIP, 80, Protocol.HTTP)
OTHER = Frontend("other.production.web.http", VIP, 81, Protocol.TCP)
ONE = Server(FRONT.name, "web-0.g1", "127.0.0.1", 9001)
TWO = Server(FRONT.name, "web-1.g1", "127.0.0.1", 9002)


@pytest.fixture
def running(haproxy):
    haproxy.add_vip(VIP)
    haproxy.configure([FRONT], [ONE])
    return haproxy


def test_it_says_whose_frontend_it_refuses(running, certificates, space):
    certificates["store:bad"] = "no PEM"
    bad = replace(OTHER, traffic=Traffic(tls=Tls(SecretRef("store:bad", "key"))))
    with pytest.raises(Refused, match="unable to load certificate"):
        running.configure([FRONT, bad], [ONE])
    assert running.observe().refused[layout([FRONT, bad])].backends == (bad.name,)
    with space.listening(VIP, OTHER.port), pytest.raises(Refused, match=f"'{OTHER.address}' is taken"):
        running.configure([FRONT, OTHER], [ONE])
    assert running.observe().refused[layout([FRONT, OTHER])].backends == (OTHER.name,)
    # A port that is bound, and nobody listens at: no program says so.
    with space.inside(socket.socket) as bound:
        space.inside(lambda: bound.bind((VIP, OTHER.port)))
        with pytest.raises(Refused, match=f"cannot listen at '{OTHER.address}'"):
            running.configure([FRONT, OTHER], [ONE])
    assert running.observe().refused[layout([FRONT, OTHER])].tries == 2


def test_a_folder_that_cannot_be_written_is_told_and_what_runs_goes_on(running, folder):
    (folder / "run" / ".haproxy.cfg.new").mkdir()
    with pytest.raises(Refused, match="HAProxy's folder cannot be written"):
        running.save([FRONT], [TWO])
    running.add_server(TWO, FRONT)
    seen = running.observe()
    assert (seen.saved, len(seen.servers), dict(seen.refused)) == (fingerprint([FRONT], [ONE]), 2, {})


def test_while_it_refuses_one_service_all_others_come_and_go(running, certificates):
    certificates["store:bad"] = "no PEM"
    bad = Frontend("bad.production.web.http", VIP, 82, Protocol.HTTP, "", Traffic(tls=Tls(SecretRef("store:bad"))))
    new = Frontend("new.production.web.http", VIP, 83, Protocol.HTTP)
    servers = (TWO, replace(TWO, backend=new.name))

    def turn(*wanted: Frontend) -> None:
        for action in balance(wanted, servers, running.observe(), Parting({}), now=time.time()):
            with contextlib.suppress(Refused):
                _apply_to_balancer(action, running)

    for _turn in range(3):
        turn(bad, FRONT, new)
    seen = running.observe()
    assert (seen.frontends, set(seen.servers), seen.saved) == (
        (FRONT, new),
        {(server.backend, server.name) for server in servers},
        fingerprint((FRONT, new), servers),
    )
    assert seen.refused[layout([bad, FRONT, new])].backends == (bad.name,)
    turn(FRONT, new)
    assert running.observe() == seen
