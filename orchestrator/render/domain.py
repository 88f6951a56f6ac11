"""The libvirt definition of a machine. Built element by element; no text is ever spliced into XML.

Every disk's chain is spelled out to its end, so that libvirt probes no image (an overlay's guest could write a header
of its own choosing): libvirt, kbase "backing chains".
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree
from lxml.builder import E, ElementMaker

from orchestrator.model import disks
from orchestrator.model.guard import guard_name
from orchestrator.model.names import MachineId, base_volume, digest_of_volume, libvirt_uuid, parse_machine, pool_name
from orchestrator.render import platform as platforms

if TYPE_CHECKING:
    from orchestrator.model.making import MachineSpec
    from orchestrator.model.spec import Disk

MARK_NS = "urn:vmrole:machine:1"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")
_mark = ElementMaker(namespace=MARK_NS, nsmap={"vmrole": MARK_NS})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a host adds to a definition: our mark, the pool's folder, and what runs guests there (kvm or tcg)."""

    owner: str
    pool_path: str
    accelerator: str


@dataclass(frozen=True, slots=True)
class Description:
    """What a domain's definition says of it. ``is_marked``: it carries a mark of ours, whoever ``owner`` is.

    ``is_guarded``: every interface of it is behind the filter of its instance.
    """

    is_marked: bool
    owner: str
    machine: MachineId | None
    place: int
    spec: str
    files: frozenset[str]
    is_guarded: bool = True


def domain_xml(
    machine: MachineId, spec: MachineSpec, place: int, around: Surroundings, *, has_seed: bool = True
) -> str:
    """The domain of ``machine``: its platform, the agent's channel, entropy, a logged serial console, our mark."""
    is_kvm = around.accelerator == "kvm"
    root = E.domain(
        E.name(machine.domain),
        E.uuid(libvirt_uuid(around.owner, machine.domain)),
        E.metadata(_machine_mark(machine, spec, place, around.owner)),
        E.memory(str(spec.size.memory_mib), unit="MiB"),
        E.vcpu(str(spec.size.vcpus)),
        platforms.os_element(spec.platform),
        platforms.features_element(spec.platform, is_kvm=is_kvm),
        _cpu(is_kvm=is_kvm),
        platforms.clock_element(spec.platform, is_kvm=is_kvm),
        E.on_poweroff("destroy"),
        E.on_reboot("restart"),
        E.on_crash("preserve"),
        _devices(machine, spec, place, around, has_seed=has_seed),
        type="kvm" if is_kvm else "qemu",
    )
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def _machine_mark(machine: MachineId, spec: MachineSpec, place: int, owner: str) -> etree._Element:
    instance = machine.instance
    return _mark.machine(
        owner=owner,
        service=instance.deployment.service,
        slot=instance.deployment.slot,
        role=instance.role,
        ordinal=str(instance.ordinal),
        generation=str(machine.generation),
        place=str(place),
        spec=disks.fingerprint(spec),
    )


def _cpu(*, is_kvm: bool) -> etree._Element:
    if is_kvm:
        return E.cpu(mode="host-passthrough", migratable="on")
    # Under TCG 5-level paging costs a Debian boot a quarter of its time (measured: 39 s with it, 29 s without).
    return E.cpu(E.feature(policy="disable", name="la57"), mode="maximum")


def _devices(
    machine: MachineId, spec: MachineSpec, place: int, around: Surroundings, *, has_seed: bool
) -> etree._Element:
    beside, platform, pool_path = disks.files(machine, spec, place), spec.platform, around.pool_path
    bus, number = platforms.disc_bus(platform), 0 if platform.virtio else 1 + len(beside)
    discs = [platforms.disc_element(f"{pool_path}/{machine.seed}" if has_seed else "", platform, number)]
    if platform.drivers:
        drivers = f"{pool_path}/{base_volume(platform.drivers)}" if has_seed else ""
        discs.append(platforms.disc_element(drivers, platform, number + 1, "qcow2"))
    return E.devices(
        _overlay(machine, spec.digest, pool_path, platforms.disk_target(0, virtio=platform.virtio)),
        *(
            _disk(disk, f"{pool_path}/{file}", platforms.disk_target(number, virtio=platform.virtio))
            for number, (disk, file) in enumerate(beside, 1)
        ),
        *discs,
        *([E.controller(type="scsi", index="0", model="virtio-scsi")] if bus == "scsi" else []),
        E.interface(
            E.mac(address=machine.instance.mac),
            E.source(network=machine.instance.deployment.network),
            E.model(type=platforms.card_model(platform)),
            E.filterref(filter=guard_name(around.owner, machine.instance)),
            E.rom(enabled="no"),  # nobody boots from the network, and its firmware takes its time to say so
            type="network",
        ),
        E.controller(type="usb", model="none"),
        E.channel(E.target(type="virtio", name=AGENT_CHANNEL), type="unix"),
        _console(machine, pool_path),
        E.rng(E.backend("/dev/urandom", model="random"), model="virtio"),
        E.memballoon(model="virtio"),
        *platforms.tpm_elements(platform),
        *platforms.screen_elements(platform),
        E.panic(model="isa"),
    )


def _overlay(machine: MachineId, digest: str, pool_path: str, target: dict[str, str]) -> etree._Element:
    return E.disk(
        E.driver(name="qemu", type="qcow2", discard="unmap"),
        E.source(file=f"{pool_path}/{machine.overlay}"),
        E.backingStore(
            E.format(type="qcow2"),
            E.source(file=f"{pool_path}/{base_volume(digest)}"),
            E.backingStore(),
            type="file",
        ),
        E.target(**target),
        type="file",
        device="disk",
    )


def _disk(disk: Disk, path: str, target: dict[str, str]) -> etree._Element:
    """A disk beside the overlay. A guest finds it by its serial number: the order of devices is no promise."""
    return E.disk(
        E.driver(name="qemu", type="raw", discard="unmap"),
        E.source(file=path),
        E.backingStore(),
        E.target(**target),
        E.serial(disks.serial(disk)),
        type="file",
        device="disk",
    )


def _console(machine: MachineId, pool_path: str) -> etree._Element:
    """The serial port, its output kept by virtlogd, which caps it: a guest cannot fill the host's disk with it."""
    return E.serial(E.log(file=f"{pool_path}/{machine.console}", append="on"), E.target(port="0"), type="pty")


def describe(xml: str, owner: str, pool_path: str) -> Description:
    """Read a domain that anybody may have defined; ``owner`` and ``pool_path`` are of our own pool."""
    root = etree.fromstring(xml)
    mark = root.find(f"metadata/{{{MARK_NS}}}machine")
    said = {str(name): str(value) for name, value in mark.attrib.items()} if mark is not None else {}
    place, spec = said.get("place", ""), said.get("spec", "")
    return Description(
        mark is not None,
        said.get("owner", ""),
        _marked_machine(said),
        int(place) if _NUMBER.fullmatch(place) else 1,
        spec if _FINGERPRINT.fullmatch(spec) else "",
        frozenset(_files(root, owner, pool_path)),
        _is_guarded(root, owner, _marked_machine(said)),
    )


def _is_guarded(root: etree._Element, owner: str, machine: MachineId | None) -> bool:
    wanted = guard_name(owner, machine.instance) if machine is not None else ""
    refs = [card.find("filterref") for card in root.iterfind("devices/interface")]
    return all(ref is not None and ref.get("filter") == wanted for ref in refs)


def cards(xml: str) -> frozenset[str]:
    """What the host calls a running domain's interfaces."""
    found = (target.get("dev", "") for target in etree.fromstring(xml).iterfind("devices/interface/target"))
    return frozenset(found) - {""}


def binding(xml: str, card: str) -> str:
    """What puts one interface of a running domain behind the filter that the domain names, at libvirt's nwfilter."""
    root = etree.fromstring(xml)
    every = root.iterfind("devices/interface")
    own = next(one for one in every if any(target.get("dev") == card for target in one.iterfind("target")))
    said = E.filterbinding(
        E.owner(E.name(root.findtext("name", "")), E.uuid(root.findtext("uuid", ""))),
        E.portdev(name=card),
        *(E.mac(address=mac.get("address", "")) for mac in own.iterfind("mac")),
        *(E.filterref(filter=ref.get("filter", "")) for ref in own.iterfind("filterref")),
    )
    return etree.tostring(said, encoding="unicode")


def behind(xml: str, name: str) -> list[str]:
    """The interfaces of a domain, as they are behind the filter ``name``; those that are there already left out."""
    found = []
    for card in etree.fromstring(xml).iterfind("devices/interface"):
        ref = card.find("filterref")
        if ref is not None and ref.get("filter") == name:
            continue
        if ref is not None:
            card.remove(ref)
        card.append(E.filterref(filter=name))
        found.append(etree.tostring(card, encoding="unicode", with_tail=False))
    return found


def _marked_machine(said: dict[str, str]) -> MachineId | None:
    """The machine that a mark speaks of: its text is anybody's, so it has to pass the rules of names as a whole."""
    service, slot, role, ordinal, number = (
        said.get(k, "") for k in ("service", "slot", "role", "ordinal", "generation")
    )
    if not _NUMBER.fullmatch(number):
        return None
    machine = parse_machine(f"{service}.{slot}.{role}-{ordinal}.g{number}")
    return machine if machine is not None and machine.instance.role == role else None


def _files(root: etree._Element, owner: str, pool_path: str) -> set[str]:
    """Names in our pool that its disks stand on, down to the last backing file; a log is nobody's disk."""
    found = set()
    for source in root.iterfind("devices/disk//source"):
        if source.get("pool") == pool_name(owner):
            found.add(source.get("volume", ""))
        folder, _, name = posixpath.normpath(source.get("file") or source.get("dev") or "").rpartition("/")
        if folder == pool_path:
            found.add(name)
    return found - {""}


def device_of(xml: str, path: str) -> str:
    """What a domain calls the disk whose file this is (``vdb``); "" if it has no such disk."""
    devices = (disk.find("target") for disk in etree.fromstring(xml).iterfind("devices/disk") if _path(disk) == path)
    return next((device.get("dev", "") for device in devices if device is not None), "")


def emptied_drives(xml: str, seed: str) -> list[str]:
    """The disc drives of a domain with discs of ours in them, as they are when they are empty.

    ``seed``: the answer file's path. Its drive comes last: as long as it is there, it is known that there is work left.
    """
    ours = [disk for disk in etree.fromstring(xml).iterfind("devices/disk[@device='cdrom']") if _is_ours(disk, seed)]
    return [_emptied(disk) for disk in sorted(ours, key=lambda disk: _path(disk) == seed)]


def _is_ours(drive: etree._Element, seed: str) -> bool:
    folder, _, name = _path(drive).rpartition("/")
    return _path(drive) == seed or (folder == posixpath.dirname(seed) and digest_of_volume(name) is not None)


def _emptied(drive: etree._Element) -> str:
    for tag in ("source", "backingStore", "alias"):
        for found in drive.findall(tag):
            drive.remove(found)
    return etree.tostring(drive, encoding="unicode", with_tail=False)


def _path(disk: etree._Element) -> str:
    source = disk.find("source")
    return source.get("file", "") if source is not None else ""
