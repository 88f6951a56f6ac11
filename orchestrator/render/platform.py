"""What a machine's platform adds to its libvirt definition: firmware, TPM, and what Windows wants of its hypervisor.

``firmware='efi'`` lets libvirt choose among the firmwares that are installed, by QEMU's own descriptions of them
(/usr/share/qemu/firmware), and give each machine variables of its own, which go when it is undefined.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lxml.builder import E

from orchestrator.model.spec import UEFI, WINDOWS

if TYPE_CHECKING:
    from lxml import etree

    from orchestrator.model.spec import Platform

# What Windows is told of its hypervisor: without them it spends its time on timers and spinning. QEMU has them under
# KVM alone (TCG: "Hyper-V enlightenments … only with KVM").
ENLIGHTENMENTS = ("relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "frequencies")
SPINLOCK_RETRIES = "8191"


def os_element(platform: Platform) -> etree._Element:
    """What boots it. Both firmwares speak on the serial port: "no bootable device" is a reason people should see."""
    boots = [E.boot(dev="hd")]
    if platform.firmware != UEFI:
        return E.os(E.type("hvm", arch="x86_64", machine="q35"), *boots, E.bios(useserial="yes"))
    is_on = "yes" if platform.secure_boot else "no"
    firmware = E.firmware(E.feature(enabled=is_on, name="enrolled-keys"), E.feature(enabled=is_on, name="secure-boot"))
    return E.os(E.type("hvm", arch="x86_64", machine="q35"), firmware, *boots, firmware="efi")


# Of translated code QEMU keeps up to 1 GiB by itself, and a guest of 128 MiB came to that within the hour. With a
# fourth of it a Debian took as long to boot (32.7 s of CPU, 33.8 s with 1 GiB).
TRANSLATED_MIB = 256


def features_element(platform: Platform, *, is_kvm: bool) -> etree._Element:
    found = [E.acpi(), E.apic()]
    if not is_kvm:
        found.append(E.tcg(E("tb-cache", str(TRANSLATED_MIB), unit="MiB")))
    if platform.os == WINDOWS and is_kvm:
        found.append(E.hyperv(*map(_enlightenment, ENLIGHTENMENTS), mode="custom"))
    if platform.secure_boot:
        found.append(E.smm(state="on"))  # what keeps the variables from the guest's own kernel
    return E.features(*found)


def _enlightenment(name: str) -> etree._Element:
    element = E(name, state="on")
    if name == "spinlocks":
        element.set("retries", SPINLOCK_RETRIES)
    return element


def clock_element(platform: Platform, *, is_kvm: bool) -> etree._Element:
    """Windows takes the hardware's clock for local time."""
    timers = [E.timer(name="rtc", tickpolicy="catchup"), E.timer(name="hpet", present="no")]
    if platform.os == WINDOWS:
        timers.insert(1, E.timer(name="pit", tickpolicy="delay"))
        timers += [E.timer(name="hypervclock", present="yes")] if is_kvm else []
    return E.clock(*timers, offset="localtime" if platform.os == WINDOWS else "utc")


def tpm_elements(platform: Platform) -> list[etree._Element]:
    """A TPM 2.0 of its own, by swtpm; what it keeps goes when the machine is undefined."""
    if not platform.tpm:
        return []
    return [E.tpm(E.backend(type="emulator", version="2.0"), model="tpm-crb")]


def disk_target(number: int, *, virtio: bool) -> dict[str, str]:
    """What the disk of a number is attached as, from 0: the overlay."""
    letter = chr(ord("a") + number)
    return {"dev": f"vd{letter}", "bus": "virtio"} if virtio else {"dev": f"sd{letter}", "bus": "sata"}


def disc_bus(platform: Platform) -> str:
    """Where a drive for discs is: on virtio-scsi a guest waits for no SATA links.

    Windows has no driver for that of its own, and needs its answer file before it gets one.
    """
    return "scsi" if platform.virtio and platform.os != WINDOWS else "sata"


def disc_element(path: str, platform: Platform, number: int, form: str = "raw") -> etree._Element:
    """A disc in a drive ("" : none), which can be emptied while the guest runs.

    ``number``: of SATA and SCSI devices before it. ``form``: of the file.
    """
    return E.disk(
        E.driver(name="qemu", type=form),
        *((E.source(file=path), E.backingStore()) if path else ()),
        E.target(dev=f"sd{chr(ord('a') + number)}", bus=disc_bus(platform)),
        E.readonly(),
        type="file",
        device="cdrom",
    )


def card_model(platform: Platform) -> str:
    return "virtio" if platform.virtio else "e1000e"


def screen_elements(platform: Platform) -> list[etree._Element]:
    """A screen for Windows, which has its say there alone; nobody listens to it but who asks libvirt for a picture."""
    if platform.os != WINDOWS:
        return []
    return [E.video(E.model(type="vga"))]
