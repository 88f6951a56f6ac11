"""Filters of guests' interfaces at libvirt's nwfilter. Decides nothing.

A filter that is defined again is changed under the machines behind it, by libvirt: no interface goes down for it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import libvirt

from orchestrator.errors import NotFound
from orchestrator.model.guard import guard_name, guarded
from orchestrator.render import domain as domains
from orchestrator.render import filter as filters

if TYPE_CHECKING:
    from orchestrator.drivers._enforced import Enforced
    from orchestrator.drivers._libvirt import Connection
    from orchestrator.model.guard import Guard
    from orchestrator.model.names import MachineId


class Filters:
    """The filters of one owner on one host."""

    def __init__(self, connection: Connection, owner: str) -> None:
        self._connection = connection
        self._owner = owner

    def observe(self) -> dict[str, str]:
        """Name → fingerprint of ours. A daemon that knows no filters has none: it will refuse to make one."""
        ours = [one for one in self._all() or () if guarded(one.name(), self._owner) is not None]
        return {name: mark for one in ours for name, mark in self._read(one)}

    def are_possible(self) -> bool:
        with self._connection.errors("listing filters"):
            return self._all() is not None

    def _all(self) -> list[libvirt.virNWFilter] | None:
        """Everybody's; None if the daemon knows no filters."""
        try:
            return self._connection.get().listAllNWFilters()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
                return None
            raise

    @staticmethod
    def _read(one: libvirt.virNWFilter) -> list[tuple[str, str]]:
        try:
            return [(one.name(), filters.read(one.XMLDesc()).fingerprint)]
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_NWFILTER:  # it went while we asked
                return []
            raise

    def define(self, guard: Guard) -> None:
        with self._connection.errors(f"defining the filter {guard.name}"):
            self._connection.get().nwfilterDefineXML(filters.filter_xml(guard, self._owner))

    def delete(self, name: str) -> None:
        with contextlib.suppress(NotFound), self._connection.errors(f"removing the filter {name}"):
            self._connection.get().nwfilterLookupByName(name).undefine()

    def plug(self, machine: MachineId, enforced: Enforced) -> None:
        with self._connection.errors(f"putting {machine.domain} behind its filter"):
            domain = self._connection.get().lookupByName(machine.domain)
            flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
            flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG if domain.isPersistent() else 0
            for card in domains.behind(domain.XMLDesc(), guard_name(self._owner, machine.instance)):
                domain.updateDeviceFlags(card, flags)
            for card in enforced.lacks(domains.cards(domain.XMLDesc())) if domain.isActive() else ():
                self._bind_again(card, domains.binding(domain.XMLDesc(), card))
                enforced.renewed(card)

    def _bind_again(self, card: str, binding: str) -> None:
        """Have libvirt make an interface's rules anew: as long as nothing is changed, it takes them for being there."""
        connection = self._connection.get()
        try:
            connection.nwfilterBindingLookupByPortDev(card).delete()
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_NO_NWFILTER_BINDING:
                raise
        connection.nwfilterBindingCreateXML(binding)
