"""What every balancer promises, and what HAProxy does with traffic meanwhile."""

import contextlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.drivers.haproxy import HaproxyBalancer
from orchestrator.engine.rotation import fingerprint, layout, routes, signature
from orchestrator.errors import Refused
from orchestrator.model.action import Frontend, Server
from orchestrator.model.spec import Protocol, Traffic
from orchestrator.model.traffic import Check
from orchestrator.model.world import BackendSeen, ServerState
from tests.fakes.balancer import FakeBalancer

from .conftest import no_certificate, site
from .netns import Namespace, Web, eventually, processes_naming, web

VIP = "198.51.100.1"
FRONT = Frontend("hello.production.web.http", VIP, 80, Protocol.HTTP)
OTHER = Frontend("hello.production.web.other", VIP, 81, Protocol.TCP)
ONE = Server(FRONT.name, "web-0.g1", "127.0.0.1", 9001)
TWO = Server(FRONT.name, "web-1.g1", "127.0.0.1", 9002)
VIP2 = "198.51.100.2"
BOTH = (FRONT, Frontend("hello.staging.web.http", VIP2, 80, Protocol.HTTP))
SWAPPED = tuple(replace(front, vip=vip) for front, vip in zip(BOTH, (VIP2, VIP), strict=True))
STAGED = replace(TWO, backend=BOTH[1].name, name="web-0.g1")


def keys(*servers: Server) -> set[tuple[str, str]]:
    return {(server.backend, server.name) for server in servers}


class BalancerContract:
    """``balancer`` does not run yet."""

    @pytest.fixture
    def running(self, balancer):
        balancer.add_vip(VIP)
        balancer.configure([FRONT], [ONE])
        return balancer

    def test_it_does_not_run_at_first(self, balancer):
        seen = balancer.observe()
        assert (seen.running, seen.layout, seen.saved, seen.problem, dict(seen.servers)) == (False, "", "", "", {})
        assert VIP not in seen.vips

    def test_it_runs_as_configured(self, running):
        seen = running.observe()
        assert (seen.running, seen.layout, seen.problem) == (True, layout([FRONT]), "")
        assert seen.saved == fingerprint([FRONT], [ONE])
        assert seen.backends == {FRONT.name: BackendSeen(0, 0)}
        server = seen.servers[ONE.backend, ONE.name]
        assert (server.address, server.port, server.state) == (ONE.address, ONE.port, ServerState.READY)

    def test_configuring_it_again_is_no_change(self, running):
        before = running.observe()
        running.configure([FRONT], [ONE])
        after = running.observe()
        assert (after.layout, after.saved, set(after.servers)) == (before.layout, before.saved, set(before.servers))

    def test_other_frontends_and_servers_take_the_place_of_the_old(self, running):
        running.configure([FRONT, OTHER], [TWO])
        seen = running.observe()
        assert (seen.layout, set(seen.servers)) == (layout([FRONT, OTHER]), keys(TWO))

    def test_saving_changes_the_file_only(self, running):
        running.save([FRONT], [TWO])
        seen = running.observe()
        assert seen.saved == fingerprint([FRONT], [TWO])
        assert (seen.layout, set(seen.servers)) == (layout([FRONT]), keys(ONE))

    @pytest.fixture
    def two_slots(self, running):
        running.add_vip(VIP2)
        running.configure(BOTH, [ONE, STAGED])
        return running

    def test_it_tells_which_port_leads_where(self, two_slots):
        assert two_slots.observe().routes == signature(routes(BOTH))

    def test_ports_that_are_exchanged_there_and_back(self, two_slots):
        layout_before = two_slots.observe().layout
        for fronts in (SWAPPED, SWAPPED, BOTH, SWAPPED):
            two_slots.save(fronts, [ONE, STAGED])
            two_slots.route(fronts)
            seen = two_slots.observe()
            assert (seen.routes, seen.layout) == (signature(routes(fronts)), layout_before)
            assert seen.saved == fingerprint(fronts, [ONE, STAGED])
            assert set(seen.servers) == keys(ONE, STAGED)

    def test_a_reload_starts_with_the_ports_as_they_are_now(self, two_slots):
        two_slots.route(SWAPPED)
        two_slots.configure([*SWAPPED, OTHER], [ONE, STAGED])
        assert two_slots.observe().routes == signature(routes([*SWAPPED, OTHER]))

    def test_after_its_death_ports_lead_where_the_file_says(self, two_slots, kill):
        two_slots.save(SWAPPED, [ONE, STAGED])
        two_slots.route(SWAPPED)
        kill()
        two_slots.configure(SWAPPED, [ONE, STAGED])
        assert two_slots.observe().routes == signature(routes(SWAPPED))

    def test_a_server_comes_to_a_backend_whose_port_was_exchanged(self, two_slots):
        two_slots.route(SWAPPED)
        two_slots.add_server(TWO, SWAPPED[0])
        assert set(two_slots.observe().servers) == keys(ONE, TWO, STAGED)

    def test_adding_a_server_twice(self, running):
        for _again in range(2):
            running.add_server(TWO, FRONT)
            assert set(running.observe().servers) == keys(ONE, TWO)
            assert running.observe().servers[TWO.backend, TWO.name].state is ServerState.READY

    def test_removing_a_server_twice(self, running):
        for _again in range(2):
            running.remove_server(ONE.backend, ONE.name)
            assert running.observe().servers == {}

    def test_draining_a_server_twice(self, running):
        for _again in range(2):
            running.drain_server(ONE.backend, ONE.name)
            assert running.observe().servers[ONE.backend, ONE.name].state is ServerState.DRAIN

    def test_a_drained_server_comes_back_when_it_is_added(self, running):
        running.drain_server(ONE.backend, ONE.name)
        running.add_server(ONE, FRONT)
        assert running.observe().servers[ONE.backend, ONE.name].state is ServerState.READY

    def test_a_drained_server_goes(self, running):
        running.drain_server(ONE.backend, ONE.name)
        running.remove_server(ONE.backend, ONE.name)
        assert running.observe().servers == {}

    @pytest.mark.parametrize("backend", [FRONT.name, "nothing"])
    def test_a_server_that_is_not_there_is_drained_and_removed_already(self, running, backend):
        running.drain_server(backend, TWO.name)
        running.remove_server(backend, TWO.name)
        assert set(running.observe().servers) == keys(ONE)

    def test_nobody_is_served_at_first(self, running):
        assert running.observe().servers[ONE.backend, ONE.name].sessions == 0

    def test_a_server_that_was_removed_can_come_back_with_another_address(self, running):
        running.remove_server(ONE.backend, ONE.name)
        running.add_server(replace(ONE, port=9009), FRONT)
        assert running.observe().servers[ONE.backend, ONE.name].port == 9009

    def test_a_server_without_a_backend_is_refused(self, running):
        with pytest.raises(Refused):
            running.add_server(replace(ONE, backend="nothing"), replace(FRONT, name="nothing"))
        assert set(running.observe().servers) == keys(ONE)

    @pytest.mark.parametrize("bad", [replace(FRONT, vip="198.51.100.77"), replace(OTHER, vip="198.51.100.77")])
    def test_what_cannot_run_is_refused_and_the_old_goes_on(self, running, bad):
        with pytest.raises(Refused):
            running.configure([bad], [])
        seen = running.observe()
        assert (seen.running, seen.layout, set(seen.servers)) == (True, layout([FRONT]), keys(ONE))
        assert (seen.frontends, seen.saved) == ((FRONT,), fingerprint([FRONT], [ONE]))

    def test_what_was_refused_is_remembered_until_it_is_taken(self, running):
        bad = replace(OTHER, vip=VIP2)
        for tries in (1, 2):
            with pytest.raises(Refused) as caught:
                running.configure([FRONT, bad], [ONE])
            found = running.observe().refused[layout([FRONT, bad])]
            assert (found.tries, found.words) == (tries, caught.value.message)
            assert found.since <= found.at
        running.save([FRONT], [ONE, TWO])
        running.add_server(TWO, FRONT)
        running.remove_server(ONE.backend, ONE.name)
        seen = running.observe()
        assert (seen.frontends, set(seen.servers), set(seen.refused)) == ((FRONT,), keys(TWO), {layout([FRONT, bad])})
        running.add_vip(VIP2)
        running.configure([FRONT, bad], [TWO])
        seen = running.observe()
        assert (seen.frontends, dict(seen.refused)) == ((FRONT, bad), {})

    def test_what_cannot_start_is_refused(self, balancer):
        with pytest.raises(Refused):
            balancer.configure([FRONT], [])
        seen = balancer.observe()
        assert (seen.running, seen.frontends, set(seen.refused)) == (False, (), {layout([FRONT])})

    def test_stopping_twice(self, running):
        for _again in range(2):
            running.stop()
            seen = running.observe()
            assert (seen.running, seen.saved) == (False, "")
        assert VIP in running.observe().vips

    def test_a_vip_comes_and_goes_twice(self, balancer):
        for _again in range(2):
            balancer.add_vip(VIP)
            assert VIP in balancer.observe().vips
        for _again in range(2):
            balancer.remove_vip(VIP)
            assert VIP not in balancer.observe().vips

    def test_after_its_death_it_is_seen_not_to_run_and_comes_back(self, running, kill):
        kill()
        seen = running.observe()
        assert (seen.running, seen.problem, seen.saved) == (False, "", fingerprint([FRONT], [ONE]))
        running.configure([FRONT], [ONE, TWO])
        seen = running.observe()
        assert (seen.running, set(seen.servers)) == (True, keys(ONE, TWO))

    def test_its_death_wakes_whoever_watches(self, running, kill):
        woken = threading.Event()
        running.watch(woken.set)
        kill()
        assert woken.wait(2)


class TestFakeBalancer(BalancerContract):
    @pytest.fixture
    def balancer(self):
        return FakeBalancer()

    @pytest.fixture
    def kill(self, balancer):
        return balancer.kill

    def test_what_a_reload_left_to_a_server_is_seen_until_it_is_removed(self, running):
        running.sessions[ONE.backend, ONE.name] = 1
        running.configure([FRONT, OTHER], [TWO])
        left = running.observe().servers[ONE.backend, ONE.name]
        assert (left.state, left.sessions) == (ServerState.DRAIN, 1)
        running.remove_server(ONE.backend, ONE.name)
        assert set(running.observe().servers) == keys(TWO)

    def test_sessions_end_with_their_server(self, running):
        running.sessions[ONE.backend, ONE.name] = 2
        assert running.observe().servers[ONE.backend, ONE.name].sessions == 2
        running.remove_server(ONE.backend, ONE.name)
        running.add_server(ONE, FRONT)
        assert running.observe().servers[ONE.backend, ONE.name].sessions == 0


@pytest.mark.real
class TestHaproxy(BalancerContract):
    @pytest.fixture
    def balancer(self, haproxy):
        return haproxy

    @pytest.fixture
    def kill(self, kill_haproxy):
        return kill_haproxy

    @pytest.fixture
    def webs(self, space: Namespace):
        with web(space, "one") as one, web(space, "two") as two:
            yield one, two

    def behind(self, about: Web, server: Server = ONE) -> Server:
        return replace(server, port=about.port)

    def test_its_own_socket_that_was_taken_away_is_missed_by_nobody(self, running, folder):
        (folder / "run" / "haproxy.sock").unlink()
        running.add_server(TWO, FRONT)
        seen = running.observe()
        assert (seen.running, seen.problem, set(seen.servers)) == (True, "", keys(ONE, TWO))
        running.configure([FRONT, OTHER], [TWO])
        seen = running.observe()
        assert (seen.layout, set(seen.servers)) == (layout([FRONT, OTHER]), keys(TWO))

    def test_its_folder_is_its_owners(self, running, folder):
        assert running.observe().running
        assert (folder / "run").stat().st_mode & 0o077 == 0
        assert {path.stat().st_mode & 0o077 for path in (folder / "run").iterdir()} == {0}

    @pytest.fixture
    def serving(self, balancer, webs):
        balancer.add_vip(VIP)
        balancer.configure([FRONT], [self.behind(webs[0])])
        return balancer

    def test_a_server_is_up_before_haproxy_has_looked_at_it_and_that_is_told(self, serving, webs):
        nobody, there = replace(TWO, port=9), self.behind(webs[0])
        serving.add_server(nobody, replace(FRONT, traffic=Traffic(check=Check(interval_s=4))))
        new = serving.observe().servers[TWO.backend, TWO.name]
        assert (new.up, new.is_checked) == (True, False)

        def looked_at():
            found = serving.observe().servers
            seen = [found[server.backend, server.name] for server in (there, nobody)]
            return [(server.up, server.is_checked) for server in seen] == [(True, True), (False, True)]

        eventually(looked_at, 20)

    def test_requests_go_to_the_servers_in_rotation(self, serving, space, webs):
        _one, two = webs
        assert space.get(VIP, 80) == "one"
        serving.add_server(self.behind(two, TWO), FRONT)
        assert {space.get(VIP, 80) for _n in range(6)} == {"one", "two"}
        serving.remove_server(ONE.backend, ONE.name)
        assert {space.get(VIP, 80) for _n in range(4)} == {"two"}
        serving.remove_server(TWO.backend, TWO.name)
        assert space.get(VIP, 80) == "503"

    def test_no_request_is_lost_in_a_reload(self, serving, space, webs):
        one, _two = webs
        with space.connect(VIP, 80) as slow:
            slow.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
            assert one.asked.wait(5)
            serving.configure([FRONT, OTHER], [self.behind(one)])
            assert space.get(VIP, 80) == "one"
            one.release.set()
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert answer.endswith(b"\r\n\r\none")

    def test_a_server_in_drain_finishes_what_it_has_and_gets_nothing_new(self, serving, space, webs):
        one, two = webs
        with space.connect(VIP, 80) as slow:
            slow.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
            assert one.asked.wait(5)
            serving.add_server(self.behind(two, TWO), FRONT)
            serving.drain_server(ONE.backend, ONE.name)
            assert {space.get(VIP, 80) for _n in range(4)} == {"two"}
            seen = serving.observe().servers
            assert {key: server.sessions for key, server in seen.items()} == {
                (ONE.backend, ONE.name): 1,
                (TWO.backend, TWO.name): 0,
            }
            one.release.set()
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert answer.endswith(b"\r\n\r\none")
        eventually(lambda: serving.observe().servers[ONE.backend, ONE.name].sessions == 0)
        serving.remove_server(ONE.backend, ONE.name)
        assert space.get(VIP, 80) == "two"

    def test_removing_a_server_cuts_what_it_still_has(self, serving, space, webs):
        one, _two = webs
        plain = replace(self.behind(one), backend=OTHER.name)
        serving.configure([FRONT, OTHER], [plain])
        with space.connect(VIP, OTHER.port) as slow:
            slow.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
            assert one.asked.wait(5)
            assert serving.observe().servers[plain.backend, plain.name].sessions == 1
            serving.drain_server(plain.backend, plain.name)
            serving.remove_server(plain.backend, plain.name)
            with contextlib.suppress(ConnectionResetError):
                assert slow.recv(65536) == b""
        assert serving.observe().servers == {}

    def test_a_request_that_may_be_sent_twice_is_cut_and_asked_elsewhere(self, serving, space, webs):
        one, two = webs
        two.release.set()
        with space.connect(VIP, 80) as slow:
            slow.sendall(b"GET /slow HTTP/1.0\r\n\r\n")
            assert one.asked.wait(5)
            serving.add_server(self.behind(two, TWO), FRONT)
            serving.remove_server(ONE.backend, ONE.name)
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert answer.endswith(b"\r\n\r\ntwo")
        assert set(serving.observe().servers) == keys(TWO)

    def test_a_server_that_does_not_answer_is_seen_to_be_down(self, running):
        eventually(lambda: not running.observe().servers[ONE.backend, ONE.name].up, 15)
        assert running.observe().servers[ONE.backend, ONE.name].state is ServerState.READY

    def test_a_server_in_drain_is_still_checked(self, running):
        key = (ONE.backend, ONE.name)
        running.drain_server(*key)
        eventually(lambda: not running.observe().servers[key].up, 15)
        assert running.observe().servers[key].state is ServerState.DRAIN

    def test_it_outlives_the_one_that_started_it(self, running, space, folder):
        again = HaproxyBalancer(site(space), folder / "run", no_certificate)
        assert again.observe() == running.observe()
        again.stop()
        assert not running.observe().running

    def test_it_knows_nothing_of_the_environment_of_who_started_it(self, balancer, folder, monkeypatch):
        monkeypatch.setenv("APP_PASSWORD", "s3cret-canary")
        balancer.add_vip(VIP)
        balancer.configure([FRONT], [])
        known = [Path(f"/proc/{pid}/environ").read_bytes() for pid in processes_naming(str(folder))]
        assert len(known) >= 2  # the master and its worker
        assert not any(b"canary" in text for text in known)

    def test_nothing_runs_after_stop(self, running, folder):
        running.stop()
        eventually(lambda: not processes_naming(str(folder)))

    def test_listeners_are_everybodys(self, running, webs):
        # HAProxy's own are among them: another HAProxy on the same machine takes a port as anybody else does.
        one, two = webs
        assert {("127.0.0.1", one.port), ("127.0.0.1", two.port), (VIP, 80)} <= running.listeners()
