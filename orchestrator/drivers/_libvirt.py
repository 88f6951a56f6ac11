"""What the libvirt drivers share: a connection that comes back, one table of errors, and the event thread.

libvirt's calls have no deadline of their own. Keepalive gives them one: a daemon that is stopped or cut off does not
answer it either, and after ``KEEPALIVE_S`` times ``KEEPALIVE_COUNT`` every call on the connection fails.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

import libvirt

from orchestrator.errors import AgentRefused, AgentSilent, HostAway, NoRoom, NotFound, Refused, VmroleError
from orchestrator.model.text import line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

KEEPALIVE_S = 3
KEEPALIVE_COUNT = 3
OPENING_S = 1.0  # opening has no deadline at all: a stopped daemon's socket accepts, and is silent
# A guest whose agent comes and goes wakes us this often in a row, and then once in so many seconds.
WAKES = 20
WAKE_AGAIN_S = 1.0
MANY = 4096
# Each call that may hang has a connection to itself: libvirt's client (9.0) sometimes lets a quick call wait for the
# end of one that another thread is at on the same connection.
LINES = 12

GONE = frozenset(
    {
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_NO_NETWORK,
        libvirt.VIR_ERR_NO_NWFILTER,
        libvirt.VIR_ERR_NO_STORAGE_POOL,
        libvirt.VIR_ERR_NO_STORAGE_VOL,
    }
)
SILENT = frozenset(
    {
        libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
        libvirt.VIR_ERR_AGENT_UNSYNCED,
        libvirt.VIR_ERR_OPERATION_INVALID,
    }
)
AWAY = frozenset({libvirt.VIR_ERR_NO_CONNECT, libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC})


_events_lock = threading.Lock()
_events_running: list[threading.Thread] = []


def start_events() -> None:
    """Run libvirt's event loop in a thread for as long as this process lives; once registered it has to run."""
    with _events_lock:
        if _events_running:
            return
        libvirt.virEventRegisterDefaultImpl()
        # libvirt prints every error to stderr unless it is given something better to do with it.
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        thread = threading.Thread(target=_run_events, name="libvirt-events", daemon=True)
        _events_running.append(thread)
        thread.start()


def _run_events() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()


class Connection:
    """A connection to one daemon, opened when first needed and again after it was lost."""

    def __init__(self, host: str, uri: str) -> None:
        self.host = host
        self.uri = uri
        self._lock = threading.Lock()
        self._open: libvirt.virConnect | None = None
        self._wake: Callable[[], None] | None = None

    def get(self) -> libvirt.virConnect:
        """Return the open connection. Raises HostAway, also when somebody else is at opening it and does not end."""
        if not self._lock.acquire(timeout=OPENING_S):
            raise HostAway(
                f"the libvirt daemon of host {self.host} does not answer at {self.uri}: it does not let us in",
                "is it stopped? `vmrole doctor` checks it",
            )
        try:
            if self._open is None:
                self._open = self._connect()
            return self._open
        finally:
            self._lock.release()

    def _connect(self) -> libvirt.virConnect:
        start_events()
        try:
            opened = libvirt.open(self.uri)
            with contextlib.suppress(libvirt.libvirtError):  # a test driver has no wire to keep alive
                opened.setKeepAlive(KEEPALIVE_S, KEEPALIVE_COUNT)
        except libvirt.libvirtError as error:
            raise HostAway(
                f"the libvirt daemon of host {self.host} does not answer at {self.uri}: {error}",
                "is libvirtd running? `vmrole doctor` checks it; in a lab, `vmrole lab up` starts it again",
            ) from error
        if self._wake is not None:
            _subscribe(opened, self._wake)
        return opened

    def watch(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on events from now on, also after a new connection."""
        with self._lock:
            self._wake = wake
            if self._open is not None:
                _subscribe(self._open, wake)

    def drop(self) -> None:
        """Forget a connection that is broken; the next call opens another. One that others have opened anew stays."""
        if not self._lock.acquire(timeout=OPENING_S):
            return  # somebody is at opening another
        try:
            lost = self._open
            if lost is None or _is_alive(lost):
                return
            self._open = None
        finally:
            self._lock.release()
        with contextlib.suppress(libvirt.libvirtError):
            lost.close()

    @contextlib.contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Translate libvirt's errors while ``what`` is done, which reads like "starting domain x"."""
        try:
            yield
        except libvirt.libvirtError as error:
            raise self._translated(error, what) from error

    def _translated(self, error: libvirt.libvirtError, what: str) -> VmroleError:
        code, text = error.get_error_code(), f"host {self.host}: {what}: {error.get_error_message()}"
        is_wire = error.get_error_domain() in {libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE}
        if code in AWAY or (is_wire and code in {libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_SYSTEM_ERROR}):
            self.drop()
            return HostAway(text, "is libvirtd running? `vmrole doctor` checks it")
        if code in GONE:
            return NotFound(text)
        if is_full(text):
            return NoRoom(text, "free some room there, then run the same command again")
        return Refused(text)


class Lines:
    """Several connections to one daemon, for calls that may hang: none carries more than one of them."""

    def __init__(self, host: str, uri: str) -> None:
        self._connections = [Connection(host, uri) for _line in range(LINES)]
        # The first connection comes first: the others are opened only when they are needed.
        self._free: queue.PriorityQueue[int] = queue.PriorityQueue()
        for place in range(LINES):
            self._free.put(place)

    @contextlib.contextmanager
    def line(self, timeout_s: float) -> Iterator[Connection]:
        """A connection for one call. Raises AgentSilent when there is none in time."""
        try:
            place = self._free.get(timeout=timeout_s)
        except queue.Empty:
            host = self._connections[0].host
            raise AgentSilent(f"{LINES} guest agents of host {host} hang; no other can be asked now") from None
        try:
            yield self._connections[place]
        finally:
            self._free.put(place)


def _is_alive(connection: libvirt.virConnect) -> bool:
    try:
        return bool(connection.isAlive())
    except libvirt.libvirtError:
        return False


def is_full(text: str) -> bool:
    """Whether an error of a daemon or of QEMU says that a disk is full: it comes as words only."""
    return "No space left" in text or "Disk quota exceeded" in text


def agent_error(error: libvirt.libvirtError, domain: str) -> VmroleError:
    """What a failed agent command means: the agent is silent, or it said no, in words that are the guest's own."""
    said = line(error.get_error_message())
    if error.get_error_code() in SILENT or error.get_error_code() in GONE:
        return AgentSilent(f"the guest agent of {domain} does not answer: {said}")
    if error.get_error_code() in AWAY:
        return HostAway(f"asking the guest agent of {domain}: {said}")
    return AgentRefused(f"the guest agent of {domain} refused: {said}")


class Doorbell:
    """Who may ring, and how often: a guest that rings without end does not keep us awake, nor anybody else from it."""

    def __init__(self, wake: Callable[[], None], now: Callable[[], float] = time.monotonic) -> None:
        self._wake = wake
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}  # domain → (rings that it has left, as of when)

    def ring(self, domain: str) -> None:
        now = self._now()
        left, at = self._left.get(domain, (float(WAKES), now))
        left = min(float(WAKES), left + (now - at) / WAKE_AGAIN_S)
        self._left[domain] = (max(0.0, left - 1), now)
        if left >= 1:
            self._wake()
        if len(self._left) > MANY:
            self._left = {name: kept for name, kept in self._left.items() if kept[0] < WAKES - 1}


def _subscribe(connection: libvirt.virConnect, wake: Callable[[], None]) -> None:
    bell = Doorbell(wake)

    def woken(_connection: object, domain: libvirt.virDomain, *_details: object) -> None:
        bell.ring(domain.name())

    for event in (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE):
        with contextlib.suppress(libvirt.libvirtError):  # without events the slow look is still there
            connection.domainEventRegisterAny(None, event, woken, None)
