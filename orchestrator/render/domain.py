"""The libvirt definition of a machine. Built element by element; no text is ever spliced into XML.

Every disk's chain is spelled out to its end, so that libvirt probes no image (an overlay's guest could write a header
of its own choosing): libvirt, kbase "backing chains".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree
from lxml.builder import E, ElementMaker

from orchestrator.model.names import MachineId, base_volume, libvirt_uuid

if TYPE_CHECKING:
    from orchestrator.model.spec import Size

MARK_NS = "urn:vmrole:machine:1"
AGENT_CHANNEL = "org.qemu.guest_agent.0"
_mark = ElementMaker(namespace=MARK_NS, nsmap={"vmrole": MARK_NS})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a host adds to a definition: our mark, the pool's folder, and what runs guests there (kvm or tcg)."""

    owner: str
    pool_path: str
    accelerator: str


def domain_xml(machine: MachineId, size: Size, digest: str, around: Surroundings) -> str:
    """The domain of ``machine``: virtio everything, the agent's channel, entropy, a logged serial console, our mark."""
    is_kvm = around.accelerator == "kvm"
    root = E.domain(
        E.name(machine.domain),
        E.uuid(libvirt_uuid(around.owner, machine.domain)),
        E.metadata(_machine_mark(machine, around.owner)),
        E.memory(str(size.memory_mib), unit="MiB"),
        E.vcpu(str(size.vcpus)),
        # The firmware speaks on the serial port too: "no bootable device" is a reason that people should see.
        E.os(E.type("hvm", arch="x86_64", machine="q35"), E.boot(dev="hd"), E.bios(useserial="yes")),
        E.features(E.acpi(), E.apic()),
        _cpu(is_kvm=is_kvm),
        E.clock(E.timer(name="rtc", tickpolicy="catchup"), E.timer(name="hpet", present="no"), offset="utc"),
        E.on_poweroff("destroy"),
        E.on_reboot("restart"),
        E.on_crash("preserve"),
        _devices(machine, digest, around.pool_path),
        type="kvm" if is_kvm else "qemu",
    )
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def _machine_mark(machine: MachineId, owner: str) -> etree._Element:
    instance = machine.instance
    return _mark.machine(
        owner=owner,
        service=instance.deployment.service,
        slot=instance.deployment.slot,
        role=instance.role,
        ordinal=str(instance.ordinal),
        generation=str(machine.generation),
    )


def _cpu(*, is_kvm: bool) -> etree._Element:
    if is_kvm:
        return E.cpu(mode="host-passthrough", migratable="on")
    # Under TCG 5-level paging costs a Debian boot a quarter of its time (measured: 39 s with it, 29 s without).
    return E.cpu(E.feature(policy="disable", name="la57"), mode="maximum")


def _devices(machine: MachineId, digest: str, pool_path: str) -> etree._Element:
    return E.devices(
        _overlay(machine, digest, pool_path),
        E.disk(
            E.driver(name="qemu", type="raw"),
            E.source(file=f"{pool_path}/{machine.seed}"),
            E.backingStore(),
            E.target(dev="sda", bus="scsi"),
            E.readonly(),
            type="file",
            device="cdrom",
        ),
        # A disc drive can be emptied while the guest runs; on virtio-scsi it costs a guest no wait for SATA links.
        E.controller(type="scsi", index="0", model="virtio-scsi"),
        E.interface(
            E.mac(address=machine.instance.mac),
            E.source(network=machine.instance.deployment.network),
            E.model(type="virtio"),
            E.rom(enabled="no"),  # nobody boots from the network, and its firmware takes its time to say so
            type="network",
        ),
        E.controller(type="usb", model="none"),
        E.channel(E.target(type="virtio", name=AGENT_CHANNEL), type="unix"),
        _console(machine, pool_path),
        E.rng(E.backend("/dev/urandom", model="random"), model="virtio"),
        E.memballoon(model="virtio"),
        E.panic(model="isa"),
    )


def _overlay(machine: MachineId, digest: str, pool_path: str) -> etree._Element:
    return E.disk(
        E.driver(name="qemu", type="qcow2", discard="unmap"),
        E.source(file=f"{pool_path}/{machine.overlay}"),
        E.backingStore(
            E.format(type="qcow2"),
            E.source(file=f"{pool_path}/{base_volume(digest)}"),
            E.backingStore(),
            type="file",
        ),
        E.target(dev="vda", bus="virtio"),
        type="file",
        device="disk",
    )


def _console(machine: MachineId, pool_path: str) -> etree._Element:
    """The serial port, its output kept by virtlogd, which caps it: a guest cannot fill the host's disk with it."""
    return E.serial(E.log(file=f"{pool_path}/{machine.console}", append="on"), E.target(port="0"), type="pty")
