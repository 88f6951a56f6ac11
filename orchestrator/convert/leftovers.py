"""What has no place in a service file: told element by element, with all that it said, and why.

What may be a secret is told by its name only: a report is shown to others, and kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.convert.report import Draft, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.convert.tree import Element

HIDDEN = "(not shown)"
_NAME = re.compile(r"password|passwd|secret|accountkey|accesskey|apikey|privatekey|sharedaccess", re.IGNORECASE)
_VALUE = re.compile(
    r"(?:password|pwd|secret|accountkey|accesskey|apikey|sharedaccesskey|sharedaccesssignature|sig) *="
    r"|PRIVATE KEY-----|[a-z][a-z0-9+.-]*://[^/@\s:]*:[^/@\s]+@",
    re.IGNORECASE,
)
_CONNECTION = re.compile(r"connectionstring$", re.IGNORECASE)
_KEYLESS = re.compile(
    r"usedevelopmentstorage *= *true|integrated security *= *(?:true|sspi)|trusted_connection *=", re.IGNORECASE
)

OF_A_ROLE = {
    "Sites": "web sites and their bindings belong to IIS in the image",
    "Imports": "a module of Azure's guest agent: an image for vmrole has its own means",
    "Runtime": "there is no role host process: what the image starts by itself is the role",
    "Contents": "content has to be in the image, or in setup.files",
    "GuestAgentSettings": "Azure's guest agent is not in the image",
    "guestAgentSettings": "Azure's guest agent is not in the image",
}
OF_THE_NETWORK = {
    "AccessControls": "who may reach the VIP is not filtered here",
    "EndpointAcls": "who may reach the VIP is not filtered here",
    "VirtualNetworkSite": "a deployment has a network of its own",
    "InstanceAddress": "DIPs are given by vmrole, and no instance has an address of its own outside",
    "ReservedIPs": "an address is no name: say it as `vip`",
    "LoadBalancers": "there is one VIP; an endpoint between instances is `visibility: internal`",
}


def tell(element: Element, reasons: Mapping[str, str], where: str, draft: Draft) -> None:
    """What ``reasons`` has among the children of an element, and all that is in it, as dropped."""
    for child in element.children:
        if (reason := reasons.get(child.name)) is None:
            continue
        for path, found in _leaves(child, where):
            said = " ".join(f'{name}="{shown(name, value, found)}"' for name, value in found.attributes.items())
            draft.note(Kind.DROPPED, path, f"{said}: {reason}" if said else reason, found.line)


def _leaves(element: Element, where: str) -> Iterator[tuple[str, Element]]:
    """(path, element) of all that says something by itself, or has nothing in it that does."""
    path = f"{where}/{element.name}" if where else element.name
    if element.attributes or not element.children:
        yield path, element
    for child in element.children:
        yield from _leaves(child, path)


def shown(name: str, value: str, of: Element | None = None) -> str:
    """A value as a report may have it. ``of``: where it stands, which may have its real name (``name="…"``)."""
    named = of.get("name") if of is not None and name == "value" else name
    return HIDDEN if is_secretive(named, value) or ("?" in value and "://" in value) else value


def is_secretive(name: str, value: str) -> bool:
    """Whether a value may be a secret, by its name or by itself."""
    if not value:
        return False
    if _NAME.search(name) or _VALUE.search(value):
        return True
    return bool(_CONNECTION.search(name)) and not _KEYLESS.search(value)
