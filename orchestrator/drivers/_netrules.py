"""What the kernel of a host has of rules for guests' networks: somebody may flush them, and libvirt does not notice.

libvirt (9.0) makes its chains once in its life, and a network's rules when that starts or a reservation in it changes;
without the chains both fail, and a reload (SIGHUP) makes none. So the chains are made here, as libvirt makes them, and
the rules by libvirt. Only for a host whose kernel is this machine's: of any other host nothing is known here.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.drivers.process import run
from orchestrator.errors import VmroleError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LOOK_S = 10.0  # how long rules that somebody took away may go unnoticed: asking starts a program
AGAIN_S = 0.5  # libvirt takes a network's rules away while it changes them: only who misses them twice says so
TRUST_S = 3600.0  # what libvirt has made again is there, even if it cannot be seen here
LATER = 10_004_000  # from this libvirt on a network's rules may be nftables' own, which iptables does not see
CHAINS = (
    ("mangle", "POSTROUTING", "LIBVIRT_PRT"),
    ("filter", "INPUT", "LIBVIRT_INP"),
    ("filter", "OUTPUT", "LIBVIRT_OUT"),
    ("filter", "FORWARD", "LIBVIRT_FWO"),
    ("filter", "FORWARD", "LIBVIRT_FWI"),
    ("filter", "FORWARD", "LIBVIRT_FWX"),
    ("nat", "POSTROUTING", "LIBVIRT_PRT"),
)
_FORWARDS = re.compile(r"^-A LIBVIRT_FWO .*-i (\S+) ", re.MULTILINE)
_MASQUERADES = re.compile(r"^-A LIBVIRT_PRT -s (\S+) .*-j MASQUERADE", re.MULTILINE)
_TABLE = re.compile(r"^table (\S+ \S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Needs:
    """What of a running network libvirt has rules for: its bridge, its subnet, and its forward mode."""

    network: str
    bridge: str
    subnet: str
    forward: str


class NetworkRules:
    """``prefix``: the argv prefix that runs a program on the host's network; None: nobody here can.

    ``own``: the nftables rules that the host is to have beside libvirt's ("": none), which can be loaded again.
    """

    def __init__(self, prefix: Sequence[str] | None, own: str = "") -> None:
        self._prefix = prefix
        self._own = own
        self._has_iptables: bool | None = None
        self._looked = float("-inf")
        self._seen: tuple[frozenset[str], frozenset[str]] | None = None
        self._has_own = True
        self._renewed: dict[str, float] = {}
        self._changing = threading.RLock()

    @contextlib.contextmanager
    def changing(self) -> Iterator[None]:
        """While a network is changed, and its rules with it, nothing is said to be missing."""
        with self._changing:
            yield

    def known(self, libvirt: Callable[[], int]) -> None:
        """``libvirt`` tells its version there; it is asked once."""
        if self._has_iptables is None:
            self._has_iptables = libvirt() < LATER

    def lacks(self, networks: Sequence[Needs]) -> frozenset[str]:
        """Names of those of these running networks whose guests no rule looks at any more."""
        if self._prefix is None or not networks or not self._changing.acquire(blocking=False):
            return frozenset()
        try:
            return self._lacks(networks)
        finally:
            self._changing.release()

    def _lacks(self, networks: Sequence[Needs]) -> frozenset[str]:
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._look(now)
        missing = self._missing(networks, now)
        if missing and self._looked < now:  # a network that has been started since the last look
            self._look(now)
            missing = self._missing(networks, now)
        if missing:
            time.sleep(AGAIN_S)  # noqa: TID251 - inside a bounded wait for libvirt's own work
            self._look(now)
            missing &= self._missing(networks, now)
        return missing

    def renewed(self, network: str) -> None:
        self._renewed[network] = time.monotonic()
        self._looked = float("-inf")

    def restore(self) -> bool:
        """Make what a network's rules stand on, as far as it is missing; whether any was. Raises VmroleError."""
        if self._prefix is None:
            return False
        made = False
        for family in ("iptables", "ip6tables") if self._has_iptables else ():
            text = missing_chains(run([*self._prefix, f"{family}-save"]).stdout)
            if text:
                run([*self._prefix, f"{family}-restore", "-w", "--noflush"], stdin=text)
                made = True
        if self._own and not self._finds_own():
            run([*self._prefix, "nft", "-f", "-"], stdin=self._own)
            made = True
        return made

    def _missing(self, networks: Sequence[Needs], now: float) -> frozenset[str]:
        recent = {name for name, at in self._renewed.items() if now - at < TRUST_S}
        return frozenset(n.network for n in networks if n.network not in recent and not self._is_whole(n))

    def _is_whole(self, needs: Needs) -> bool:
        if not self._has_own:
            return False
        if self._seen is None or needs.forward == "open":  # for which libvirt makes no rules
            return True
        bridges, subnets = self._seen
        return needs.bridge in bridges and (needs.forward != "nat" or needs.subnet in subnets)

    def _look(self, now: float) -> None:
        self._looked, self._seen, self._has_own = now, None, True
        try:
            self._has_own = not self._own or self._finds_own()
            saved = run([*(self._prefix or ()), "iptables-save"], timeout_s=5, check=False)
        except VmroleError:  # no such program, or it hangs: nothing is known
            return
        if saved.code == 0 and self._has_iptables:
            self._seen = frozenset(_FORWARDS.findall(saved.stdout)), frozenset(_MASQUERADES.findall(saved.stdout))

    def _finds_own(self) -> bool:
        there = run([*(self._prefix or ()), "nft", "list", "tables"], timeout_s=5, check=False)
        return there.code != 0 or set(_TABLE.findall(self._own)) <= set(_TABLE.findall(there.stdout))


def missing_chains(saved: str) -> str:
    """What iptables-restore has to be told, by what iptables-save says, so that libvirt's chains are all there.

    A chain that is there is not named: it would be emptied. The way into it is made again if only that is missing.
    """
    there = set(_lines(saved))
    text = ""
    for table in dict.fromkeys(table for table, _hook, _chain in CHAINS):
        own = [(hook, chain) for known, hook, chain in CHAINS if known == table]
        made = [f":{chain} - [0:0]" for _hook, chain in own if (table, f":{chain}") not in there]
        led = [f"-I {h} -j {chain}" for h, chain in own if (table, f"-A {h} -j {chain}") not in there]
        text += "".join(f"{line}\n" for line in (f"*{table}", *made, *led, "COMMIT")) if made or led else ""
    return text


def _lines(saved: str) -> Iterator[tuple[str, str]]:
    """(table, chain or rule) of what iptables-save says."""
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:]
        yield table, line.split()[0] if line.startswith(":") else line
