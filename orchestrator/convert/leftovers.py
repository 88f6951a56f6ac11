"""What has no place in a service file: told element by element, with all that it said, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.secrecy import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.convert.tree import Element

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
            draft.note(Kind.DROPPED, path, f"{said}: {reason}" if said else reason, found.at)


def _leaves(element: Element, where: str) -> Iterator[tuple[str, Element]]:
    """(path, element) of all that says something by itself, or has nothing in it that does."""
    path = f"{where}/{element.name}" if where else element.name
    if element.attributes or not element.children:
        yield path, element
    for child in element.children:
        yield from _leaves(child, path)
