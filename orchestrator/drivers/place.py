"""Where HAProxy is: what it reaches of the instances is what the network sees of them.

On a plain host that is this process's own network. In a lab it is another network namespace: a thread goes there, does
one thing, and ends, so that no other thread of ours ever finds itself in a network that is not its own.
"""

from __future__ import annotations

import ctypes
import os
import socket
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from orchestrator.drivers.process import lend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

CLONE_NEWNET = 0x40000000
# Run in the place: hands its network namespace over, as an open file. A process id would be of another namespace.
HAND_OVER = """import os, socket, sys
link = socket.socket(fileno=int(sys.argv[1]))
socket.send_fds(link, [b"net"], [os.open("/proc/self/ns/net", os.O_RDONLY)])"""


class Place:
    """``prefix``: the argv prefix that runs a program there; () for here."""

    def __init__(self, prefix: Sequence[str] = ()) -> None:
        self._prefix = tuple(prefix)
        self._net: int | None = None
        self._lock = threading.Lock()

    def ask(self, call: Callable[[], T]) -> Future[T]:
        """Have ``call`` run there, in a thread of its own; nothing waits for that when this process ends."""
        future: Future[T] = Future()
        threading.Thread(target=self._visit, args=(call, future), name="place", daemon=True).start()
        return future

    def _visit(self, call: Callable[[], T], future: Future[T]) -> None:
        try:
            if self._prefix:
                _enter(self._namespace())
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result is told
            future.set_exception(error)

    def _namespace(self) -> int:
        with self._lock:
            if self._net is None:
                self._net = _handed_over(self._prefix)
            return self._net

    def close(self) -> None:
        with self._lock:
            if self._net is not None:
                os.close(self._net)
                self._net = None


def _handed_over(prefix: Sequence[str]) -> int:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [*prefix, sys.executable, "-I", "-S", "-c", HAND_OVER, str(theirs.fileno())]
        lend(argv, theirs.fileno())
        ours.settimeout(1)
        _data, (net, *_rest), _flags, _address = socket.recv_fds(ours, 8, 1)
    return int(net)


def _enter(net: int) -> None:
    """Have this thread, and no other, live in a network namespace (Python has a call for that from 3.12 on)."""
    if ctypes.CDLL(None, use_errno=True).setns(net, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
