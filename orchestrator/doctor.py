"""Checks of everything that the main job stands on. Each looks at one thing and says how to mend it; none mends it."""

from __future__ import annotations

import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.process import run
from orchestrator.errors import VmroleError
from orchestrator.model.image import platform_of
from orchestrator.model.spec import UEFI
from orchestrator.model.vips import Bind
from orchestrator.wiring import make_home, owner_of, repository, site_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.config.site import HostSite, Site
    from orchestrator.model.spec import Platform

GIB = 1024**3
ROOM_BYTES = 3 * GIB
OLDEST_HAPROXY = (2, 5)  # the first whose `add server` takes health checks
PROGRAMS = {
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "ip": "iproute2",
    "nft": "nftables",
    "ebtables": "iptables",
    "ss": "iproute2",
    "ps": "procps",
    "kill": "procps",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "prlimit": "util-linux",
    "zstd": "zstd",
}
KVM = Path("/dev/kvm")
FIRMWARES = Path("/usr/share/OVMF")


@dataclass(frozen=True, slots=True)
class Finding:
    """``verdict``: ok, warn or bad. ``mend``: what to do, "" if nothing."""

    subject: str
    verdict: str
    found: str
    mend: str = ""


def examine(home: Path, connect: str | None, cache_dir: Path) -> Iterator[Finding]:
    """Look at everything, in the order in which things stand on each other."""
    yield _programs()
    yield _haproxy()
    yield _state_folder(home)
    yield _kvm_node()
    try:
        yield from _platforms(home)
        site = site_of(home, connect, cache_dir)
    except VmroleError as error:
        yield Finding("site", "bad", error.message, error.hint)
        return
    yield _accelerator(site)
    for host in site.hosts:
        yield from _host(host, home)
    yield _balancer_place(site)


def _programs() -> Finding:
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        return Finding("programs", "bad", f"missing: {', '.join(missing)}", f"apt-get install {' '.join(missing)}")
    return Finding("programs", "ok", ", ".join(PROGRAMS))


def _haproxy() -> Finding:
    if shutil.which("haproxy") is None:
        return Finding("HAProxy", "bad", "not installed", "apt-get install haproxy")
    said = run(["haproxy", "-v"]).stdout.splitlines()[0]
    match = re.search(r"version (\d+)\.(\d+)", said)
    if match is None or (int(match[1]), int(match[2])) < OLDEST_HAPROXY:
        return Finding("HAProxy", "bad", said, "vmrole needs 2.5 or newer: older ones cannot add servers while running")
    return Finding("HAProxy", "ok", said.partition(" - ")[0])


def _state_folder(home: Path) -> Finding:
    subject = f"state folder {home}"
    try:
        make_home(home)
    except VmroleError as error:
        return Finding(subject, "bad", error.message, error.hint)
    if not os.access(home, os.W_OK | os.X_OK):
        return Finding(subject, "bad", "not writable for you", "run as its owner, or name another with --home")
    free = shutil.disk_usage(home).free
    if free < ROOM_BYTES:
        mend = "free some room there, or name another folder with --home"
        return Finding(subject, "bad", f"only {free / GIB:.1f} GiB free", mend)
    return Finding(subject, "ok", f"writable, {free / GIB:.0f} GiB free")


def _platforms(home: Path) -> Iterator[Finding]:
    """What images of the repository ask of a machine beyond what every QEMU has."""
    images = repository(home, SystemClock()).images()
    asked = {image.reference: platform_of(image.traits) for image in images}
    yield from lacking(asked, has_uefi=FIRMWARES.is_dir(), has_tpm=shutil.which("swtpm") is not None)


def lacking(asked: Mapping[str, Platform], *, has_uefi: bool, has_tpm: bool) -> Iterator[Finding]:
    """``asked``: image → the machine that it asks for. Nothing of what nobody asks for."""
    uefi = sorted(name for name, platform in asked.items() if platform.firmware == UEFI)
    tpm = sorted(name for name, platform in asked.items() if platform.tpm)
    parts = (("UEFI", uefi, has_uefi, "ovmf"), ("TPM", tpm, has_tpm, "swtpm swtpm-tools"))
    for subject, images, is_there, packages in parts:
        if images and not is_there:
            mend = f"apt-get install {packages} on every host"
            yield Finding(subject, "bad", f"not installed, and asked for by {', '.join(images)}", mend)
        elif images:
            yield Finding(subject, "ok", f"asked for by {', '.join(images)}")


def _kvm_node() -> Finding:
    """Libvirt asks QEMU anew for everything, for minutes, when it finds a /dev/kvm that QEMU's user cannot open."""
    if not KVM.exists():
        return Finding(
            "/dev/kvm", "warn", "not there", "enable virtualisation in the firmware, or nesting in the outer host"
        )
    mode = stat.S_IMODE(KVM.stat().st_mode)
    if mode & 0o060 != 0o060 and mode & 0o006 != 0o006:
        mend = "chgrp kvm /dev/kvm && chmod 660 /dev/kvm (a lab's hosts have a node of their own)"
        return Finding("/dev/kvm", "warn", f"mode {mode:04o}: QEMU's user cannot open it", mend)
    return Finding("/dev/kvm", "ok", f"mode {mode:04o}")


def _accelerator(site: Site) -> Finding:
    names = sorted({host.accelerator for host in site.hosts})
    if names == ["kvm"]:
        return Finding("accelerator", "ok", "kvm, proven by running something under it")
    return Finding(
        "accelerator",
        "warn",
        "tcg: nothing 64-bit runs under KVM here, so guests are emulated and about ten times slower",
        "on real hardware: load kvm_intel or kvm_amd; in a VM: enable nested virtualisation on its host",
    )


def _host(host: HostSite, home: Path) -> Iterator[Finding]:
    from orchestrator.drivers.host import LibvirtHost  # noqa: PLC0415 - without libvirt-python the rest is still said

    subject = f"host {host.name}"
    driver = LibvirtHost(host, owner_of(home))
    try:
        yield Finding(subject, "ok", f"{driver.versions()} at {host.uri}")
        seen = driver.observe()
    except VmroleError as error:
        mend = "start libvirtd (systemctl start libvirtd), or make a lab: `vmrole lab up`"
        yield Finding(subject, "bad", error.message, mend)
        return
    if not driver.has_filters():
        mend = "install and start libvirt's network filter driver (Debian: libvirt-daemon-system; virtnwfilterd)"
        yield Finding(f"{subject}'s filters", "bad", "its libvirt filters no guest's traffic: none is started", mend)
    if seen.has_pool:
        is_tight = seen.free_bytes < ROOM_BYTES
        mend = "free some room in the pool's folder" if is_tight else ""
        found = f"{seen.free_bytes / GIB:.1f} GiB free"
        yield Finding(f"{subject}'s pool", "warn" if is_tight else "ok", found, mend)


def _balancer_place(site: Site) -> Finding:
    if os.geteuid() != 0:
        return Finding("VIPs", "bad", "only root can give an interface an address", "run vmrole as root")
    try:
        run([*site.balancer, "ip", "link", "show", "dev", site.vip_device])
    except VmroleError as error:
        return Finding(
            "VIPs", "bad", f"{site.vip_device} cannot be reached: {error.message}", "in a lab: `vmrole lab up`"
        )
    if site.vip_bind is Bind.INTERFACE and shutil.which("arping") is None:
        mend = "install the package iputils-arping"
        return Finding("VIPs", "bad", "arping is not installed, which tells a network of a VIP", mend)
    pool = "its own address" if site.vip_bind is Bind.OWN else str(site.vip_pool)
    return Finding("VIPs", "ok", f"{pool} on {site.vip_device}")
