"""What the kernel of a host has of guests' filters: somebody may flush its rules, and libvirt does not notice.

Only for a host whose kernel is this machine's, and whoever may ask it: of any other host nothing is known here.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from orchestrator.drivers.process import run
from orchestrator.errors import VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

LOOK_S = 10.0  # how long rules that somebody took away may go unnoticed: asking starts a program
TRUST_S = 3600.0  # what libvirt has put back is there, even if it cannot be seen here
LATER = 11_010_000  # from this libvirt on rules may be nftables' own, which ebtables does not see
ARGV = ("ebtables", "--concurrent", "-t", "nat", "-L", "PREROUTING")
_ENTRY = re.compile(r"^-i (\S+) -j libvirt-", re.MULTILINE)  # where libvirt has a guest's frames go first


class Enforced:
    """``prefix``: the argv prefix that runs a program on the host's network; None: nobody here can."""

    def __init__(self, prefix: Sequence[str] | None) -> None:
        self._prefix = prefix
        self._is_known = False
        self._looked = float("-inf")
        self._seen: frozenset[str] | None = None
        self._renewed: dict[str, float] = {}

    def known(self, libvirt: Callable[[], int]) -> None:
        """``libvirt`` tells its version there; it is asked once."""
        if not self._is_known:
            self._prefix = self._prefix if libvirt() < LATER else None
            self._is_known = True

    def lacks(self, cards: Collection[str]) -> frozenset[str]:
        """Those of these interfaces, of running machines, whose frames no rule of libvirt's sees any more."""
        if self._prefix is None or not cards:
            return frozenset()
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._look(now)
        missing = self._missing(cards, now)
        if missing and self._looked < now:  # a machine that has been started since the last look
            self._look(now)
            missing = self._missing(cards, now)
        return missing

    def renewed(self, card: str) -> None:
        self._renewed[card] = time.monotonic()
        self._looked = float("-inf")

    def _missing(self, cards: Collection[str], now: float) -> frozenset[str]:
        if self._seen is None:
            return frozenset()
        return frozenset(c for c in cards if c not in self._seen and now - self._renewed.get(c, -TRUST_S) >= TRUST_S)

    def _look(self, now: float) -> None:
        self._looked, self._seen = now, None
        try:
            found = run([*(self._prefix or ()), *ARGV], timeout_s=5, check=False)
        except VmroleError:  # no such program, or it hangs: nothing is known
            return
        if found.code == 0:
            self._seen = frozenset(_ENTRY.findall(found.stdout))
            self._renewed = {card: at for card, at in self._renewed.items() if card not in self._seen}
