"""HAProxy as a process of its own, and the addresses that it serves. Membership goes through its runtime socket only.

It is started in master-worker mode and outlives us. It is asked for everything by socket, never by a pid file: a pid
would be of another namespace, or of another process by now.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.drivers import _runtime as runtime
from orchestrator.drivers._files import write_durably
from orchestrator.drivers._refusals import Refusals
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.process import ProgramFailed, plain_env, run
from orchestrator.drivers.vips import Vips
from orchestrator.engine.rotation import routes, signature
from orchestrator.errors import BalancerAway, Refused
from orchestrator.model.world import BalancerSeen, ServerSeen, ServerState
from orchestrator.render import firewall as walls
from orchestrator.render import haproxy as text
from orchestrator.render.layouts import saved_frontends

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from orchestrator.config.site import Site
    from orchestrator.model.action import Frontend, Server
    from orchestrator.model.guard import Firewall
    from orchestrator.model.secret import Secret, SecretRef

RELOAD_S = 10.0
REMOVE_S = 5.0
LOOK_S = 10.0  # how long a firewall that somebody took away may go unnoticed: asking starts a program
ANY = ("0.0.0.0", "*")  # noqa: S104 - as `ss` names who listens at every address
TAKEN = "is one of the ports taken by another program on the VIP?"
CALM_S = 0.3  # a request that was given to a server just before it went into maintenance may take so long


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Whoever cannot write in HAProxy's folder says so, and is tried again: a full disk ends no controller."""
    try:
        yield
    except OSError as error:
        raise Refused(f"HAProxy's folder cannot be written: {error}", "is there room on its disk?") from error


class HaproxyBalancer:
    """The HAProxy of one home folder; ``folder`` holds its file, sockets and certificates, 0700.

    ``reveal``: gives what a certificate's reference stands for (PEM), or raises Refused.
    """

    def __init__(self, site: Site, folder: Path, reveal: Callable[[SecretRef], Secret], owner: str = "") -> None:
        self._prefix = site.balancer
        self._rules = site.rules
        self._folder = folder
        self._reveal = reveal
        self._owner = owner
        self._seen_firewall: tuple[float, str] = (float("-inf"), "")
        self._config = folder / "haproxy.cfg"
        self._admin = folder / text.ADMIN_SOCKET
        self._master = folder / text.MASTER_SOCKET
        self._certificates = folder / text.CERTIFICATES
        self._refusals = Refusals(folder / "refused.json", SystemClock().now)
        self._read: tuple[str, tuple[Frontend, ...]] = ("", ())
        self._addresses = Vips(site, folder)
        self._watches: dict[Callable[[], None], runtime.Watch] = {}

    def watch(self, wake: Callable[[], None]) -> None:
        if wake not in self._watches:
            self._watches[wake] = runtime.Watch(self._master, wake)

    def close(self) -> None:
        """End what watches it; it itself goes on."""
        while self._watches:
            self._watches.popitem()[1].close()

    def observe(self) -> BalancerSeen:
        file = self._saved()
        saved = text.saved_fingerprint(file)
        vips, added = self._addresses.seen()
        wall = self._firewall()
        try:
            info, servers = self._ask("show info"), self._ask("show servers state")
            ways = self._ask(text.routes_command())
            said, left = self._ask(text.sessions_command()), self._left()
        except BalancerAway as away:
            problem = "" if runtime.is_refused(away) else str(away)
            away_now = BalancerSeen(saved=saved, vips=vips, added=added, problem=problem, firewall=wall)
            return replace(away_now, frontends=self._frontends(file), refused=self._refusals.seen())
        sessions, figures = runtime.parse_sessions(said), runtime.parse_backends(said, left)
        seen = runtime.parse_servers(servers, Counter(sessions) + left)
        backends = {backend for backend, name in sessions if name == "BACKEND"}
        # What a reload left to the process before may still be on a server that is not in the file any more.
        gone = {key: count for key, count in left.items() if key not in seen and key[0] in backends}
        seen |= {key: ServerSeen("", 0, ServerState.DRAIN, up=True, sessions=count) for key, count in gone.items()}
        running, _, default = runtime.field(info, "description").partition(".")
        turned = runtime.parse_routes(ways)
        ways_now = signature(turned) if turned else default
        known = BalancerSeen(True, running, saved, seen, vips, routes=ways_now, backends=figures)
        known = replace(known, added=added, left=sum(left.values()), firewall=wall)
        return replace(known, frontends=self._frontends(file), refused=self._refusals.seen())

    def _left(self) -> Counter[runtime.Key]:
        """Sessions that processes before the last reload still have, by server."""
        found: Counter[runtime.Key] = Counter()
        for pid in runtime.old_workers(runtime.talk(self._master, "show proc")):
            answer = runtime.talk(self._master, text.of_process(pid, text.sessions_command()))
            found += Counter(runtime.parse_sessions(answer))
        return Counter({key: count for key, count in found.items() if key[1] != "BACKEND"})

    @_writing()
    def configure(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._configure(frontends, servers)
        except Refused as error:
            backends = text.blamed(frontends, text.config_text(frontends, servers), error.message)
            self._refusals.add(frontends, error, backends)
            raise
        self._refusals.drop(frontends)

    def _configure(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        certificates = self._put_certificates(frontends)
        write_durably(self._folder / text.ROUTES, "")  # where ports lead when it starts is in the file itself
        candidate = self._folder / "candidate.cfg"
        write_durably(candidate, text.config_text(frontends, servers))
        try:
            run([*self._prefix, "haproxy", "-c", "-C", str(self._folder), "-f", candidate.name])
        except ProgramFailed as error:
            raise Refused(f"HAProxy does not accept its configuration: {text.alerts(error.stderr)}") from error
        is_up, before = self._is_up(), self._saved()
        down = [key for key, server in self.observe().servers.items() if not server.up] if is_up else []
        candidate.replace(self._config)
        try:
            self._reload(frontends, before) if is_up else self._start(text.description(frontends))
        except Refused:
            write_durably(self._config, before)  # what it runs with, or ran, is what it should start with, too
            raise
        self._assert_down(down)
        self._drop_certificates(certificates)

    @_writing()
    def save(self, frontends: Sequence[Frontend], servers: Sequence[Server]) -> None:
        write_durably(self._config, text.config_text(frontends, servers))

    def route(self, frontends: Sequence[Frontend]) -> None:
        answer = self._ask(text.new_routes_command())
        version = runtime.new_version(answer)
        if version is None:
            raise Refused(f"HAProxy does not take other routes: {answer.strip()}")
        for command in text.route_commands(version, routes(frontends)):
            self._order(command)

    def _saved(self) -> str:
        """What its next start would read; whatever somebody has made of it."""
        try:
            return self._config.read_text(errors="replace")
        except OSError:
            return ""

    def _frontends(self, file: str) -> tuple[Frontend, ...]:
        """The frontends in its file, which is read at every look and seldom another."""
        if self._read[0] != file:
            self._read = file, saved_frontends(file)
        return self._read[1]

    def _put_certificates(self, frontends: Iterable[Frontend]) -> set[str]:
        """Write what the frontends need, and return their names."""
        refs = {front.address: front.traffic.tls.certificate for front in frontends if front.traffic.tls is not None}
        if refs:
            self._certificates.mkdir(mode=0o700, exist_ok=True)
        for address, ref in refs.items():
            path = self._certificates / text.certificate_file(ref)
            # A key stands for one value: HAProxy starts again even while the secrets cannot be read.
            if not (ref.key and path.exists()):
                write_durably(path, self._revealed(address, ref))
        return {text.certificate_file(ref) for ref in refs.values()}

    def _revealed(self, address: str, ref: SecretRef) -> str:
        try:
            return self._reveal(ref).reveal().decode(errors="surrogateescape")
        except Refused as error:
            raise Refused(f"no certificate for '{address}': {error.message}", error.hint) from error

    def _drop_certificates(self, needed: set[str]) -> None:
        for path in self._certificates.iterdir() if self._certificates.is_dir() else ():
            if path.name not in needed:
                path.unlink()

    def _assert_down(self, keys: Iterable[runtime.Key]) -> None:
        """A new process takes every server for up until it has checked it: those that were down are so still."""
        for backend, name in keys:
            self._order(text.down_command(backend, name))

    def _start(self, wanted: str) -> None:
        self._end_strays()
        where = ["-C", str(self._folder), "-f", self._config.name]
        argv = ["haproxy", "-W", "-D", *where, "-S", f"unix@{text.MASTER_SOCKET},mode,600"]
        try:
            run([*self._prefix, *argv], env=plain_env())
        except ProgramFailed as error:
            raise Refused(f"HAProxy did not start: {text.alerts(error.stderr)}", TAKEN) from error
        # It has gone into the background before its master answers: who asked now would take it for not running.
        if not self._answers(wanted):
            raise BalancerAway("HAProxy was started, but does not answer")

    def _reload(self, frontends: Sequence[Frontend], before: str) -> None:
        """Have the master start a new worker that takes the sockets over; the old one finishes its connections.

        ``before``: the file that it runs with.
        """
        own = {(front.vip, front.port) for front in self._frontends(before)}
        others, count = self.listeners() - own, self._reloads()[0]
        with contextlib.suppress(BalancerAway):  # the master ends this very connection as it starts anew
            runtime.talk(self._master, "reload")
        if not self._answers(text.description(frontends), count):
            taken = [f"'{f.address}'" for f in frontends if {(vip, f.port) for vip in (f.vip, *ANY)} & others]
            new = [f"'{f.address}'" for f in frontends if (f.vip, f.port) not in own]
            why = f"most likely it cannot listen at {', '.join(new)}" if new else "it does not say why"
            why = f"{', '.join(taken)} is taken by another program" if taken else why
            raise Refused(f"HAProxy did not take its new configuration, and the old one goes on: {why}", TAKEN)

    def _reloads(self) -> tuple[int, int]:
        return runtime.reloads(runtime.talk(self._master, "show proc"))

    def _answers(self, wanted: str, reloads: int = -1) -> bool:
        """Wait until master and worker answer, the worker with these frontends; whether they did in time.

        ``reloads``: how many there had been before; the master counts those that failed since the last good one.
        """
        deadline = time.monotonic() + RELOAD_S
        while time.monotonic() < deadline:
            with contextlib.suppress(BalancerAway):
                if self._is_up() and runtime.field(self._ask("show info"), "description") == wanted:
                    return True
                count, failed = self._reloads()
                if count > reloads >= 0 and failed:
                    return False
            _pause()
        return False

    @_writing()
    def stop(self) -> None:
        """End it, and remove its file. Nothing to do if it does not run."""
        if self._is_up():
            for pid in runtime.master_pids(runtime.talk(self._master, "show proc")):
                run([*self._prefix, "kill", "-TERM", str(pid)], check=False)
        deadline = time.monotonic() + RELOAD_S
        while not self._has_ended():
            if time.monotonic() > deadline:
                raise BalancerAway("HAProxy does not end when asked to")
            _pause()
        self._refusals.forget()
        files = (text.ROUTES, text.PEERS_SOCKET)
        for path in (self._config, self._admin, self._master, *(self._folder / name for name in files)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self._certificates, ignore_errors=True)

    def _end_strays(self) -> None:
        """End a HAProxy of ours whose sockets were taken away: it would share the ports with the next one unseen."""
        rows = run([*self._prefix, "ps", "-e", "-ww", "-o", "pid=,args="]).stdout.splitlines()
        mine = f" -C {self._folder} -f {self._config.name} "
        for pid in [row.split()[0] for row in rows if mine in row]:
            run([*self._prefix, "kill", "-KILL", pid], check=False)

    def set_firewall(self, firewall: Firewall | None) -> None:
        try:
            # Who flushed ours has flushed the place's own as well: each is replaced as a whole, in one transaction.
            run([*self._prefix, "nft", "-f", "-"], stdin=self._rules + walls.firewall_text(firewall, self._owner))
        except ProgramFailed as error:
            raise Refused(f"the VIPs cannot be guarded: {error}", "the kernel must have nftables") from error
        finally:
            self._seen_firewall = (float("-inf"), "")

    def _firewall(self) -> str:
        """The fingerprint of the firewall that is there; asked for as seldom as the addresses."""
        asked_at, seen = self._seen_firewall
        if time.monotonic() - asked_at > LOOK_S:
            argv = [*self._prefix, "nft", "list", "table", "inet", walls.table_name(self._owner)]
            seen = walls.mark_of(run(argv, check=False).stdout)
            self._seen_firewall = (time.monotonic(), seen)
        return seen

    @_writing()
    def add_vip(self, vip: str) -> None:
        self._addresses.add(vip)

    @_writing()
    def remove_vip(self, vip: str) -> None:
        self._addresses.remove(vip)

    def addresses(self) -> Mapping[str, str]:
        return self._addresses.addresses()

    def holder(self, vip: str) -> str:
        return self._addresses.holder(vip)

    def add_server(self, server: Server, frontend: Frontend) -> None:
        answer = self._ask(text.add_command(server, frontend))
        if "Already exists" not in answer and "New server registered" not in answer:
            raise Refused(f"HAProxy does not take the server {server.name} into {server.backend}: {answer.strip()}")
        for command in text.enable_commands(server, frontend):
            self._order(command)

    def drain_server(self, backend: str, name: str) -> None:
        self._order(text.state_command(backend, name, "drain"))

    def remove_server(self, backend: str, name: str) -> None:
        self._order(text.state_command(backend, name, "maint"))
        begun = time.monotonic()
        answer = ""
        while time.monotonic() - begun < REMOVE_S:
            if time.monotonic() - begun > CALM_S:
                self._cut(backend, name)
            answer = self._ask(text.delete_command(backend, name))
            is_gone = "Server deleted" in answer or _is_absent(answer)
            if is_gone and not self._left()[backend, name]:
                return
            _pause()
        raise BalancerAway(f"HAProxy does not let go of server {backend}/{name}: {answer.strip()}")

    def _cut(self, backend: str, name: str) -> None:
        """End the sessions that a server has, also those that were left to processes before a reload."""
        for session in runtime.sessions_of(self._ask(text.every_session_command()), backend, name):
            self._ask(text.session_command(session))
        for pid in runtime.old_workers(runtime.talk(self._master, "show proc")):
            answer = runtime.talk(self._master, text.of_process(pid, text.every_session_command()))
            for session in runtime.sessions_of(answer, backend, name):
                runtime.talk(self._master, text.of_process(pid, text.session_command(session)))

    def listeners(self) -> frozenset[tuple[str, int]]:
        answer = run([*self._prefix, "ss", "--no-header", "--tcp", "--listening", "--numeric", "--processes"]).stdout
        found = set()
        for row in answer.splitlines():
            columns = row.split()
            if len(columns) < 4:
                continue
            address, _, port = columns[3].rpartition(":")
            if port.isdigit():
                found.add((address.partition("%")[0].strip("[]"), int(port)))
        return frozenset(found)

    def _is_up(self) -> bool:
        """Whether it runs. Raises BalancerAway when something is there that does not answer."""
        try:
            runtime.talk(self._master, "show proc")
        except BalancerAway as away:
            if runtime.is_refused(away):
                return False
            raise
        return True

    def _has_ended(self) -> bool:
        try:
            return not self._is_up()
        except BalancerAway:  # it ends while we ask
            return False

    def _ask(self, command: str) -> str:
        """Ask the worker; by way of its master when its own socket was taken away, which no reload makes anew (2.6)."""
        try:
            return runtime.talk(self._admin, command)
        except BalancerAway as away:
            if not runtime.is_refused(away):
                raise
            return runtime.talk(self._master, text.of_worker(command))

    def _order(self, command: str) -> None:
        """Give a command that answers nothing when it is carried out."""
        answer = self._ask(command).strip()
        if answer and not _is_absent(answer) and "is already" not in answer:
            raise Refused(f"HAProxy refuses `{command}`: {answer}")


def _is_absent(answer: str) -> bool:
    return "No such server" in answer or "No such backend" in answer


def _pause() -> None:
    time.sleep(0.02)  # noqa: TID251 - inside a bounded wait for HAProxy's own process
