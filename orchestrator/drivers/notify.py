"""Telling systemd how the controller is: one datagram for each change (sd_notify(3)). Without systemd, nothing."""

from __future__ import annotations

import os
import socket


class ServiceManager:
    """Who started us, if it wants to know. ``watchdog_s``: how often it wants to hear from us; 0: it does not."""

    def __init__(self, address: str | None = None, watchdog_us: str | None = None) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        given = os.environ.get("WATCHDOG_USEC", "") if watchdog_us is None else watchdog_us
        self.watchdog_s = int(given) / 1e6 if given.isdigit() else 0.0

    def tell(self, **state: str) -> None:
        """Say ``READY="1"``, ``STATUS="…"`` and the like; that nobody listens is no fault of ours."""
        if not self._address:
            return
        text = "\n".join(f"{key}={' '.join(value.split())}" for key, value in state.items())
        # An address that starts with @ is in Linux's abstract namespace, whose names start with NUL.
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
            try:
                link.connect(address)
                link.send(text.encode(), socket.MSG_DONTWAIT)  # who does not read must not keep us waiting
            except OSError:
                return
