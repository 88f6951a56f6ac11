"""Answer files for Windows Setup, element by element: namespaces, list items, hidden passwords, and the user's own.

The names of components and settings are the business of whoever calls this; no text is ever spliced into XML.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree

from orchestrator.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NS = "urn:schemas-microsoft-com:unattend"
WCM = "http://schemas.microsoft.com/WMIConfig/2002/State"
_ADD, _KEY = f"{{{WCM}}}action", f"{{{WCM}}}keyValue"
# In the order in which Windows goes through them.
PASSES = (
    "windowsPE", "offlineServicing", "generalize", "specialize", "auditSystem", "auditUser", "oobeSystem",
)  # fmt: skip
_IDENTITY = {
    "processorArchitecture": "amd64",
    "publicKeyToken": "31bf3856ad364e35",
    "language": "neutral",
    "versionScope": "nonSxS",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: a text, or settings below it. ``key``: it is an item of a list; its key there, or "" for none.

    A setting without a value stands for nothing at all: Windows Setup refuses empty elements.
    """

    name: str
    value: str | tuple[Setting, ...]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Component:
    """The settings of one component in one pass."""

    step: str
    name: str
    settings: tuple[Setting, ...]


def flag(name: str, *, is_on: bool) -> Setting:
    return Setting(name, "true" if is_on else "false")


def items(name: str, values: Iterable[str]) -> tuple[Setting, ...]:
    """A list of texts, in their order: the key of each is its number, from 1."""
    return tuple(Setting(name, value, key=str(number)) for number, value in enumerate(values, 1))


def hidden(name: str, password: str) -> Setting:
    """A password as Windows System Image Manager hides it: UTF-16 with the setting's own name behind it, in base64.

    It is hidden from a glance, not encrypted.
    """
    value = base64.b64encode((password + name).encode("utf-16-le")).decode()
    return Setting(name, (Setting("Value", value), flag("PlainText", is_on=False)))


def document(components: Sequence[Component], user_text: str = "") -> bytes:
    """The answer file, with the user's own merged into it. Raises Refused where that is no answer file.

    ValueError: a text that XML has no way to say.
    """
    root = etree.Element(_tag("unattend"), nsmap={None: NS, "wcm": WCM})
    for component in components:
        made = [element for setting in component.settings for element in _elements(setting)]
        if made:
            _component(_step(root, component.step), component.name).extend(made)
    if user_text:
        _merge(root, parsed(user_text))
    root[:] = sorted(root, key=lambda step: PASSES.index(step.get("pass", "")))
    etree.indent(root)
    return etree.tostring(root, xml_declaration=True, encoding="utf-8") + b"\n"


def parsed(text: str) -> etree._Element:
    """The user's own answer file. Raises Refused where it is none."""
    hint = "it must be like Windows System Image Manager writes it: <unattend>, <settings pass=…>, <component name=…>"
    try:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
        root = etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise Refused(f"the answer file is not XML: {error}", hint) from error
    if root.getroottree().docinfo.doctype or root.tag != _tag("unattend"):
        raise Refused(f"the answer file has no <unattend> in the namespace {NS}, or a DOCTYPE", hint)
    for step in root:
        _check_step(step, hint)
    return root


def _check_step(step: etree._Element, hint: str) -> None:
    here = f"line {step.sourceline} of the answer file"
    if step.tag not in {_tag("settings"), "{urn:schemas-microsoft-com:cpi}offlineImage"}:
        raise Refused(f"{here} has {step.tag!r} below <unattend>", hint)
    if step.tag == _tag("settings") and step.get("pass") not in PASSES:
        raise Refused(f"{here} has a pass {step.get('pass')!r}", f"the passes are {', '.join(PASSES)}")
    for part in step:
        if part.tag != _tag("component") or not part.get("name"):
            raise Refused(
                f"line {part.sourceline} of the answer file has {etree.QName(part).localname!r}"
                " where a pass has components, each with a name",
                hint,
            )
        foreign = next((each for each in part.iter() if not str(each.tag).startswith(f"{{{NS}}}")), None)
        if foreign is not None:
            raise Refused(f"line {foreign.sourceline} of the answer file has {foreign.tag!r}, not of {NS}", hint)


def _elements(setting: Setting) -> list[etree._Element]:
    """The element of a setting; none where there is nothing to say."""
    element = etree.Element(_tag(setting.name), nsmap={None: NS, "wcm": WCM})
    if setting.key is not None:
        element.set(_ADD, "add")
        if setting.key:
            element.set(_KEY, setting.key)
    if isinstance(setting.value, str):
        element.text = setting.value
        return [element] if setting.value else []
    element.extend([below for part in setting.value for below in _elements(part)])
    return [element] if len(element) else []


def _step(root: etree._Element, name: str) -> etree._Element:
    found = next((step for step in root if step.get("pass") == name), None)
    return found if found is not None else etree.SubElement(root, _tag("settings"), {"pass": name})


def _component(step: etree._Element, name: str, identity: dict[str, str] = _IDENTITY) -> etree._Element:
    """The component of a pass, made if it is not there: one of another architecture is another one."""
    wanted = identity["processorArchitecture"]
    same = (part for part in step if part.get("name") == name and part.get("processorArchitecture") == wanted)
    found = next(same, None)
    return found if found is not None else etree.SubElement(step, _tag("component"), {"name": name} | identity)


def _merge(ours: etree._Element, theirs: etree._Element) -> None:
    """Add the user's components; where one is there, setting by setting. Theirs wins, but lists are joined."""
    for step in theirs.iterchildren(_tag("settings")):
        for component in step.iterchildren(_tag("component")):
            identity = {key: str(component.get(key, usual)) for key, usual in _IDENTITY.items()}
            _settle(_component(_step(ours, step.get("pass", "")), component.get("name", ""), identity), component)


def _settle(ours: etree._Element, theirs: etree._Element) -> None:
    for child in sorted(theirs.iterchildren(tag=etree.Element), key=_order):
        is_item = child.get(_ADD) == "add"
        same = _twin(ours, child) if is_item else ours.find(str(child.tag))
        if same is None:
            ours.append(child)
        elif len(child) and len(same):
            _settle(same, child)
        else:
            ours.replace(same, child)
    _number(ours)


def _twin(ours: etree._Element, item: etree._Element) -> etree._Element | None:
    """The item of our list that has the name of theirs: Windows refuses two of one name. A number is no name."""
    name = _name(item)
    return next((each for each in ours.findall(str(item.tag)) if name and _name(each) == name), None)


def _name(item: etree._Element) -> str:
    found = item.get(_KEY) or item.findtext(_tag("Name")) or item.findtext(_tag("Identifier")) or ""
    return "" if found.strip().isdigit() else found.strip().casefold()


def _order(item: etree._Element) -> int:
    """The number of an item in its list; 0 for what has none."""
    text = (item.findtext(_tag("Order")) or "").strip()
    return int(text) if text.isascii() and text.isdigit() else 0


def _number(ours: etree._Element) -> None:
    """Give the items of a joined list numbers of their own, in their order: Windows refuses the same one twice."""
    for path in (f"*/{_tag('Order')}", f"{_tag('Route')}/{_tag('Identifier')}"):
        for number, element in enumerate(ours.findall(path), 1):
            element.text = str(number)
    for number, item in enumerate([each for each in ours if (each.get(_KEY) or "").isdigit()], 1):
        item.set(_KEY, str(number))


def _tag(name: str) -> str:
    return f"{{{NS}}}{name}"
