"""How a VIP comes to be an address of the place where HAProxy is."""

from __future__ import annotations

from enum import Enum


class Bind(Enum):
    """LOOPBACK: an address more on ``lo``, which others reach by a route. INTERFACE: one more on a network's interface.

    OWN: an interface's own address, which nobody adds and nobody removes; services share it, port by port.
    """

    LOOPBACK = "loopback"
    INTERFACE = "interface"
    OWN = "own"
