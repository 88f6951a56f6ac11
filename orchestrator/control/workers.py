"""Threads for calls that may hang: nothing waits for them at the end.

The standard library's pools are joined when the process ends; a libvirt daemon that is stopped would then keep a
command from ending. These threads are daemons: whoever gave up on a call can leave.
"""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """At most ``count`` threads, each started when there is work for it."""

    def __init__(self, count: int, *, name: str) -> None:
        self._count = count
        self._name = name
        self._threads: list[threading.Thread] = []
        self._idle = threading.Semaphore(0)
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``call`` run in a thread; its result or exception is the future's. Until then it can be cancelled."""
        future: Future[T] = Future()
        self._work.put((future, lambda: call(*args, **kwargs)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._count:
            thread = threading.Thread(target=self._run, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def close(self) -> None:
        """Let the threads end as they become free; does not wait for them."""
        for _thread in self._threads:
            self._work.put(None)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, call = item
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # noqa: BLE001 - whoever waits for the result is told
                    future.set_exception(error)
            del item, future, call  # nothing is kept of it while the thread waits for more
            self._idle.release()
