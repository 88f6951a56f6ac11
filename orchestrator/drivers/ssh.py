"""Guests without an agent, by SSH: the same commands, one connection for each machine, kept open between looks.

A machine's host key is taken as it comes the first time, and must stay the same for as long as that machine lives; it
is remembered here, and lost when this process ends.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import socket
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import paramiko

from orchestrator.drivers.looks import CALL_S, FILE_BYTES, PROBE_BYTES, Outcome
from orchestrator.errors import AgentRefused, AgentSilent, VmroleError
from orchestrator.model.text import line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from orchestrator.drivers.place import Place
    from orchestrator.model.secret import Secret, SecretRef
    from orchestrator.model.spec import Ready

PORT = 22
FIRST_S = 4.0
CONNECT_S = 15.0  # a small guest without KVM takes seconds to agree on keys
KEYS: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


@dataclass
class _Running:
    """A command under way in a guest, and what it has printed so far."""

    channel: paramiko.Channel
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)

    def drain(self) -> None:
        while self.channel.recv_ready():
            self.stdout += self.channel.recv(65536)
        while self.channel.recv_stderr_ready():
            self.stderr += self.channel.recv_stderr(65536)
        if len(self.stdout) + len(self.stderr) > PROBE_BYTES:
            self.channel.close()
            raise AgentRefused("a command printed more than is read of it")


class SshWay:
    """One guest's connection: what ``looks.Way`` asks for."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self.transport = transport
        self._running: dict[int, _Running] = {}
        self._last = 0

    def read(self, path: str, *, last_bytes: int = 0, first_bytes: int = FILE_BYTES) -> str:
        tool = ["tail", "-c", str(last_bytes)] if last_bytes else ["head", "-c", str(first_bytes)]
        outcome = self._finished(_Running(self._channel([*tool, path])), path)
        if outcome.code:
            raise AgentRefused(f"{path} cannot be read")
        return outcome.stdout.decode(errors="replace")

    def start(self, argv: Sequence[str], *, stdin: bytes = b"") -> int:
        self._last += 1
        self._running[self._last] = _Running(self._channel(argv, stdin))
        return self._last

    def poll(self, pid: int) -> Outcome | None:
        running = self._running.get(pid)
        if running is None:
            raise AgentRefused("the command's connection is gone")
        try:
            running.drain()
            if not running.channel.exit_status_ready():
                return None
            return self._finished(self._running.pop(pid), "its end")
        except AgentRefused:
            self._running.pop(pid, None)
            raise

    def _channel(self, argv: Sequence[str], stdin: bytes = b"") -> paramiko.Channel:
        """SSH carries one line for the user's shell, so the words are quoted for that."""
        try:
            channel = self.transport.open_session(timeout=CALL_S)
            channel.settimeout(CALL_S)
            channel.exec_command(shlex.join(argv))
            if stdin:
                channel.sendall(stdin)
                channel.shutdown_write()
        except (paramiko.SSHException, OSError, EOFError) as error:
            self.transport.close()
            raise AgentSilent(f"SSH does not answer: {line(str(error)) or type(error).__name__}") from error
        return channel

    def _finished(self, running: _Running, what: str) -> Outcome:
        channel = running.channel
        try:
            if not channel.status_event.wait(CALL_S):
                raise AgentSilent(f"SSH does not answer: {what} has not come within {CALL_S:.0f} s")
            while part := channel.recv(65536):
                running.stdout += part
                running.drain()
            running.drain()
        except TimeoutError as error:
            raise AgentSilent(f"SSH does not answer: {what} is not read to its end") from error
        finally:
            channel.close()
        return Outcome(channel.exit_status, bytes(running.stdout), bytes(running.stderr))


class SshWays:
    """Connections, by machine. ``reveal``: the secret that a reference stands for."""

    def __init__(self, place: Place, reveal: Callable[[SecretRef], Secret]) -> None:
        self._place = place
        self._reveal = reveal
        self._links: dict[str, Future[SshWay]] = {}
        self._host_keys: dict[str, bytes] = {}
        self._tried: set[str] = set()

    def way(self, domain: str, dip: str, ready: Ready, *, is_up: bool) -> SshWay:
        """The machine's connection. Raises AgentSilent while there is none; another one is then under way.

        ``is_up``: it should be possible to connect: the first time that is waited for.
        """
        link = self._links.get(domain)
        if link is None:
            link = self._links[domain] = self._place.ask(lambda: self._connected(domain, dip, ready))
            wait([link], timeout=FIRST_S if is_up and domain not in self._tried else 0)
            self._tried.add(domain)
        if not link.done():
            raise AgentSilent(f"SSH at {dip}: connecting")
        try:
            way = link.result()
            if way.transport.is_active():
                return way
            why = "the connection has ended"
        except (VmroleError, paramiko.SSHException, OSError, EOFError) as error:
            why = line(str(error)) or type(error).__name__
        del self._links[domain]
        raise AgentSilent(f"SSH at {dip}: {why}")

    def forget(self, domain: str) -> None:
        """End a machine's connection; its host key counts no more."""
        self._host_keys.pop(domain, None)
        self._tried.discard(domain)
        link = self._links.pop(domain, None)
        if link is not None:
            link.add_done_callback(_end)

    def _connected(self, domain: str, dip: str, ready: Ready) -> SshWay:
        key = private_key(self._reveal(ready.ssh_key).reveal()) if ready.ssh_key is not None else None
        transport = paramiko.Transport(socket.create_connection((dip, PORT), timeout=CONNECT_S))
        try:
            transport.banner_timeout = transport.auth_timeout = CONNECT_S
            transport.start_client(timeout=CONNECT_S)
            self._recognise(domain, transport.get_remote_server_key().asbytes())
            if key is not None:
                transport.auth_publickey(ready.ssh_user, key)
        except BaseException:
            transport.close()
            raise
        return SshWay(transport)

    def _recognise(self, domain: str, shown: bytes) -> None:
        if self._host_keys.setdefault(domain, shown) != shown:
            raise AgentRefused("another machine answers: its host key is not the one it had before")


def private_key(text: bytes) -> paramiko.PKey:
    """Read a private key of any kind. Raises AgentRefused without quoting any of it."""
    for kind in KEYS:
        with contextlib.suppress(paramiko.SSHException, ValueError, IndexError):
            return kind.from_private_key(io.StringIO(text.decode(errors="replace")))
    raise AgentRefused(
        "ready.ssh.key is not a private key that can be read here (Ed25519, ECDSA or RSA, no passphrase)"
    )


def _end(link: Future[SshWay]) -> None:
    if link.exception() is None:
        link.result().transport.close()
