"""What each option of an endpoint does to real traffic, and what becomes of that when HAProxy is reloaded or dies."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import replace

import pytest

from orchestrator.errors import Refused
from orchestrator.model.action import Frontend, Server
from orchestrator.model.secret import SecretRef
from orchestrator.model.spec import Protocol, Tls, Traffic
from orchestrator.model.traffic import Balance, Check, Sticky
from orchestrator.model.world import ServerState

from .netns import Namespace, Web, answered, eventually, plain, processes_naming, web

pytestmark = pytest.mark.real

VIP = "198.51.100.1"
FRONT = Frontend("hello.production.web.http", VIP, 80, Protocol.HTTP)
OTHER = Frontend("hello.production.web.other", VIP, 81, Protocol.TCP)
QUICK = Check(interval_s=0.1, timeout_s=0.5, rise=1, fall=1)


def front(protocol: Protocol = Protocol.HTTP, path: str = "", **traffic: object) -> Frontend:
    return Frontend(FRONT.name, VIP, 80, protocol, path, Traffic(**traffic))


def behind(about: Web, ordinal: int = 0, backend: str = FRONT.name) -> Server:
    return Server(backend, f"web-{ordinal}.g1", "127.0.0.1", about.port)


@pytest.fixture
def balancer(haproxy):
    haproxy.add_vip(VIP)
    return haproxy


@pytest.fixture
def webs(space: Namespace):
    with web(space, "one") as one, web(space, "two") as two:
        yield one, two


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Makes self-signed certificates with their key, one PEM each."""

    def make(name: str) -> str:
        folder = tmp_path_factory.mktemp("pem")
        key, crt = folder / "key", folder / "crt"
        what = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        who = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        argv = ["openssl", "req", *what, *who, "-keyout", str(key), "-out", str(crt)]
        subprocess.run(argv, check=True, capture_output=True)
        return crt.read_text() + key.read_text()

    return make


def cookie_of(answer: str) -> str:
    (line,) = [row for row in answer.splitlines() if row.lower().startswith("set-cookie: VMROLE=".lower())]
    return line.partition(": ")[2].partition(";")[0]


def test_a_cookie_keeps_a_client_with_its_server_through_reload_and_death(balancer, space, webs, kill_haproxy):
    sticky = front(sticky=Sticky.COOKIE)
    one, two = (behind(about, ordinal) for ordinal, about in enumerate(webs))
    balancer.configure([sticky], [one])
    balancer.add_server(two, sticky)
    answers = [answered(space, VIP, 80) for _n in range(4)]
    cookies = {answer.rpartition("\r\n\r\n")[2]: cookie_of(answer) for answer in answers}
    assert set(cookies) == {"one", "two"}

    def stay() -> None:
        for name, cookie in cookies.items():
            assert {space.get(VIP, 80, headers=f"Cookie: {cookie}\r\n") for _n in range(4)} == {name}

    stay()
    balancer.configure([sticky, OTHER], [one, two])
    stay()
    kill_haproxy()
    balancer.configure([sticky], [two, one])
    stay()
    balancer.remove_server(one.backend, one.name)
    assert space.get(VIP, 80, headers=f"Cookie: {cookies['one']}\r\n") == "two"
    balancer.add_server(replace(one, name="web-0.g2"), sticky)  # a reimage: another generation at the same address
    stay()


def test_an_address_keeps_a_client_with_its_server_through_a_reload(balancer, space, webs):
    sticky = front(Protocol.TCP, sticky=Sticky.SOURCE)
    one, two = (behind(about, ordinal) for ordinal, about in enumerate(webs))
    balancer.configure([sticky], [one])
    assert space.get(VIP, 80) == "one"
    balancer.add_server(two, sticky)
    assert {space.get(VIP, 80) for _n in range(4)} == {"one"}
    assert {space.get(VIP, 80, source=f"127.0.0.{n}") for n in range(2, 8)} == {"one", "two"}
    before = {n: space.get(VIP, 80, source=f"127.0.0.{n}") for n in range(2, 8)}
    balancer.configure([sticky, OTHER], [two, one])
    eventually(lambda: {n: space.get(VIP, 80, source=f"127.0.0.{n}") for n in range(2, 8)} == before, 3)
    balancer.remove_server(one.backend, one.name)
    assert {space.get(VIP, 80) for _n in range(4)} == {"two"}


@pytest.mark.parametrize("rule", list(Balance))
def test_servers_come_and_go_under_every_rule(balancer, space, webs, rule):
    fair = front(balance=rule)
    one, two = (behind(about, ordinal) for ordinal, about in enumerate(webs))
    balancer.configure([fair], [one])
    balancer.add_server(two, fair)
    assert set(balancer.observe().servers) == {(s.backend, s.name) for s in (one, two)}
    balancer.remove_server(one.backend, one.name)
    assert {space.get(VIP, 80) for _n in range(3)} == {"two"}


def test_tls_ends_at_the_vip_and_a_new_certificate_is_served_after_a_reload(
    balancer, space, webs, folder, certificates, pem
):
    certificates |= {"store:one": pem("one.test"), "store:two": pem("two.test"), "store:bad": "no PEM"}
    fronts = {n: front(tls=Tls(SecretRef(f"store:{n}", f"key-{n}"))) for n in ("one", "two", "bad")}
    server = behind(webs[0])
    balancer.configure([fronts["one"]], [server])
    assert "x-forwarded-proto: https" in secure(space, certificates["store:one"], "one.test", "/headers").lower()
    kept = folder / "run/tls"
    assert {(path.name, path.stat().st_mode & 0o777) for path in kept.iterdir()} == {("key-one.pem", 0o600)}
    assert kept.stat().st_mode & 0o777 == 0o700
    with pytest.raises(Refused):
        balancer.configure([fronts["bad"]], [server])
    assert secure(space, certificates["store:one"], "one.test").endswith("one")
    balancer.configure([fronts["two"]], [server])
    assert secure(space, certificates["store:two"], "two.test").endswith("one")
    assert [path.name for path in kept.iterdir()] == ["key-two.pem"]
    assert "BEGIN" not in (folder / "run/haproxy.cfg").read_text()
    balancer.stop()
    assert not kept.exists()


def test_it_starts_again_while_its_secrets_cannot_be_read(balancer, space, webs, certificates, pem, kill_haproxy):
    certificate = pem("one.test")
    certificates["store:one"] = certificate
    given = front(tls=Tls(SecretRef("store:one", "key-one")))
    balancer.configure([given], [behind(webs[0])])
    kill_haproxy()
    del certificates["store:one"]
    balancer.configure([given], [behind(webs[0])])
    assert secure(space, certificate, "one.test").endswith("one")


def secure(space: Namespace, certificate: str, name: str, path: str = "/") -> str:
    context = ssl.create_default_context(cadata=certificate)
    with space.connect(VIP, 80) as link, context.wrap_socket(link, server_hostname=name) as safe:
        assert safe.version() == "TLSv1.3"
        safe.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        return b"".join(iter(lambda: safe.recv(65536), b"")).decode()


def test_https_is_handed_on_and_checked_by_tls(balancer, space, pem, tmp_path):
    kept = tmp_path / "own.pem"
    kept.write_text(pem("one.test"))
    with web(space, "one", certificate=kept) as one:
        balancer.configure([front(Protocol.HTTPS, "/healthz", check=QUICK)], [behind(one)])
        assert secure(space, kept.read_text(), "one.test").endswith("one")
        time.sleep(0.5)  # several checks
        assert balancer.observe().servers[FRONT.name, "web-0.g1"].up
    eventually(lambda: not balancer.observe().servers[FRONT.name, "web-0.g1"].up)


def test_the_proxy_protocol_tells_the_clients_address(balancer, space):
    heard: list[bytes] = []
    told = front(Protocol.TCP, proxy_protocol=True)
    with plain(space, heard) as port:
        server = Server(FRONT.name, "web-0.g1", "127.0.0.1", port)
        balancer.configure([told], [])
        balancer.add_server(server, told)
        with space.connect(VIP, 80, source="127.0.0.9") as link:
            link.sendall(b"hello")
            eventually(lambda: any(said.endswith(b"hello") for said in heard))
    (said,) = [said for said in heard if said.endswith(b"hello")]
    assert said.startswith(b"\r\n\r\n\0\r\nQUIT\n\x21\x11")
    assert socket.inet_aton("127.0.0.9") in said


@pytest.mark.parametrize("limit", ["max_connections", "max_per_instance"])
def test_what_is_beyond_a_limit_waits_and_is_served(balancer, space, webs, limit):
    one, _two = webs
    few = front(**{limit: 1})
    balancer.configure([few], [])
    balancer.add_server(behind(one), few)
    with space.connect(VIP, 80) as slow, space.connect(VIP, 80) as next_one:
        slow.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
        assert one.asked.wait(5)
        next_one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        next_one.settimeout(0.5)
        with pytest.raises(TimeoutError):
            next_one.recv(1)
        one.release.set()
        next_one.settimeout(10)
        assert b"".join(iter(lambda: next_one.recv(65536), b"")).endswith(b"one")


def test_a_connection_that_is_idle_for_too_long_is_closed(balancer, space, webs):
    balancer.configure([front(Protocol.TCP, idle_s=1.0)], [behind(webs[0])])
    with space.connect(VIP, 80) as link:
        begun = time.monotonic()
        assert link.recv(1) == b""
        assert 0.8 < time.monotonic() - begun < 5


def test_a_check_has_its_own_port_and_path_and_status(balancer, webs):
    one, two = webs
    for status, is_up in (((200, 399), False), ((404, 404), True)):
        check = replace(QUICK, port=two.port, status=status)
        balancer.configure([front(Protocol.TCP, "/missing", check=check)], [behind(one)])
        eventually(lambda is_up=is_up: balancer.observe().servers[FRONT.name, "web-0.g1"].up is is_up)
        time.sleep(0.3)
        assert balancer.observe().servers[FRONT.name, "web-0.g1"].up is is_up


def test_a_long_download_goes_on_while_another_endpoint_changes_and_is_drained_for(balancer, space, webs):
    one, two = webs
    servers = [behind(one), behind(two, 1)]
    balancer.configure([FRONT], servers[:1])
    with space.connect(VIP, 80) as slow:
        slow.sendall(b"GET /long HTTP/1.0\r\n\r\n")
        assert one.asked.wait(5)
        for port in (81, 82, 83):  # several reloads: the download is some generations of processes behind
            balancer.configure([FRONT, replace(OTHER, port=port)], servers)
        # The instance is to leave: what the first process still does for it counts.
        balancer.drain_server(FRONT.name, servers[0].name)
        assert balancer.observe().servers[FRONT.name, servers[0].name].sessions == 1
        balancer.configure([FRONT], servers[1:])
        left = balancer.observe().servers[FRONT.name, servers[0].name]
        assert (left.state, left.sessions) == (ServerState.DRAIN, 1)
        assert {space.get(VIP, 80) for _n in range(4)} == {"two"}
        one.release.set()
        answer = b"".join(iter(lambda: slow.recv(65536), b""))
    assert answer.partition(b"\r\n\r\n")[2] == b"x" * 4_000_000
    eventually(lambda: set(balancer.observe().servers) == {(FRONT.name, servers[1].name)})


def test_what_a_reload_left_is_cut_when_its_server_goes(balancer, space, webs):
    one, two = webs
    balancer.configure([FRONT], [behind(one)])
    with space.connect(VIP, 80) as slow:
        slow.sendall(b"GET /long HTTP/1.0\r\n\r\n")
        assert one.asked.wait(5)
        balancer.configure([FRONT, OTHER], [behind(two, 1)])
        balancer.remove_server(FRONT.name, "web-0.g1")
        assert set(balancer.observe().servers) == {(FRONT.name, "web-1.g1")}
        with contextlib.suppress(ConnectionResetError):
            assert len(b"".join(iter(lambda: slow.recv(65536), b""))) < 4_000_000


def test_no_request_fails_while_it_is_reloaded_again_and_again(balancer, space, webs):
    servers = [behind(about, ordinal) for ordinal, about in enumerate(webs)]
    balancer.configure([FRONT], servers)
    said: list[str] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            said.append(space.get(VIP, 80))

    askers = [threading.Thread(target=ask) for _n in range(3)]
    for asker in askers:
        asker.start()
    for n in range(6):
        balancer.configure([FRONT, replace(OTHER, port=90 + n)], servers)
    over.set()
    for asker in askers:
        asker.join()
    assert set(said) == {"one", "two"}
    assert len(said) > 50


def test_a_server_that_was_down_is_not_up_because_of_a_reload(balancer, space, webs):
    one, two = webs
    slow = front(check=Check(interval_s=3.0, rise=1, fall=1), path="/healthz")
    balancer.configure([slow], [behind(one)])
    two.is_ill.set()
    balancer.add_server(behind(two, 1), slow)
    eventually(lambda: not balancer.observe().servers[FRONT.name, "web-1.g1"].up)
    balancer.configure([slow, OTHER], [behind(one), behind(two, 1)])
    assert {key[1]: server.up for key, server in balancer.observe().servers.items()} == {
        "web-0.g1": True,
        "web-1.g1": False,
    }
    assert {space.get(VIP, 80) for _n in range(6)} == {"one"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_on_its_way_to_a_machine_that_is_gone_goes_to_another(balancer, space, webs, method):
    space.run("ip", "link", "add", "hole", "type", "veth", "peer", "name", "end")
    for device in ("hole", "end"):
        space.run("ip", "link", "set", device, "up")
    space.run("ip", "route", "add", "203.0.113.0/24", "dev", "hole")
    space.run("ip", "neigh", "add", "203.0.113.1", "lladdr", "02:00:00:00:00:01", "dev", "hole")
    gone = Server(FRONT.name, "web-1.g1", "203.0.113.1", 80)  # takes no connection, and refuses none
    balancer.configure([FRONT], [gone])
    with space.connect(VIP, 80) as link:
        link.sendall(f"{method} / HTTP/1.0\r\nContent-Length: 0\r\n\r\n".encode())
        eventually(lambda: balancer.observe().servers[FRONT.name, gone.name].sessions == 1)
        balancer.add_server(behind(webs[0]), FRONT)
        balancer.remove_server(gone.backend, gone.name)
        assert b"".join(iter(lambda: link.recv(65536), b"")).endswith(b"one")


@pytest.mark.parametrize("which", ["all", "worker", "master"])
def test_after_a_death_it_serves_within_two_seconds(balancer, space, webs, folder, which, capsys):
    servers = [behind(about, ordinal) for ordinal, about in enumerate(webs)]
    balancer.configure([FRONT], servers)
    woken = threading.Event()
    balancer.watch(woken.set)
    time.sleep(0.3)
    woken.clear()
    master, *workers = sorted(processes_naming(str(folder)))
    begun = time.monotonic()
    for pid in {"all": [master, *workers], "worker": workers, "master": [master]}[which]:
        os.kill(pid, signal.SIGKILL)
    assert woken.wait(2)
    eventually(lambda: not balancer.observe().running)
    balancer.configure([FRONT], servers)
    assert {space.get(VIP, 80) for _n in range(4)} == {"one", "two"}
    took = time.monotonic() - begun
    with capsys.disabled():
        print(f"\n{which} killed: serves again after {took:.2f} s")
    assert took < 2
    assert len(processes_naming(str(folder))) == 2


def test_its_folder_is_lost_and_no_second_one_runs_beside_it(balancer, space, webs, folder):
    one, two = webs
    balancer.configure([FRONT], [behind(one)])
    for path in (folder / "run").iterdir():
        path.unlink()
    (folder / "run").rmdir()
    assert not balancer.observe().running
    balancer.configure([FRONT], [behind(two, 1)])
    assert {space.get(VIP, 80) for _n in range(8)} == {"two"}
    assert len(processes_naming(str(folder))) == 2


def test_a_file_that_somebody_has_spoilt_is_written_anew(balancer, space, webs, folder, kill_haproxy):
    servers = [behind(webs[0])]
    balancer.configure([FRONT], servers)
    (folder / "run/haproxy.cfg").write_bytes(b"\xff\0 not a configuration\n")
    assert (balancer.observe().running, balancer.observe().saved) == (True, "")
    kill_haproxy()
    assert balancer.observe().saved == ""
    balancer.configure([FRONT], servers)
    assert space.get(VIP, 80) == "one"
