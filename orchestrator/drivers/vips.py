"""The VIPs as addresses of an interface. What was there before us is never taken away.

Which addresses are ours is in a file that is written before one is added: a death in between leaves one too many in
it, never one too few.
"""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

from orchestrator.drivers._files import write_durably
from orchestrator.drivers.process import Output, run
from orchestrator.errors import Missing, Refused
from orchestrator.model.vips import Bind

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.site import Site

LOOK_S = 10.0  # how long an address that somebody took away may go unnoticed: asking starts a program
NEVER = float("-inf")
FILE = "vips.json"
NOT_THERE = {126, 127}  # what a shell or nsenter ends with when there is no such program
_BOUND = re.compile(r"^ +bind ([0-9.]+):", re.MULTILINE)


class Vips:
    """The addresses of one home folder; ``folder`` has the file of those that are ours."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._prefix = site.balancer
        self._device = site.vip_device
        self._bind = site.vip_bind
        self._pool = site.vip_pool
        self._file = folder / FILE
        self._last: tuple[float, dict[str, str]] = (NEVER, {})

    def seen(self) -> tuple[frozenset[str], frozenset[str]]:
        """The addresses of the interface, and those that we have added and still have; as of a moment ago."""
        asked_at, found = self._last
        if time.monotonic() - asked_at > LOOK_S:
            found = self.addresses()
        ours = frozenset(vip for vip, device in self._ours().items() if found.get(vip) == device)
        return frozenset(vip for vip, device in found.items() if device == self._device), ours

    def addresses(self) -> dict[str, str]:
        """Every IPv4 address where the VIPs live, and the interface that has it."""
        answer = run([*self._prefix, "ip", "-json", "-4", "address", "show"]).stdout
        links = json.loads(answer or "[]")
        found = {info["local"]: link["ifname"] for link in links for info in link.get("addr_info", [])}
        self._last = (time.monotonic(), found)
        return found

    def holder(self, vip: str) -> str:
        """The MAC address of another machine that has this address already; "" if nobody answers for it.

        Asked only where the VIPs are on a network with others. Raises Missing without the program that asks.
        """
        if self._bind is not Bind.INTERFACE:
            return ""
        said = self._arping("-D", vip)
        if said.code in NOT_THERE:
            raise Missing("the program arping is not installed", "install the package iputils-arping")
        macs = [word.strip("[]") for word in said.stdout.split() if word.startswith("[") and ":" in word]
        return macs[0] if macs else ""

    def add(self, vip: str) -> None:
        """Give it to the interface, and tell its network. Nothing to do if the interface has it."""
        if self.addresses().get(vip) == self._device:
            return
        if self._bind is Bind.OWN:
            raise Refused(
                f"{vip} is no address of {self._device} any more",
                "give it back, or name another interface in site.yaml",
            )
        if mac := self.holder(vip):  # asked while it is not ours
            raise Refused(f"another machine ({mac}) has the address {vip}", "give the service another `vip`")
        ours = self._ours()
        if vip in ours:
            self.remove(vip)  # the site names another interface now
        try:
            self._write({**self._ours(), vip: self._device})
            run([*self._prefix, "ip", "address", "add", f"{vip}/32", "dev", self._device])
        finally:
            self._last = (NEVER, {})
        if self._bind is Bind.INTERFACE:
            # Whoever knew the address of another machine before knows ours at once.
            self._arping("-U", vip)

    def _arping(self, how: str, vip: str) -> Output:
        return run([*self._prefix, "arping", how, "-c", "2", "-w", "2", "-I", self._device, vip], check=False)

    def remove(self, vip: str) -> None:
        """Take it from the interface that we gave it to; one that we did not add stays."""
        ours = self._ours()
        if vip not in ours:
            return
        try:
            if self.addresses().get(vip) == ours[vip]:
                run([*self._prefix, "ip", "address", "del", f"{vip}/32", "dev", ours[vip]])
        finally:
            self._last = (NEVER, {})
        self._write({key: device for key, device in ours.items() if key != vip})

    def _ours(self) -> dict[str, str]:
        try:
            return {str(vip): str(device) for vip, device in json.loads(self._file.read_text()).items()}
        except FileNotFoundError:
            return self._of_before()
        except (ValueError, AttributeError) as error:
            raise Refused(f"{self._file} is damaged: {error}", "remove it: the VIPs that it names then stay") from error

    def _of_before(self) -> dict[str, str]:
        """What an older version has added, which noted nothing: the addresses that its HAProxy listens on."""
        try:
            text = self._file.with_name("haproxy.cfg").read_text(errors="replace")
        except OSError:
            return {}
        return dict.fromkeys(_BOUND.findall(text), self._device) if self._bind is not Bind.OWN else {}

    def _write(self, ours: dict[str, str]) -> None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._file, json.dumps(ours))
