"""The machines that images are tried and made in: on an image and nothing else, and gone as soon as that is done."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from orchestrator.cli.deployments import settle
from orchestrator.cli.image_intake import parsed, reporting
from orchestrator.cli.vips import chosen_vip
from orchestrator.config.quantities import mebibytes
from orchestrator.drivers.copying import ARCHIVE, packed, send
from orchestrator.drivers.guest import execute
from orchestrator.drivers.imaging.intake import Intake, Offer
from orchestrator.engine.deploy import deployed, free_subnets, withdrawn
from orchestrator.engine.machine import machine_id
from orchestrator.engine.readiness import PROBE, auto_started
from orchestrator.engine.status import State
from orchestrator.engine.verbs import stop
from orchestrator.errors import Refused, UserError, VmroleError
from orchestrator.model.image import Admission, platform_of
from orchestrator.model.names import DeploymentId
from orchestrator.model.spec import Ready, Role, Service, Size
from orchestrator.model.text import line, lines
from orchestrator.model.world import Power

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from orchestrator.cli.progress import Display
    from orchestrator.drivers.looks import Outcome
    from orchestrator.engine.status import InstanceStatus
    from orchestrator.model.image import Image
    from orchestrator.model.record import DeploymentRecord, InstanceRecord
    from orchestrator.ports import Progress
    from orchestrator.wiring import Wiring

MIB = 1024**2
MOST_SERVICES = 100
AWAY_S = 300.0
FACTS = r"""
if [ -d /sys/firmware/efi ]; then echo uefi; else echo bios; fi
( . /etc/os-release 2>/dev/null; echo "${PRETTY_NAME:-unknown}" )
"""
# What one machine has for itself, and two of the same image must not share.
GENERALISE = r"""
if command -v cloud-init >/dev/null; then cloud-init clean --logs >/dev/null 2>&1; fi
rm -rf /etc/vmrole/settings.json /etc/vmrole/runtime.json /var/lib/vmrole/on-change
rm -rf /var/lib/cloud/* /var/lib/vmrole/setup /root/.bash_history /root/.ash_history
rm -f /etc/ssh/ssh_host_* /etc/dropbear/*_host_key /var/lib/systemd/random-seed /var/lib/dhcp/*
if [ -e /etc/machine-id ]; then : >/etc/machine-id; fi
if [ -e /var/lib/dbus/machine-id ] && [ ! -L /var/lib/dbus/machine-id ]; then rm -f /var/lib/dbus/machine-id; fi
echo localhost >/etc/hostname
find /var/log -type f | while read -r log; do : >"$log"; done
sync
"""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where it is done, and with how much: ``memory_mib`` for the machine, ``timeout_s`` until it has to be ready."""

    wiring: Wiring
    shown: Display
    memory_mib: int
    timeout_s: float

    @contextlib.contextmanager
    def trial(self, image: Image, *, isolated: bool) -> Iterator[InstanceStatus]:
        """A machine on the image, at rest; it is gone afterwards, whatever happens.

        ``isolated``: in a network that leads nowhere.
        """
        key = DeploymentId(f"trial-{image.digest.removeprefix('sha256:')[:12]}")
        self._take_away(key)  # one that was killed has left its machine
        self.wiring.store.save_deployment(replace(self._deployment(key, image), isolated=isolated))
        try:
            rest = settle(self.wiring, key, self.shown, self.timeout_s + 60)
            if rest.error is not None:
                raise rest.error
            yield next(status for status in rest.plan.instances if status.record.id.deployment == key)
        finally:
            self._take_away(key)

    def _deployment(self, key: DeploymentId, image: Image) -> DeploymentRecord:
        role = Role(
            "trial",
            f"{image.reference}@{image.digest}",
            1,
            size=Size(memory_mib=self.memory_mib),
            ready=Ready(timeout_s=self.timeout_s),
        )
        intent, world = self.wiring.store.intent(), self.wiring.loop.see()
        pools = {host.name: host.dip_pool for host in self.wiring.site.hosts}
        return deployed(
            intent,
            key,
            Service(key.service, (role,)),
            digests={role.name: image.digest},
            platforms={role.name: platform_of(image.traits)},
            vip=chosen_vip(self.wiring, intent, world, key, Service(key.service, (role,))),
            subnets=free_subnets(pools, world.hosts, intent),
        )

    def _take_away(self, key: DeploymentId) -> None:
        record = self.wiring.store.intent().deployment(key)
        if record is not None:
            self.wiring.store.save_deployment(withdrawn(record, with_volumes=True))
            settle(self.wiring, key, self.shown, AWAY_S)

    def verdict(self, status: InstanceStatus) -> Admission:
        """What is to be said of an image, after a machine on it has come to rest."""
        record, now = status.record, self.wiring.clock.now()
        marks = [(name, getattr(record.timeline, name)) for name in ("agent", "setup", "services")]
        begun = record.timeline.started or 0.0
        seconds = tuple((name, round(mark - begun, 1)) for name, mark in marks if mark is not None)
        if status.state is not State.READY:
            reason, console = status.reason or status.state.value, status.console[-20:]
            return Admission(passed=False, at=now, seconds=seconds, reason=reason, console=console)
        firmware, system = (*lines(self._told(record, FACTS)), "", "")[:2]
        info = self.wiring.hosts[record.host].agent(machine_id(record).domain, "guest-info", {}, 5.0)
        return Admission(
            passed=True,
            at=now,
            firmware=firmware,
            agent=line(str(info.get("version", "")))[:40] if isinstance(info, dict) else "",
            system=system,
            setup="finished without errors",
            services=auto_started(self._told(record, PROBE))[:MOST_SERVICES],
            seconds=seconds,
        )

    def _told(self, record: InstanceRecord, script: str) -> str:
        return self._inside(record, ["/bin/sh", "-c", script]).stdout.decode(errors="replace")

    def made(
        self, image: Image, target: str, copies: Sequence[tuple[Path, str]], steps: Sequence[Sequence[str]]
    ) -> Image:
        """A new image of ``image``, after these copies and commands. Raises VmroleError, and then has made nothing."""
        archive = packed(copies) if copies else b""
        unpack = [["/bin/sh", "-c", 'tar -xf "$1" -C / && rm "$1"', "vmrole", ARCHIVE]] if archive else []
        with self.trial(image, isolated=False) as status:
            record = status.record
            if status.state is not State.READY:
                raise VmroleError(f"a machine on {image.reference} is not ready: {status.reason}")
            if archive:
                send(self.wiring.hosts[record.host], machine_id(record).domain, archive, self.shown.say)
            for argv in [*unpack, *steps, ["/bin/sh", "-c", GENERALISE]]:
                self._do(record, argv)
            self._stop(record)
            with reporting(target) as report:
                return self.taken(record, target, report)

    def _do(self, record: InstanceRecord, argv: Sequence[str]) -> None:
        said = line(shlex.join(argv[2:]))[:60]
        self.shown.say(f"running {said}")
        done = self._inside(record, argv, on_wait=lambda s: self.shown.remind(f"still running {said}, {s:.0f} s"))
        if done.code:
            last = lines((done.stderr or done.stdout).decode(errors="replace"))[-3:]
            raise VmroleError(f"`{said}` ended with {done.code} in the guest: {' / '.join(last) or 'no output'}")

    def _inside(
        self, record: InstanceRecord, argv: Sequence[str], *, on_wait: Callable[[float], None] = lambda _s: None
    ) -> Outcome:
        host = self.wiring.hosts[record.host]
        return execute(host, machine_id(record).domain, argv, clock=self.wiring.clock, on_wait=on_wait)

    def _stop(self, record: InstanceRecord) -> None:
        known = next(each for each in self.wiring.store.intent().instances if each.id == record.id)
        self.wiring.store.save_instance(stop(known))
        settle(self.wiring, record.id.deployment, self.shown, AWAY_S)

    def taken(self, record: InstanceRecord, target: str, report: Progress) -> Image:
        """The disk of a machine that is off, in the repository. The loop is held: nobody starts it meanwhile."""
        wiring, host, machine = self.wiring, self.wiring.hosts[record.host], machine_id(record)
        with wiring.alone():
            domain = host.observe().domains.get(machine.domain)
            if domain is not None and domain.power is not Power.OFF:
                raise Refused(f"{machine.domain} runs", "stop it first")
            report("flattening the disk")
            host.flatten_overlay(machine)
            try:
                with wiring.images.incoming() as folder:
                    self._download(record, folder / "flat", report)
                    offer = Offer(*parsed(target), "flat", "raw", "", "", {})
                    return Intake(wiring.images, wiring.clock, report).take(offer, folder)
            finally:
                host.delete_volume(machine.flat)

    def _download(self, record: InstanceRecord, target: Path, report: Progress) -> None:
        """The flat disk as a sparse file here."""
        flat = machine_id(record).flat
        with self.wiring.hosts[record.host].export_volume(flat) as pieces, target.open("wb") as file:
            for piece in pieces:
                if piece.count(0) == len(piece):
                    file.seek(len(piece), 1)
                else:
                    file.write(piece)
                report(f"fetching the disk, {file.tell() // MIB} MiB")
            file.truncate(file.tell())


def workshop(wiring: Wiring, shown: Display, memory: str, timeout_s: float) -> Workshop:
    """A workshop with this much memory (``512MiB``) for a machine. Raises UserError."""
    try:
        return Workshop(wiring, shown, mebibytes(memory), timeout_s)
    except ValueError as error:
        raise UserError(f"--memory {memory!r} {error}") from error
