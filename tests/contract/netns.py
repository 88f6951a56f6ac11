"""A network of our own for a test: a namespace that ends with the process that holds it."""

import contextlib
import ctypes
import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

CLONE_NEWNET = 0x40000000
Result = TypeVar("Result")


@dataclass(frozen=True)
class Namespace:
    """``prefix``: the argv that runs a program inside."""

    pid: int

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("nsenter", "--target", str(self.pid), "--net")

    def _enter(self) -> None:
        """Have this thread, and no other, live in the namespace."""
        with Path(f"/proc/{self.pid}/ns/net").open() as net:
            if ctypes.CDLL(None, use_errno=True).setns(net.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def inside(self, act: Callable[[], Result]) -> Result:
        """Do something in the namespace; sockets that it makes stay there."""
        done: list[Result] = []
        failed: list[Exception] = []

        def enter() -> None:
            try:
                self._enter()
                done.append(act())
            except Exception as error:  # noqa: BLE001 - raised again in the thread that asked
                failed.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    def run(self, *argv: str) -> None:
        subprocess.run([*self.prefix, *argv], check=True, capture_output=True)

    def connect(self, address: str, port: int, *, source: str = "") -> socket.socket:
        return self.inside(lambda: socket.create_connection((address, port), timeout=10, source_address=(source, 0)))

    def listening(self, address: str, port: int) -> socket.socket:
        return self.inside(lambda: socket.create_server((address, port)))

    def get(self, address: str, port: int, path: str = "/", *, headers: str = "", source: str = "") -> str:
        """The body of an answer, or "NNN" of a bad one."""
        answer = answered(self, address, port, path, headers=headers, source=source)
        head, _, body = answer.partition("\r\n\r\n")
        return body if " 200 " in head.splitlines()[0] else head.split()[1]


def answered(space: Namespace, address: str, port: int, path: str = "/", *, headers: str = "", source: str = "") -> str:
    """A whole answer, headers and all."""
    with space.connect(address, port, source=source) as link:
        link.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n{headers}\r\n".encode())
        return b"".join(iter(lambda: link.recv(65536), b"")).decode()


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    argv = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        yield Namespace(holder.pid)
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout is not None:
            holder.stdout.close()


@dataclass
class Web:
    """A web server that says its name; ``/slow``, and the rest of ``/long``, are answered after ``release``.

    While it ``is_ill``, it says 503.
    """

    name: str
    port: int
    release: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)
    is_ill: threading.Event = field(default_factory=threading.Event)


def _handler(about: Web) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"/missing": (404, b""), "/headers": (200, str(self.headers).encode())}
            status, body = answers.get(self.path, (200, about.name.encode()))
            if self.path == "/slow":
                self._wait()
            self.send_response(503 if about.is_ill.is_set() else status)
            self.end_headers()
            if self.path == "/long":
                self.wfile.write(b"x" * 2_000_000)
                self._wait()
                body = b"x" * 2_000_000
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - so http.server wants it

        def _wait(self) -> None:
            about.asked.set()
            about.release.wait(20)

        def log_message(self, *_words: object) -> None:
            pass

    return Handler


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_about: object) -> None:
        """A client that goes away in the middle is what some tests are about."""


@contextlib.contextmanager
def web(space: Namespace, name: str, *, certificate: Path | None = None) -> Iterator[Web]:
    """``certificate``: PEM with its key, for one that speaks TLS."""
    about = Web(name, 0)
    server = space.inside(lambda: _Server(("127.0.0.1", 0), _handler(about)))
    about.port = server.server_address[1]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield about
    finally:
        about.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def plain(space: Namespace, heard: list[bytes]) -> Iterator[int]:
    """Takes connections one after the other, and notes what each of them says; gives the port."""
    listener = space.inside(lambda: socket.create_server(("127.0.0.1", 0)))

    def listen() -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _address = listener.accept()
                with link:
                    link.settimeout(1)
                    said = b""
                    with contextlib.suppress(OSError):
                        while piece := link.recv(65536):
                            said += piece
                    heard.append(said)

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def eventually(is_so: Callable[[], object], within_s: float = 10.0) -> None:
    """Fails with what was last seen when it does not become so."""
    deadline = time.monotonic() + within_s
    while not (seen := is_so()):
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)


def processes_naming(text: str) -> list[int]:
    """Ids of processes whose command line has ``text`` in it."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and text in (entry / "cmdline").read_text(errors="replace"):
                found.append(int(entry.name))
    return found
