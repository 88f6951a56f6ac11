"""The words for how HAProxy treats traffic that need no other value: rules, stickiness and checks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Balance(Enum):
    """By what rule HAProxy chooses a server: all of them ones that can change while it runs."""

    ROUNDROBIN = "roundrobin"
    LEASTCONN = "leastconn"
    SOURCE = "source"


class Sticky(Enum):
    """What keeps a client with the instance that it had: nothing, a cookie of HAProxy's, or its address."""

    NONE = "none"
    COOKIE = "cookie"
    SOURCE = "source"


@dataclass(frozen=True, slots=True)
class Check:
    """How HAProxy's own check goes: ``rise`` good answers in a row bring a server in, ``fall`` bad ones out.

    ``port`` 0: the endpoint's own target. ``status``: first and last good status of an HTTP answer.
    """

    interval_s: float = 2.0
    timeout_s: float = 2.0
    rise: int = 2
    fall: int = 3
    port: int = 0
    status: tuple[int, int] = (200, 399)
