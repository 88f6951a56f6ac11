"""What a definition and a configuration have to agree on, and what each says about its own names and ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.convert.tree import Element
    from orchestrator.errors import Problem

ROLES = ("WebRole", "WorkerRole", "VirtualMachineRole")
MAX_ROLES = 50  # Azure's limit is 25
GROUPS = ("Endpoints", "InputEndpoints")  # the second as the SDKs before 1.3 had it
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
            return next((e for e in endpoints_of(found) if same(e.get("name"), name)), None)
        return None


def endpoints_of(role: Element) -> list[Element]:
    return [endpoint for name in GROUPS for group in role.all(name) for endpoint in group.children]


def same(one: str, other: str) -> bool:
    return one.casefold() == other.casefold()


def problems(pair: Pair) -> Iterator[Problem]:
    if not pair.roles():
        yield pair.definition.problem(pair.source, "has no role: no WebRole, WorkerRole or VirtualMachineRole")
    if len(pair.roles()) > MAX_ROLES:
        yield pair.definition.problem(pair.source, f"has {len(pair.roles())} roles: a service has up to {MAX_ROLES}")
        return
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
    for network in configuration.all("NetworkConfiguration"):
        yield from _network(network, pair)
    yield from _balancers(pair, configuration)


def _network(network: Element, pair: Pair) -> Iterator[Problem]:
    """What the network's part says of roles, endpoints and rules that there are not."""
    source = pair.configuration_source
    rules = {rule.get("name").casefold() for rule in network.all("AccessControls", "AccessControl")}
    for acl in network.all("EndpointAcls", "EndpointAcl"):
        role, name = acl.get("role"), acl.get("endpoint") or acl.get("endPoint")
        if not name:
            yield acl.problem(source, "<EndpointAcl> needs the attribute endpoint")
        elif pair.endpoint(role, name) is None:
            yield acl.problem(source, f"role {role!r:.60} has no endpoint {name!r:.60}")
        if acl.get("accessControl") and acl.get("accessControl").casefold() not in rules:
            yield acl.problem(source, f"there is no <AccessControl> {acl.get('accessControl')!r:.60}")
    for address in network.all("AddressAssignments", "InstanceAddress"):
        if not any(same(address.get("roleName"), role.get("name")) for role in pair.roles()):
            yield address.problem(source, f"there is no role {address.get('roleName')!r:.60}")


def _balancers(pair: Pair, configuration: Element) -> Iterator[Problem]:
    path = ("NetworkConfiguration", "LoadBalancers", "LoadBalancer")
    balancers = {balancer.get("name").casefold() for balancer in configuration.all(*path)}
    for endpoint in (endpoint for role in pair.roles() for endpoint in endpoints_of(role)):
        if (name := endpoint.get("loadBalancer")) and name.casefold() not in balancers:
            told = f"there is no <LoadBalancer> {name!r:.60} in {pair.configuration_source}"
            yield endpoint.problem(pair.source, told)


def _declared(role: Element, configured: Element, pair: Pair, path: tuple[str, str]) -> Iterator[Problem]:
    """Settings and certificates that only one of the two has. What an import brings is declared by it."""
    known, given = list(role.all(*path)), list(configured.all(*path))
    what = path[1].lower()
    has_imports = role.first("Imports", "Import") is not None
    names, values = {element.get("name") for element in known}, {element.get("name") for element in given}
    for element in known:
        if element.get("name") not in values:
            told = f"{what} {element.get('name')!r:.80} of role {role.get('name')!r:.60} has no value"
            yield element.problem(pair.source, f"{told} in {pair.configuration_source}")
    for element in given:
        is_imported = has_imports and element.get("name").startswith(PLUGIN)
        if not is_imported and element.get("name") not in names:
            told = f"{what} {element.get('name')!r:.80} of role {role.get('name')!r:.60} is not declared"
            yield element.problem(pair.configuration_source, f"{told} in {pair.source}")


def _endpoints(role: Element, pair: Pair) -> Iterator[Problem]:
    certificates = {element.get("name") for element in role.all("Certificates", "Certificate")}
    for endpoint in (e for e in endpoints_of(role) if e.name == "InputEndpoint"):
        name = endpoint.get("certificate")
        if name and name not in certificates and not name.startswith(PLUGIN):
            yield endpoint.problem(pair.source, f"certificate {name!r:.60} is none of role {role.get('name')!r:.60}")
        if endpoint.get("protocol").lower() == "https" and not name:
            yield endpoint.problem(pair.source, "<InputEndpoint> with protocol https needs the attribute certificate")
    yield from _internal(role, pair)
    for bound in role.all("Sites", "Site", "Bindings", "Binding"):
        if pair.endpoint(role.get("name"), bound.get("endpointName")) is None:
            yield bound.problem(pair.source, f"endpoint {bound.get('endpointName')!r:.60} is none of its role")


def _internal(role: Element, pair: Pair) -> Iterator[Problem]:
    """Ports between instances: said in one way only, and none by two endpoints of a role and protocol."""
    taken: dict[tuple[bool, int], str] = {}
    for endpoint in (e for e in endpoints_of(role) if e.name == "InternalEndpoint"):
        fixed, many = endpoint.first("FixedPort"), endpoint.first("FixedPortRange")
        said = [way for way in (endpoint.get("port").strip("*"), fixed, many) if way]
        if len(said) > 1:
            told = "says its port twice: by port, by <FixedPort> or by <FixedPortRange>"
            yield endpoint.problem(pair.source, f"<InternalEndpoint> {endpoint.get('name')!r:.60} {told}")
            continue
        first = fixed.get("port") if fixed else many.get("min") if many else endpoint.get("port")
        last = many.get("max") if many else first
        if not (_is_port(first) and _is_port(last)):
            continue  # it has none, or the grammar has told it
        for key in _keys(endpoint, range(int(first), int(last) + 1)):
            if (owner := taken.setdefault(key, endpoint.get("name"))) != endpoint.get("name"):
                told = f"port {key[1]} is given twice: endpoint {owner!r:.60} of its role has it already"
                yield endpoint.problem(pair.source, told)
                break


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6


def _keys(endpoint: Element, ports: range) -> Iterator[tuple[bool, int]]:
    """(whether it is udp, port) of all that an internal endpoint listens on."""
    protocol = endpoint.get("protocol").lower()
    for is_udp in {"udp": (True,), "any": (False, True)}.get(protocol, (False,)):
        yield from ((is_udp, port) for port in ports)


def _probes(role: Element, pair: Pair) -> Iterator[Problem]:
    probes = {probe.get("name").casefold() for probe in pair.definition.all("LoadBalancerProbes", "LoadBalancerProbe")}
    for endpoint in endpoints_of(role):
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
    every = ((role, child) for role in pair.roles() for child in endpoints_of(role))
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
        if bool(rule.first("AllowAllTraffic")) is bool(rule.first("WhenSource")):
            yield rule.problem(pair.source, f"<{rule.name}> needs <AllowAllTraffic> or <WhenSource> in it, not both")
        for origin in rule.all("WhenSource", "FromRole"):
            if not any(same(origin.get("roleName"), role.get("name")) for role in pair.roles()):
                yield origin.problem(pair.source, f"there is no role {origin.get('roleName')!r:.60}")
