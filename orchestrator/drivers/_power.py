"""Libvirt's numbers for a domain's state, in our words."""

from __future__ import annotations

import libvirt

from orchestrator.model.world import PANIC, Power

_OFF, _PAUSED = libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_PAUSED
_REASONS = {
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN): "shutdown",
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED): "destroyed",
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED): "crashed",
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED): "migrated",
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_SAVED): "saved",
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED): "failed",
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_FROM_SNAPSHOT): "snapshot",
    (_OFF, libvirt.VIR_DOMAIN_SHUTOFF_DAEMON): "libvirt",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER): "by somebody",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION): "migration",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SAVE): "saving",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_DUMP): "dump",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR): "I/O error",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_WATCHDOG): "watchdog",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_FROM_SNAPSHOT): "snapshot",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN): "shutting down",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_SNAPSHOT): "snapshot",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED): "crashed",
    (_PAUSED, libvirt.VIR_DOMAIN_PAUSED_STARTING_UP): "starting",
}


def power_of(state: int, reason: int) -> Power:
    if state in {libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED}:
        return Power.RUNNING
    if state == libvirt.VIR_DOMAIN_PAUSED:
        return Power.UNSETTLED if reason == libvirt.VIR_DOMAIN_PAUSED_STARTING_UP else Power.PAUSED
    if state in {libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_CRASHED}:
        return Power.OFF
    return Power.UNSETTLED


def reason_of(state: int, reason: int) -> str:
    """Libvirt's reason for a state, in a word; "" while a domain runs."""
    if state == libvirt.VIR_DOMAIN_CRASHED:
        return PANIC  # the device pvpanic told: libvirt has no other way to get here
    return _REASONS.get((state, reason), "") if state != libvirt.VIR_DOMAIN_RUNNING else ""
