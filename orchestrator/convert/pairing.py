"""What a definition and a configuration have to agree on, and what each says about its own names and ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.convert.tree import Element
    from orchestrator.errors import Problem

ROLES = ("WebRole", "WorkerRole", "VirtualMachineRole")
PLUGIN = "Microsoft.WindowsAzure.Plugins."  # settings and certificates that an <Import> declares


@dataclass(frozen=True, slots=True)
class Pair:
    """Both documents with the names of their files; a definition may come alone."""

    definition: Element
    source: str
    configuration: Element | None = None
    configuration_source: str = ""

    def roles(self) -> list[Element]:
        return [child for child in self.definition.children if child.name in ROLES]

    def configured(self, role: Element) -> Element | None:
        """What the configuration says of a role."""
        if self.configuration is None:
            return None
        return next((c for c in self.configuration.all("Role") if same(c.get("name"), role.get("name"))), None)

    def endpoint(self, role: str, name: str) -> Element | None:
        """An endpoint by role and name."""
        for found in (r for r in self.roles() if same(r.get("name"), role)):
            endpoints = found.first("Endpoints")
            return next((e for e in endpoints.children if same(e.get("name"), name)), None) if endpoints else None
        return None


def same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def problems(pair: Pair) -> Iterator[Problem]:
    if not pair.roles():
        yield pair.definition.problem(pair.source, "has no role: no WebRole, WorkerRole or VirtualMachineRole")
    for role in pair.roles():
        yield from _endpoints(role, pair)
        yield from _probes(role, pair)
    for probe in pair.definition.all("LoadBalancerProbes", "LoadBalancerProbe"):
        if probe.get("protocol").lower() == "http" and not probe.get("path"):
            yield probe.problem(pair.source, "<LoadBalancerProbe> with protocol http needs the attribute path")
    yield from _ports(pair)
    yield from _traffic(pair)
    if pair.configuration is not None:
        yield from _between(pair, pair.configuration)


def _between(pair: Pair, configuration: Element) -> Iterator[Problem]:
    source, said = pair.configuration_source, configuration.get("serviceName")
    if said and not same(said, pair.definition.get("name")):
        yield configuration.problem(
            source, f"is of the service {said!r:.60}, and {pair.source} defines {pair.definition.get('name')!r:.60}"
        )
    for role in configuration.all("Role"):
        if not any(same(role.get("name"), defined.get("name")) for defined in pair.roles()):
            yield role.problem(source, f"role {role.get('name')!r:.60} is not in {pair.source}")
    for role in pair.roles():
        if (configured := pair.configured(role)) is None:
            yield role.problem(pair.source, f"role {role.get('name')!r:.60} is not in {source}")
            continue
        yield from _declared(role, configured, pair, ("ConfigurationSettings", "Setting"))
        yield from _declared(role, configured, pair, ("Certificates", "Certificate"))


def _declared(role: Element, configured: Element, pair: Pair, path: tuple[str, str]) -> Iterator[Problem]:
    """Settings and certificates that only one of the two has. What an import brings is declared by it."""
    known, given = list(role.all(*path)), list(configured.all(*path))
    what = path[1].lower()
    has_imports = role.first("Imports", "Import") is not None
    for element in known:
        if not any(element.get("name") == other.get("name") for other in given):
            told = f"{what} {element.get('name')!r:.80} of role {role.get('name')!r:.60} has no value"
            yield element.problem(pair.source, f"{told} in {pair.configuration_source}")
    for element in given:
        is_imported = has_imports and element.get("name").startswith(PLUGIN)
        if not is_imported and not any(element.get("name") == other.get("name") for other in known):
            told = f"{what} {element.get('name')!r:.80} of role {role.get('name')!r:.60} is not declared"
            yield element.problem(pair.configuration_source, f"{told} in {pair.source}")


def _endpoints(role: Element, pair: Pair) -> Iterator[Problem]:
    certificates = {element.get("name") for element in role.all("Certificates", "Certificate")}
    for endpoint in role.all("Endpoints", "InputEndpoint"):
        name = endpoint.get("certificate")
        if name and name not in certificates and not name.startswith(PLUGIN):
            yield endpoint.problem(pair.source, f"certificate {name!r:.60} is none of role {role.get('name')!r:.60}")
        if endpoint.get("protocol").lower() == "https" and not name:
            yield endpoint.problem(pair.source, "<InputEndpoint> with protocol https needs the attribute certificate")
    for bound in role.all("Sites", "Site", "Bindings", "Binding"):
        if pair.endpoint(role.get("name"), bound.get("endpointName")) is None:
            yield bound.problem(pair.source, f"endpoint {bound.get('endpointName')!r:.60} is none of its role")


def _probes(role: Element, pair: Pair) -> Iterator[Problem]:
    probes = {probe.get("name").casefold() for probe in pair.definition.all("LoadBalancerProbes", "LoadBalancerProbe")}
    for endpoint in role.all("Endpoints", "InputEndpoint"):
        name = endpoint.get("loadBalancerProbe")
        if name and name.casefold() not in probes:
            yield endpoint.problem(pair.source, f"there is no <LoadBalancerProbe> {name!r:.60}")


def public_ports(endpoint: Element) -> range:
    """The VIP ports of an endpoint; none of an internal one. Raises ValueError where they are no numbers."""
    if endpoint.name == "InputEndpoint":
        port = int(endpoint.get("port"))
        return range(port, port + 1)
    found = endpoint.first("AllocatePublicPortFrom", "FixedPortRange")
    return range(int(found.get("min")), int(found.get("max")) + 1) if found else range(0)


def _ports(pair: Pair) -> Iterator[Problem]:
    """VIP ports that two endpoints want, ranges that end before they begin or are too short for their role."""
    taken: dict[tuple[bool, int], str] = {}
    every = ((role, child) for role in pair.roles() for group in role.all("Endpoints") for child in group.children)
    for role, endpoint in every:
        try:
            ports = public_ports(endpoint)
        except ValueError:
            continue  # the grammar has told it
        told = f"endpoint {endpoint.get('name')!r:.60} of role {role.get('name')!r:.60}"
        if endpoint.name == "InstanceInputEndpoint":
            yield from _range(endpoint, ports, pair.configured(role), pair.source)
        for found in endpoint.all("FixedPortRange"):
            if (
                found.get("min").isdigit()
                and found.get("max").isdigit()
                and int(found.get("min")) > int(found.get("max"))
            ):
                yield found.problem(pair.source, "is a range that ends before it begins")
        is_udp = endpoint.get("protocol").lower() == "udp"
        for port in ports:
            if (owner := taken.setdefault((is_udp, port), told)) != told:
                yield endpoint.problem(pair.source, f"port {port} is given twice: {owner} has it already")
                break


def _range(endpoint: Element, ports: range, configured: Element | None, source: str) -> Iterator[Problem]:
    count = instances(configured)
    if len(ports) == 0 and endpoint.first("AllocatePublicPortFrom", "FixedPortRange"):
        yield endpoint.problem(source, "has a range of ports that ends before it begins")
    elif 0 < len(ports) < count:
        yield endpoint.problem(source, f"has {len(ports)} ports for {count} instances")


def instances(configured: Element | None) -> int:
    """How many instances a configuration's role has; 1 where that is not told, or no number."""
    found = configured.first("Instances") if configured else None
    count = found.get("count") if found else "1"
    return int(count) if count.isdecimal() and count.isascii() and len(count) < 10 else 1


def _traffic(pair: Pair) -> Iterator[Problem]:
    for rule in pair.definition.all("NetworkTrafficRules", "OnlyAllowTrafficTo"):
        for target in rule.all("Destinations", "RoleEndpoint"):
            role, name = target.get("roleName"), target.get("endpointName")
            if (endpoint := pair.endpoint(role, name)) is None:
                yield target.problem(pair.source, f"role {role!r:.60} has no endpoint {name!r:.60}")
            elif endpoint.name != "InternalEndpoint":
                yield target.problem(pair.source, f"endpoint {name!r:.60} is not an <InternalEndpoint>")
        for origin in rule.all("WhenSource", "FromRole"):
            if not any(same(origin.get("roleName"), role.get("name")) for role in pair.roles()):
                yield origin.problem(pair.source, f"there is no role {origin.get('roleName')!r:.60}")
