"""Starting a domain whose guest agent can be asked afterwards.

When QEMU ends while a question to its agent is unanswered, libvirt takes the agent's channel for broken, and goes on
doing so after another start, until the guest closes the channel (9.0). What it believes ends with the definition.
"""

from __future__ import annotations

import contextlib

import libvirt
import libvirt_qemu

BROKEN = "due to an error"  # how it differs from an agent that has not connected yet, of which the code is the same
PING = '{"execute": "guest-ping"}'
PING_S = 1


def start(connection: libvirt.virConnect, domain: libvirt.virDomain) -> None:
    """Start a domain; define it anew if libvirt would not ask its agent otherwise."""
    domain.create()
    if not _is_broken(domain) or not domain.isPersistent():
        return
    domain.destroy()  # it is still in its firmware
    with contextlib.suppress(libvirt.libvirtError):  # then without an agent, as it was
        domain = _defined_anew(connection, domain)
    domain.create()


def _is_broken(domain: libvirt.virDomain) -> bool:
    try:
        libvirt_qemu.qemuAgentCommand(domain, PING, PING_S, 0)
    except libvirt.libvirtError as error:
        return BROKEN in (error.get_error_message() or "")
    return False


def _defined_anew(connection: libvirt.virConnect, domain: libvirt.virDomain) -> libvirt.virDomain:
    text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    has_tpm = "<tpm" in text  # a daemon before 8.9 does not know the flag
    kept = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM if has_tpm else 0
    domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM | kept)
    return connection.defineXMLFlags(text)
