"""A network of our own for a test: a namespace that ends with the process that holds it."""

import contextlib
import ctypes
import http.server
import socket
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

    def connect(self, address: str, port: int) -> socket.socket:
        return self.inside(lambda: socket.create_connection((address, port), timeout=10))

    def get(self, address: str, port: int, path: str = "/") -> str:
        """The body of an answer, or "NNN" of a bad one."""
        with self.connect(address, port) as link:
            link.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            answer = b"".join(iter(lambda: link.recv(65536), b"")).decode()
        head, _, body = answer.partition("\r\n\r\n")
        return body if " 200 " in head.splitlines()[0] else head.split()[1]


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
    """A web server that says its name; what asks for ``/slow`` is answered after ``release``."""

    name: str
    port: int
    release: threading.Event = field(default_factory=threading.Event)
    asked: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def web(space: Namespace, name: str) -> Iterator[Web]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/slow":
                about.asked.set()
                about.release.wait(20)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_words: object) -> None:
            pass

    server = space.inside(lambda: http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    about = Web(name, server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield about
    finally:
        about.release.set()
        server.shutdown()
        server.server_close()
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
