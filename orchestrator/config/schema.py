"""The service file's form, field by field. pydantic checks it; nothing here reads a file or knows a line number."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from orchestrator.config.endpointform import EndpointForm  # noqa: TC001 - pydantic reads it at run time
from orchestrator.config.fields import STRICT, Line, Mode, Owner, vip_address
from orchestrator.config.quantities import bounded, mebibytes, seconds
from orchestrator.config.ready import ReadyForm
from orchestrator.config.repairform import MaybeRepair, RepairForm, repair_of
from orchestrator.config.scaleform import MAX_INSTANCES, AutoscaleForm
from orchestrator.config.setupform import SetupForm
from orchestrator.config.trafficform import TrafficForm  # noqa: TC001 - pydantic reads it at run time
from orchestrator.config.upgradeform import UpgradeForm
from orchestrator.model import spec, winpath
from orchestrator.model.names import NAME_RULE, is_name

_MOUNT = re.compile(r"(?:/[A-Za-z0-9_.-]+){1,20}")
NOT_BELOW = {"proc", "sys", "dev", "run"}
NOT_FOR_DISKS = {"/boot", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/usr", "/tmp"}  # noqa: S108 - of the guest
MAX_MOUNT = 100  # systemd names a unit after it, with up to four letters for one
MAX_DISKS = 20  # each is a device on the guest's PCI bus


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r:.60} is not a name: {NAME_RULE}")
    return text


def _mount(text: str) -> str:
    """A folder of Linux, or what only Windows has: whether the role's image is that is known later."""
    if winpath.has_drive(text):
        if len(text) > MAX_MOUNT or (problem := winpath.mount_problem(text)):
            raise ValueError(winpath.RULE if len(text) > MAX_MOUNT else problem)
        return winpath.one_form(text)
    if not _MOUNT.fullmatch(text) or {".", ".."} & set(text.split("/")) or len(text) > MAX_MOUNT:
        raise ValueError("must be an absolute path of a folder, short, of letters, digits and _ . - only")
    if text in NOT_FOR_DISKS or text.split("/")[1] in NOT_BELOW:
        raise ValueError(f"no disk can be mounted at {text}: the system needs it as it is")
    return text


Name = Annotated[str, AfterValidator(_name)]


class _Form(BaseModel):
    model_config = STRICT


class SizeForm(_Form):
    """An instance's hardware."""

    vcpus: Annotated[int, Field(ge=1, le=64)] = 1
    memory: Annotated[int, BeforeValidator(bounded(mebibytes, "64MiB", "1TiB"))] = 512
    disk: Annotated[int, BeforeValidator(bounded(mebibytes, "1MiB", "2TiB"))] | None = None

    def value(self) -> spec.Size:
        return spec.Size(self.vcpus, self.memory, -(-(self.disk or 0) // 1024))


class _DiskForm(_Form):
    """What every disk beside the overlay has."""

    size: Annotated[int, BeforeValidator(bounded(mebibytes, "16MiB", "64TiB"))]
    mount: Annotated[str, AfterValidator(_mount)]
    owner: Owner = "root:root"
    mode: Mode = "0755"


class LocalStorageForm(_DiskForm):
    """A disk that survives reboot and reimage, and is new and empty after a relocation."""

    clean_on_reimage: bool = False

    def value(self, name: str) -> spec.Disk:
        return spec.Disk(name, spec.DiskKind.LOCAL, self.size, self.mount, self.owner, self.mode, self.clean_on_reimage)


class VolumeForm(_DiskForm):
    """A disk that survives everything but its own deletion."""

    def value(self, name: str) -> spec.Disk:
        return spec.Disk(name, spec.DiskKind.VOLUME, self.size, self.mount, self.owner, self.mode)


class StopForm(_Form):
    """How an instance is brought to rest: time for its connections, for its guest, and for a change of mind."""

    drain: Annotated[float, BeforeValidator(bounded(seconds, "0s", "24h"))] = 30.0
    timeout: Annotated[float, BeforeValidator(bounded(seconds, "1s", "24h"))] = 60.0
    keep_overlay: Annotated[float, BeforeValidator(bounded(seconds, "0s", "720h"))] = 600.0

    def value(self) -> spec.Stop:
        return spec.Stop(self.drain, self.timeout, self.keep_overlay)


def _probe(endpoint: spec.Endpoint) -> spec.Probe:
    """The look that HAProxy itself takes at an endpoint; of one behind TLS only that it can be connected to."""
    port = endpoint.traffic.check.port or endpoint.target
    is_clear = endpoint.protocol is not spec.Protocol.HTTPS or endpoint.traffic.check.port
    path = endpoint.check_path if is_clear else ""
    return spec.Probe("http", port, path) if path else spec.Probe("tcp", port)


class RoleForm(_Form):
    """A named kind of instance."""

    image: Line
    instances: Annotated[int, Field(ge=1, le=MAX_INSTANCES)] = 1
    size: SizeForm = SizeForm()
    endpoints: dict[Name, EndpointForm] = {}
    setup: SetupForm = SetupForm()
    ready: ReadyForm = ReadyForm()
    local_storage: dict[Name, LocalStorageForm] = {}
    volumes: dict[Name, VolumeForm] = {}
    stop: StopForm = StopForm()
    upgrade: UpgradeForm = UpgradeForm()
    repair: MaybeRepair = RepairForm()
    after: list[Name] = []
    autoscale: AutoscaleForm | None = None
    egress: bool | None = None

    @model_validator(mode="after")
    def _disks_fit(self) -> RoleForm:
        count = len(self.local_storage) + len(self.volumes)
        if count > MAX_DISKS:
            raise ValueError(f"has {count} disks; {MAX_DISKS} are the most")
        return self

    @model_validator(mode="after")
    def _can_stand_in(self) -> RoleForm:
        if self.volumes and self.upgrade.max_surge.amount:
            raise ValueError("upgrade.max_surge is not for a role with volumes: an extra instance's would be left over")
        return self

    @model_validator(mode="after")
    def _is_seen(self) -> RoleForm:
        if self.ready.via == "network" and not self.ready.probes and not self._endpoint_probes():
            raise ValueError("ready.via: network needs a probe, or an endpoint on the VIP: nothing else is seen")
        return self

    def _endpoint_probes(self) -> tuple[spec.Probe, ...]:
        """What the network shows of a role that names no probes of its own: its endpoints on the VIP."""
        found = [form.value(name) for name, form in self.endpoints.items()]
        return tuple(_probe(e) for e in found if e.visibility is not spec.Visibility.INTERNAL)

    def _ready(self) -> spec.Ready:
        ready = self.ready.value()
        is_bare = ready.via is spec.Via.NETWORK and not ready.probes
        return replace(ready, probes=self._endpoint_probes()) if is_bare else ready

    def _instances(self) -> int:
        """As many as are said; without that the fewest that autoscale may leave."""
        is_said = "instances" in self.model_fields_set or self.autoscale is None
        return self.instances if is_said or self.autoscale is None else self.autoscale.min

    def _disks(self) -> tuple[spec.Disk, ...]:
        """Sorted by where they are mounted, so that /srv comes before /srv/data (on Windows its plan does that)."""
        found = [form.value(name) for name, form in self.local_storage.items()]
        found += [form.value(name) for name, form in self.volumes.items()]
        return tuple(sorted(found, key=lambda disk: disk.mount.split("/")))

    def value(self, name: str) -> spec.Role:
        return spec.Role(
            name,
            self.image,
            self._instances(),
            self.size.value(),
            tuple(endpoint.value(key) for key, endpoint in self.endpoints.items()),
            self.setup.value(),
            self._ready(),
            self.upgrade.value(),
            self._disks(),
            self.stop.value(),
            repair_of(self.repair),
            tuple(self.after),
            self.autoscale.value() if self.autoscale else None,
            egress=self.egress,
        )


class ServiceForm(_Form):
    """The whole file."""

    service: Name
    roles: Annotated[dict[Name, RoleForm], Field(min_length=1)]
    vip: Annotated[str, AfterValidator(vip_address)] = ""
    traffic: list[TrafficForm] = []

    def value(self) -> spec.Service:
        roles = tuple(role.value(name) for name, role in self.roles.items())
        return spec.Service(self.service, roles, self.vip, tuple(rule.value(self.roles) for rule in self.traffic))
