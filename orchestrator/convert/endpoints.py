"""A role's endpoints, each as far as HAProxy can carry it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.convert.names import Names
from orchestrator.convert.pairing import endpoints_of, public_ports, same
from orchestrator.convert.report import Draft, Kind, Path_

if TYPE_CHECKING:
    from orchestrator.convert.pairing import Pair
    from orchestrator.convert.tree import Element

_URL_PATH = re.compile(r"/[A-Za-z0-9_.~/%?&=+-]*")
FIRST_FREE = 20_000  # where Azure's own emulator begins to give ports
MAX_INTERVAL_S, MAX_FALL = 3600, 100
NO_UDP = "udp is not possible: HAProxy, which carries all traffic of the VIP, has TCP only"


class Endpoints:
    """The endpoints of one role; ``given``: Azure's name → ours, for the rules that speak of them."""

    def __init__(self, pair: Pair, role: Element, path: Path_, draft: Draft) -> None:
        self._pair, self._role, self._path, self._draft = pair, role, (*path, "endpoints"), draft
        self._names = Names("endpoint")
        self._free = FIRST_FREE
        inner = (endpoint for endpoint in endpoints_of(role) if endpoint.name == "InternalEndpoint")
        self._taken = {port for endpoint in inner for port in self._internal_ports(endpoint)}
        self.value: dict[str, object] = {}
        self.given: dict[str, list[str]] = {}
        for endpoint in endpoints_of(role):
            self._add(endpoint)

    def _subject(self, endpoint: Element) -> str:
        return f"{self._role.get('name')}/{endpoint.get('name')}"

    def _note(self, kind: Kind, endpoint: Element, text: str) -> None:
        self._draft.note(kind, self._subject(endpoint), text, endpoint.at)

    def _add(self, endpoint: Element) -> None:
        protocol = endpoint.get("protocol").lower()
        if protocol == "udp" and endpoint.name != "InternalEndpoint":
            self._note(Kind.DROPPED, endpoint, NO_UDP)
            return
        make = {"InputEndpoint": self._input, "InternalEndpoint": self._internal, "InstanceInputEndpoint": self._each}
        make[endpoint.name](endpoint)

    def _put(self, endpoint: Element, fields: dict[str, object], name: str = "") -> str:
        wanted = name or endpoint.get("name")
        given = self._names.give(wanted)
        if given != wanted:
            self._note(Kind.CHANGED, endpoint, f"is called {given}: names are of a-z, 0-9 and -")
        self.value[given] = fields
        self.given.setdefault(endpoint.get("name").casefold(), []).append(given)
        return given

    def _input(self, endpoint: Element) -> None:
        protocol, port, local = endpoint.get("protocol").lower(), int(endpoint.get("port")), endpoint.get("localPort")
        target = port if not local or local == "*" else int(local)
        fields: dict[str, object] = {"port": port}
        if target != port:
            fields["target"] = target
        fields["protocol"] = protocol
        probe = self._probe(endpoint.get("loadBalancerProbe"))
        if probe is not None:
            fields["check"] = self._check(probe, protocol, target)
        if endpoint.get("ignoreRoleInstanceStatus").lower() in {"true", "1"}:
            fields["ignore_instance_status"] = True
        fields |= self._of_the_balancer(endpoint)
        given = self._put(endpoint, fields)
        if local == "*":
            text = f"localPort is *: any free port; say which one the program listens on (it is {target} here)"
            self._draft.decide((*self._path, given), self._subject(endpoint), text, endpoint.at)
        if protocol == "https":
            told = f"https ends in the instance, as before: it needs the certificate {endpoint.get('certificate')}"
            self._draft.comment((*self._path, given), told)

    def _of_the_balancer(self, endpoint: Element) -> dict[str, object]:
        fields: dict[str, object] = {}
        if endpoint.get("loadBalancerDistribution").lower() in {"sourceip", "sourceipprotocol"}:
            fields["balance"] = "source"
        if minutes := endpoint.get("idleTimeoutInMinutes"):
            fields["idle_timeout"] = f"{minutes}m"
        if name := endpoint.get("loadBalancer"):
            text = f"was on the internal load balancer {name}: on the VIP it is reached from outside, too"
            self._draft.note(Kind.DECIDE, self._subject(endpoint), text, endpoint.at)
        if endpoint.get("enableDirectServerReturn").lower() in {"true", "1"}:
            text = "enableDirectServerReturn: answers go through HAProxy as requests do"
            self._note(Kind.DROPPED, endpoint, text)
        return fields

    def _probe(self, name: str) -> Element | None:
        probes = self._pair.definition.all("LoadBalancerProbes", "LoadBalancerProbe")
        return next((probe for probe in probes if name and same(probe.get("name"), name)), None)

    def _check(self, probe: Element, protocol: str, target: int) -> dict[str, object]:
        """A probe's times: it takes an instance out after ``timeout`` without an answer, we after ``fall`` failures."""
        interval, timeout = int(probe.get("intervalInSeconds", "15")), int(probe.get("timeoutInSeconds", "31"))
        port = int(probe.get("port") or target)
        check: dict[str, object] = {}
        if probe.get("protocol").lower() == "http" and (path := self._url_path(probe)):
            check["path"] = path
        fall = timeout // interval
        check |= {"interval": f"{min(interval, MAX_INTERVAL_S)}s", "fall": max(1, min(MAX_FALL, fall))}
        if interval > MAX_INTERVAL_S or fall > MAX_FALL:
            told = f"is asked every {check['interval']}, and out after {check['fall']} failures: no check is slower"
            self._draft.note(Kind.CHANGED, f"probe {probe.get('name')}", told, probe.at)
        if port != target or ("path" in check and protocol == "tcp"):
            check["port"] = port
        if "path" in check:
            check["status"] = 200
        return check

    def _url_path(self, probe: Element) -> str:
        path = probe.get("path", "/")
        path = path if path.startswith("/") else f"/{path}"
        if _URL_PATH.fullmatch(path):
            return path
        text = f"path {path!r:.80} has letters that no check can ask for: write them as %XX; HAProxy only connects"
        self._draft.note(Kind.DECIDE, f"probe {probe.get('name')}", text, probe.at)
        return ""

    def _internal(self, endpoint: Element) -> None:
        said = endpoint.get("protocol").lower()
        protocol = said if said in {"http", "udp"} else "tcp"
        ports = self._internal_ports(endpoint)
        while self._free in self._taken:
            self._free += 1
        target: object = f"{ports[0]}-{ports[-1]}" if len(ports) > 1 else ports[0] if ports else self._free
        given = self._put(endpoint, {"target": target, "protocol": protocol, "visibility": "internal"})
        if not ports:
            text = f"it had any free port; {self._free} is a guess: say which one the program listens on"
            self._draft.decide((*self._path, given), self._subject(endpoint), text, endpoint.at)
            self._free += 1
        if said == "any":  # of both kinds, so that a rule about it is about both
            self._note(Kind.CHANGED, endpoint, "any is one endpoint of tcp and one of udp here")
            self._put(
                endpoint, {"target": target, "protocol": "udp", "visibility": "internal"}, f"{endpoint.get('name')}-udp"
            )

    def _internal_ports(self, endpoint: Element) -> range:
        fixed, many = endpoint.first("FixedPort"), endpoint.first("FixedPortRange")
        if many is not None:
            return range(int(many.get("min")), int(many.get("max")) + 1)
        told = fixed.get("port") if fixed is not None else endpoint.get("port")
        return range(int(told), int(told) + 1) if told not in {"", "*"} else range(0)

    def _each(self, endpoint: Element) -> None:
        ports = public_ports(endpoint)
        fields: dict[str, object] = {
            "port": ports[0] if len(ports) == 1 else f"{ports[0]}-{ports[-1]}",
            "target": int(endpoint.get("localPort")),
            "protocol": "tcp",
            "visibility": "instance",
        }
        self._put(endpoint, fields)
