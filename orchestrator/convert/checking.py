"""A document held against its grammar: whatever is not in it, is missing, or is of another kind, with its place."""

from __future__ import annotations

import re
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from orchestrator.convert.report import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.convert.grammar import Attribute, Rule
    from orchestrator.convert.tree import Element
    from orchestrator.errors import Problem

_NAMESPACE = re.compile(r"https?://schemas\.microsoft\.com/ServiceHosting/[0-9]{4}/[0-9]{2}/(\w+)")
_NAMED_BY = {"Import": "moduleName"}  # what must not be there twice in one parent, if it is not `name`
_UNIQUE = {
    "LoadBalancerProbe", "WebRole", "WorkerRole", "VirtualMachineRole", "Certificate", "Setting", "InputEndpoint",
    "InternalEndpoint", "InstanceInputEndpoint", "LocalStorage", "Role", "AccessControl", "Import", "Site",
    "LoadBalancer",
}  # fmt: skip
_FAMILY = {
    "WorkerRole": "WebRole",
    "VirtualMachineRole": "WebRole",
    "InternalEndpoint": "InputEndpoint",
    "InstanceInputEndpoint": "InputEndpoint",
}
TRUE, FALSE = {"true", "1"}, {"false", "0"}


def problems(element: Element, grammar: Mapping[str, Rule], source: str) -> Iterator[Problem]:
    """Everything wrong with an element, and below it. Its name is known to be in the grammar."""
    rule = grammar[element.name]
    match = _NAMESPACE.fullmatch(element.namespace)
    kind = "ServiceDefinition" if "ServiceDefinition" in grammar else "ServiceConfiguration"
    if element.namespace and (match is None or match[1] != kind):
        told = f"<{element.name}> is in the namespace {element.namespace!r:.100}, not in Azure's for a {kind}"
        yield element.problem(source, told)
    if rule.attributes is not None:
        yield from _attributes(element, rule.attributes, source)
    if element.text.strip():
        yield element.problem(
            source, f"<{element.name}> has a text, {printable(element.text)!r:.60}, where none can be"
        )
    yield from _children(element, rule, grammar, source)
    yield from _twice(element, source)


def _attributes(element: Element, known: Mapping[str, Attribute], source: str) -> Iterator[Problem]:
    for name, attribute in known.items():
        if attribute.is_needed and not element.get(name) and not (name == "value" and name in element.attributes):
            yield element.problem(source, f"<{element.name}> needs the attribute {name}")
    for name, value in element.attributes.items():
        if name not in known:
            told = ", ".join(known) or "none"
            yield element.problem(source, f"<{element.name}> has no attribute {name!r:.60}; it has: {told}")
        elif (wrong := _wrong(value, known[name].kind)) and (value or not known[name].is_needed):
            yield element.problem(source, f'{name}="{printable(value)[:60]}" of <{element.name}> {wrong}')


def _wrong(value: str, kind: str) -> str:
    """What is wrong with an attribute's value, "" if nothing."""
    if kind in {"port", "port*"}:
        is_fit = _is_between(value, 1, 65535) or (value == "*" and kind == "port*")
        return "" if is_fit else "must be a port, 1 to 65535"
    if kind == "ipv4":
        return "" if _is_address(value) else "must be an IPv4 address"
    if kind == "bool":
        return "" if value.lower() in TRUE | FALSE else "must be true or false"
    if match := re.fullmatch(r"([0-9]+)-([0-9]+)", kind):
        low, high = int(match[1]), int(match[2])
        return "" if _is_between(value, low, high) else f"must be a whole number, {low} to {high}"
    if kind and value.lower() not in kind.split("|"):
        return f"must be one of {', '.join(kind.split('|'))}"
    return ""


def _is_address(value: str) -> bool:
    try:
        return bool(IPv4Address(value))
    except ValueError:
        return False


def _is_between(value: str, low: int, high: int) -> bool:
    return re.fullmatch(r"[0-9]{1,10}", value) is not None and low <= int(value) <= high


def _children(element: Element, rule: Rule, grammar: Mapping[str, Rule], source: str) -> Iterator[Problem]:
    seen: set[str] = set()
    for child in element.children:
        if child.name not in rule.children:
            told = ", ".join(rule.children) or "nothing"
            yield child.problem(
                source, f"<{printable(child.name)[:60]}> cannot be in <{element.name}>, which has: {told}"
            )
            continue
        if child.name in seen and not rule.children[child.name]:
            yield child.problem(source, f"<{element.name}> has a second <{child.name}>")
        seen.add(child.name)
        yield from problems(child, grammar, source)
    for name in rule.needed:
        if name not in seen:
            yield element.problem(source, f"<{element.name}> needs <{name}> in it")


def _twice(element: Element, source: str) -> Iterator[Problem]:
    """Children of one kind with one name; the original's names do not differ by upper and lower case alone."""
    seen: dict[tuple[str, str], int] = {}
    for child in element.children:
        name = child.get(_NAMED_BY.get(child.name, "name"))
        if child.name not in _UNIQUE or not name:
            continue
        key = _FAMILY.get(child.name, child.name), name.casefold()
        if key in seen:
            yield child.problem(source, f"<{child.name}> {printable(name)!r:.60} is there already, in line {seen[key]}")
        seen.setdefault(key, child.line)
