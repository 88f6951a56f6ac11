"""A guest's filter as libvirt's XML, and back: what libvirt has is read, not remembered, so a change is seen."""

from __future__ import annotations

from lxml import etree
from lxml.builder import E

from orchestrator.model.guard import FilterRule, Guard
from orchestrator.model.names import libvirt_uuid


def filter_xml(guard: Guard, owner: str) -> str:
    """The filter; libvirt takes one of a name again only with the UUID that it has."""
    rules = [_element(rule) for rule in sorted(guard.rules)]
    root = E.filter(E.uuid(libvirt_uuid(owner, guard.name)), *rules, name=guard.name, chain="root")
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def _element(rule: FilterRule) -> etree._Element:
    said = {**({"match": "no"} if rule.negated else {}), **dict(rule.match)}
    what = [E(rule.protocol, **said)] if rule.protocol else []
    return E.rule(*what, action=rule.action, direction=rule.direction, priority=str(rule.priority))


def read(xml: str) -> Guard:
    """A filter that anybody may have made; whatever is more to it than rules makes it another than ours."""
    root = etree.fromstring(xml)
    more = [FilterRule(0, "", "", str(found.get("filter"))) for found in root.iterfind("filterref")]
    return Guard(root.get("name", ""), tuple(more + [_read(rule) for rule in root.iterfind("rule")]))


def _read(rule: etree._Element) -> FilterRule:
    said = {"priority": rule.get("priority", "500"), "action": rule.get("action", ""), "way": rule.get("direction", "")}
    priority = int(said["priority"]) if said["priority"].lstrip("-").isdigit() else 0
    what = next((child for child in rule if isinstance(child.tag, str)), None)
    if what is None:
        return FilterRule(priority, said["action"], said["way"])
    match = {str(name): str(value) for name, value in what.attrib.items()}
    negated = match.pop("match", "yes") == "no"
    return FilterRule(priority, said["action"], said["way"], str(what.tag), tuple(sorted(match.items())), negated)
