"""What the libvirt drivers share: a connection that comes back, one table of errors, and the event thread.

libvirt's calls have no deadline of their own. Keepalive gives them one: a daemon that is stopped or cut off does not
answer it either, and after ``KEEPALIVE_S`` times ``KEEPALIVE_COUNT`` every call on the connection fails.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

import libvirt

from orchestrator.errors import AgentRefused, AgentSilent, HostAway, NoRoom, NotFound, Refused, VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

KEEPALIVE_S = 3
KEEPALIVE_COUNT = 3

GONE = frozenset(
    {
        libvirt.VIR_ERR_NO_DOMAIN,
        libvirt.VIR_ERR_NO_NETWORK,
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
        """Return the open connection. Raises HostAway."""
        with self._lock:
            if self._open is None:
                self._open = self._connect()
            return self._open

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
        """Call ``wake`` on every event from now on, also after a new connection."""
        with self._lock:
            self._wake = wake
            if self._open is not None:
                _subscribe(self._open, wake)

    def drop(self) -> None:
        """Forget a connection that is broken; the next call opens another."""
        with self._lock:
            lost, self._open = self._open, None
        if lost is not None:
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


def is_full(text: str) -> bool:
    """Whether an error of a daemon or of QEMU says that a disk is full: it comes as words only."""
    return "No space left" in text or "Disk quota exceeded" in text


def agent_error(error: libvirt.libvirtError, domain: str) -> VmroleError:
    """What a failed agent command means: the agent is silent, or it said no."""
    if error.get_error_code() in SILENT or error.get_error_code() in GONE:
        return AgentSilent(f"the guest agent of {domain} does not answer: {error.get_error_message()}")
    if error.get_error_code() in AWAY:
        return HostAway(f"asking the guest agent of {domain}: {error.get_error_message()}")
    return AgentRefused(f"the guest agent of {domain} refused: {error.get_error_message()}")


def _subscribe(connection: libvirt.virConnect, wake: Callable[[], None]) -> None:
    def woken(*_details: object) -> None:
        wake()

    for event in (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE):
        with contextlib.suppress(libvirt.libvirtError):  # without events the slow look is still there
            connection.domainEventRegisterAny(None, event, woken, None)
