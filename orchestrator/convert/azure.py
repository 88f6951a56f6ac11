"""A service definition (.csdef) and its configuration (.cscfg) as a service file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.convert import checking, leftovers, pairing
from orchestrator.convert.grammar import CONFIGURATION, DEFINITION
from orchestrator.convert.names import Computers, Names, as_name
from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.roles import RoleDraft
from orchestrator.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.convert.pairing import Pair
    from orchestrator.convert.tree import Element

FAMILIES = {
    "1": "windows-server-2008-sp2", "2": "windows-server-2008-r2", "3": "windows-server-2012",
    "4": "windows-server-2012-r2", "5": "windows-server-2016", "6": "windows-server-2019", "7": "windows-server-2022",
}  # fmt: skip


def check(pair: Pair) -> None:
    """Raises InvalidInput with every problem of both files."""
    found = list(checking.problems(pair.definition, DEFINITION, pair.source))
    if pair.configuration is not None:
        found += checking.problems(pair.configuration, CONFIGURATION, pair.configuration_source)
    found += pairing.problems(pair)
    if found:
        sources = [source for source in (pair.source, pair.configuration_source) if source]
        raise InvalidInput(" and ".join(sources), ordered(found))


def ordered(found: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(set(found), key=lambda problem: (problem.path, problem.line, problem.column, problem.message)))


def convert(pair: Pair, images: Mapping[str, str], service: str = "") -> Draft:
    """A pair without a problem, as a draft. ``images``: role (as the file has it, or "" for all) → image."""
    draft, said = Draft(), pair.definition.get("name")
    name = service or as_name(said, "service")
    if name != said and not service:
        draft.note(Kind.CHANGED, said, f"is called {name}: names are of a-z, 0-9 and -", pair.definition.at)
    family = FAMILIES.get(_family(pair.configuration), FAMILIES["1"])
    names, values, made = Names("role", are_roles=True), {}, {}
    all_given = [names.give(role.get("name")) for role in pair.roles()]
    computers = Computers(all_given)
    for role, given in zip(pair.roles(), all_given, strict=True):
        if given != role.get("name"):
            draft.note(Kind.CHANGED, role.get("name"), f"is called {given}: names are of a-z, 0-9 and -", role.at)
        computer = computers.give(given, pairing.instances(pair.configured(role)))
        built = RoleDraft(pair, role, given, draft, computer)
        image = built.image(images.get(role.get("name"), images.get(given, images.get("", ""))), family)
        values[given] = built.value(image)
        made[role.get("name").casefold()] = built
        draft.comment(built.path, f"the {role.name} {role.get('name')}")
    draft.value = {"service": name, "roles": values}
    if rules := _traffic(pair, made, draft):
        draft.value["traffic"] = rules
    _rest(pair, draft)
    return draft


def _family(configuration: Element | None) -> str:
    """The guest OS family: said, or in the version (``WA-GUEST-OS-2.7_201109-01``), or the first."""
    if configuration is None:
        return "1"
    version = re.fullmatch(r"WA-GUEST-OS-([0-9])\..*", configuration.get("osVersion"))
    return configuration.get("osFamily").strip() or (version[1] if version else "1")


def _traffic(pair: Pair, made: Mapping[str, RoleDraft], draft: Draft) -> list[object]:
    """Who may reach an internal endpoint. A rule for all roles says what is so without one."""
    rules: list[object] = []
    for rule in pair.definition.all("NetworkTrafficRules", "OnlyAllowTrafficTo"):
        origins = [made[found.get("roleName").casefold()].name for found in rule.all("WhenSource", "FromRole")]
        who: object = "all" if rule.first("AllowAllTraffic") else list(dict.fromkeys(origins))
        for target in rule.all("Destinations", "RoleEndpoint"):
            role = made[target.get("roleName").casefold()]
            for name in role.endpoints.given.get(target.get("endpointName").casefold(), ()):
                draft.comment(("traffic", len(rules)), f"{role.name}/{target.get('endpointName')}")
                rules.append({"to": f"{role.name}.{name}", "from": who})
    return rules


def _rest(pair: Pair, draft: Draft) -> None:
    definition, configuration = pair.definition, pair.configuration
    if definition.get("topologyChangeDiscovery"):
        text = f"{definition.get('topologyChangeDiscovery')}: instances find each other by DNS"
        draft.note(Kind.DROPPED, "topologyChangeDiscovery", text, definition.at)
    for document in (definition, configuration):
        if document is not None and (version := document.get("schemaVersion")):
            text = f"{version}: says which SDK the file was written for"
            draft.note(Kind.DROPPED, f"{document.name}/schemaVersion", text, document.at)
    used = {
        endpoint.get("loadBalancerProbe").casefold()
        for role in pair.roles()
        for group in pairing.GROUPS
        for endpoint in role.all(group, "InputEndpoint")
    }
    for probe in definition.all("LoadBalancerProbes", "LoadBalancerProbe"):
        if probe.get("name").casefold() not in used:
            draft.note(Kind.DROPPED, probe.get("name"), "no endpoint uses this probe", probe.at)
    if configuration is not None:
        _rest_of_configuration(configuration, draft)


def _rest_of_configuration(configuration: Element, draft: Draft) -> None:
    if configuration.get("osFamily") or configuration.get("osVersion"):
        said = f"{configuration.get('osFamily') or '1'}, version {configuration.get('osVersion') or '*'}"
        draft.note(Kind.CHANGED, "osFamily", f"{said}: only the name of an image comes of it", configuration.at)
    for network in configuration.all("NetworkConfiguration"):
        leftovers.tell(network, leftovers.OF_THE_NETWORK, "NetworkConfiguration", draft)
        for group in network.all("AddressAssignments"):
            leftovers.tell(group, leftovers.OF_THE_NETWORK, "AddressAssignments", draft)
        for server in network.all("Dns", "DnsServers", "DnsServer"):
            draft.note(Kind.CHANGED, server.get("name"), "is only an address in setup.dns: it has no name", server.at)
