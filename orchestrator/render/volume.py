"""The libvirt definitions of our pool and of the files in it."""

from __future__ import annotations

from lxml import etree
from lxml.builder import E

from orchestrator.model.names import MachineId, base_volume, libvirt_uuid, pool_name

# Below libvirt's own images folder: that is where AppArmor's and SELinux's rules for QEMU expect disks.
POOLS = "/var/lib/libvirt/images"


def pool_path(owner: str) -> str:
    return f"{POOLS}/{pool_name(owner)}"


def pool_xml(owner: str) -> str:
    """A folder of our own, entered by root and searched by QEMU's user."""
    permissions = E.permissions(E.mode("0711"))
    name = pool_name(owner)
    target = E.target(E.path(pool_path(owner)), permissions)
    root = E.pool(E.name(name), E.uuid(libvirt_uuid(owner, name)), target, type="dir")
    return etree.tostring(root, encoding="unicode")


def raw_volume_xml(name: str, size_bytes: int, mode: str) -> str:
    """A plain file; ``mode`` is octal text."""
    return _volume(name, size_bytes, "raw", mode)


def base_volume_xml(digest: str, size_bytes: int) -> str:
    """A base as it is uploaded: its bytes are a qcow2, but it is *created* raw so that nothing is written into it."""
    return _volume(base_volume(digest), size_bytes, "raw", "0444")


def overlay_xml(machine: MachineId, digest: str, size_bytes: int, owner: str) -> str:
    """A qcow2 on top of a base, with the base's format spelled out so that it is never probed."""
    root = E.volume(
        E.name(machine.overlay),
        E.capacity(str(size_bytes), unit="bytes"),
        E.target(E.format(type="qcow2"), E.permissions(E.mode("0600"))),
        E.backingStore(E.path(f"{pool_path(owner)}/{base_volume(digest)}"), E.format(type="qcow2")),
    )
    return etree.tostring(root, encoding="unicode")


def backup_xml(device: str, path: str) -> str:
    """A copy of one disk of a running domain as it is at this moment, written to ``path``."""
    target = E.disk(E.target(file=path), E.driver(type="raw"), name=device, type="file")
    return etree.tostring(E.domainbackup(E.disks(target), mode="push"), encoding="unicode")


def file_state(xml: str) -> str:
    """Size and time of the last change of a volume's file: another text after anybody wrote into it. "" if unknown."""
    root = etree.fromstring(xml)
    size, changed = root.findtext("physical"), root.findtext("target/timestamps/mtime")
    return f"{size} {changed}" if size and changed else ""


def _volume(name: str, size_bytes: int, kind: str, mode: str) -> str:
    root = E.volume(
        E.name(name),
        E.capacity(str(size_bytes), unit="bytes"),
        E.allocation("0", unit="bytes"),
        E.target(E.format(type=kind), E.permissions(E.mode(mode))),
    )
    return etree.tostring(root, encoding="unicode")
