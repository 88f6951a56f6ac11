"""The service file's form, field by field. pydantic checks it; nothing here reads a file or knows a line number."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from orchestrator.config.quantities import bounded, mebibytes, seconds
from orchestrator.config.secretform import Source  # noqa: TC001 - pydantic reads it
from orchestrator.model import spec
from orchestrator.model.names import NAME_RULE, is_name

MAX_INSTANCES = 200
# How pydantic's own words are said to a user; the rest of its messages are plain enough.
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field here",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}
PHRASES = {
    "Value error, ": "",
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
}
_PATH = re.compile(r"/[A-Za-z0-9_.~/%?&=+-]*")
_MOUNT = re.compile(r"(?:/[A-Za-z0-9_.-]+){1,20}")
NOT_BELOW = {"proc", "sys", "dev", "run"}
NOT_FOR_DISKS = {"/boot", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/usr", "/tmp"}  # noqa: S108 - of the guest
MAX_MOUNT = 100  # systemd names a unit after it, with up to four letters for one
MAX_DISKS = 20  # each is a device on the guest's PCI bus
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_MODE = re.compile(r"[0-7]{4}")
_USER = r"(?:[a-z_][a-z0-9_-]*|[0-9]{1,10})"
_OWNER = re.compile(f"{_USER}:{_USER}")


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r:.60} is not a name: {NAME_RULE}")
    return text


def _url_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError("must be a path of a URL, starting with /")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text or text.endswith("/"):
        raise ValueError("must be an absolute path of a file in the instance")
    return text


def _mount(text: str) -> str:
    if not _MOUNT.fullmatch(text) or {".", ".."} & set(text.split("/")) or len(text) > MAX_MOUNT:
        raise ValueError("must be an absolute path of a folder, short, of letters, digits and _ . - only")
    if text in NOT_FOR_DISKS or text.split("/")[1] in NOT_BELOW:
        raise ValueError(f"no disk can be mounted at {text}: the system needs it as it is")
    return text


def _mode(value: object) -> str:
    if not isinstance(value, str):  # YAML reads 0644 as the number 420
        raise ValueError('must be four octal digits in quotes, like "0644"')  # noqa: TRY004 - pydantic collects these
    if not _MODE.fullmatch(value):
        raise ValueError(f"must be four octal digits, like 0644, got {value!r:.60}")
    return value


def _owner(text: str) -> str:
    if not _OWNER.fullmatch(text):
        raise ValueError(f"must be user:group, like www-data:www-data, got {text!r:.60}")
    return text


def _command(value: object) -> object:
    """A shell line or a list of words; said here, since pydantic would tell what is wrong once for each of the two."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("must be a shell line, or a list of words that are texts")
    if not words or not words[0].strip():
        raise ValueError("is an empty command")
    if any("\0" in word for word in words):
        raise ValueError("holds a NUL, which no command can")
    return value


def _services(value: object) -> object:
    """``auto`` → None. An explicit null is nothing that a user can have meant."""
    if value != "auto" and not isinstance(value, list):
        raise ValueError("must be auto or a list of services")
    return None if value == "auto" else value


def _one_line(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError("must be one line of printable characters, and not empty")
    return text.strip()


def _setting(text: str) -> str:
    if not _KEY.fullmatch(text):
        raise ValueError("must be letters, digits, _ . -, not starting with a digit")
    return text


def _port_range(value: object) -> tuple[int, int]:
    """``80`` → (80, 80); ``9100-9109`` → (9100, 9109)."""
    if isinstance(value, int) and not isinstance(value, bool):
        first = last = value
    else:
        match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError("must be a port (80) or a range of ports (9100-9109)")
        first, last = int(match.group(1)), int(match.group(2))
    if not (1 <= first <= 65535 and 1 <= last <= 65535):
        raise ValueError(f"ports are from 1 to 65535, got {value}")
    if first > last:
        raise ValueError(f"is a range that ends before it begins: say {last}-{first}")
    return first, last


def ports_of(value: object) -> range:
    """The ports that an endpoint's ``port`` stands for; none while that is wrong or left out."""
    try:
        first, last = _port_range(value)
    except ValueError:
        return range(0)
    return range(first, last + 1)


def _cloud_config(value: object) -> str:
    """The user's cloud-config to one JSON object's text; if it was written as a text, the reader has read that."""
    if not isinstance(value, dict):
        raise ValueError("must be a mapping, or a text of one that starts with #cloud-config")  # noqa: TRY004 - as above
    return json.dumps(value, ensure_ascii=False)


Mode = Annotated[str, BeforeValidator(_mode)]
Owner = Annotated[str, AfterValidator(_owner)]
Name = Annotated[str, AfterValidator(_name)]
Port = Annotated[int, Field(ge=1, le=65535)]
Ports = Annotated[tuple[int, int], BeforeValidator(_port_range)]
Command = Annotated[str | list[str], BeforeValidator(_command)]
Line = Annotated[str, AfterValidator(_one_line)]


def in_words(found: object) -> str:
    """One of pydantic's errors as a user reads it."""
    details = dict(found)  # type: ignore[call-overload]
    kind, message = details["type"], str(details["msg"])
    if kind in WORDS:
        return WORDS[kind]
    for theirs, ours in PHRASES.items():
        message = message.replace(theirs, ours)
    is_plain = isinstance(details.get("input"), int | str) and kind != "value_error"
    return f"{message}, got {details['input']!r:.60}" if is_plain else message


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class CheckForm(_Form):
    """What HAProxy asks an instance for."""

    path: Annotated[str, AfterValidator(_url_path)]


class EndpointForm(_Form):
    """A port of a role: on the VIP (input), between instances (internal), or one VIP port an instance (instance)."""

    port: Ports | None = None
    target: Port | None = None
    protocol: Literal["http", "tcp"] = "tcp"
    visibility: Literal["input", "internal", "instance"] = "input"
    check: CheckForm | None = None

    @model_validator(mode="after")
    def _fits(self) -> EndpointForm:
        if self.visibility == "internal":
            if self.port is not None or self.check is not None:
                raise ValueError("an internal endpoint has a target only: it is not on the VIP")
            if self.target is None:
                raise ValueError("an internal endpoint needs a target: the port inside the instance")
            return self
        if self.port is None:
            raise ValueError("needs a port: the port on the VIP")
        if self.visibility == "input" and self.port[0] != self.port[1]:
            raise ValueError("an input endpoint has one port; a range is for visibility: instance")
        if self.visibility == "instance" and self.target is None:
            raise ValueError("an instance endpoint needs a target: the port inside the instance")
        if self.check is not None and self.protocol != "http":
            raise ValueError("check.path needs protocol: http")
        return self

    def value(self, name: str) -> spec.Endpoint:
        ports = self.port or (0, 0)
        return spec.Endpoint(
            name,
            ports,
            self.target or ports[0],
            spec.Protocol(self.protocol),
            spec.Visibility(self.visibility),
            self.check.path if self.check else "",
        )


class SizeForm(_Form):
    """An instance's hardware."""

    vcpus: Annotated[int, Field(ge=1, le=64)] = 1
    memory: Annotated[int, BeforeValidator(bounded(mebibytes, "64MiB", "1TiB"))] = 512
    disk: Annotated[int, BeforeValidator(bounded(mebibytes, "1MiB", "2TiB"))] | None = None

    def value(self) -> spec.Size:
        return spec.Size(self.vcpus, self.memory, -(-(self.disk or 0) // 1024))


class FileForm(_Form):
    """A file that setup writes: its ``content``, or a ``secret``."""

    path: Annotated[str, AfterValidator(_absolute)]
    content: str | None = None
    secret: Source | None = None
    mode: Mode = "0644"
    owner: Owner = "root:root"

    @model_validator(mode="after")
    def _is_one(self) -> FileForm:
        if (self.content is None) == (self.secret is None):
            raise ValueError("needs exactly one of content, secret")
        return self

    def value(self) -> spec.File:
        content = spec.SecretRef(self.secret) if self.secret is not None else self.content or ""
        return spec.File(self.path, content, self.mode, self.owner)


class SetupForm(_Form):
    """What the answer file does on first boot."""

    ssh_authorized_keys: list[Line] = []
    files: list[FileForm] = []
    run: list[Command] = []
    user_data: Annotated[str, BeforeValidator(_cloud_config)] = ""
    settings: dict[Annotated[str, AfterValidator(_setting)], str] = {}

    def value(self) -> spec.Setup:
        return spec.Setup(
            ssh_authorized_keys=tuple(self.ssh_authorized_keys),
            files=tuple(file.value() for file in self.files),
            commands=tuple(spec.Command(line if isinstance(line, str) else tuple(line)) for line in self.run),
            user_data=self.user_data,
            settings=tuple(sorted(self.settings.items())),
        )


class ReadyForm(_Form):
    """When an instance counts as ready."""

    services: Annotated[list[Line] | None, BeforeValidator(_services)] = None
    timeout: Annotated[float, BeforeValidator(bounded(seconds, "1s", "24h"))] = 300.0

    def value(self) -> spec.Ready:
        return spec.Ready(None if self.services is None else tuple(self.services), self.timeout)


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


class UpgradeForm(_Form):
    """How a change goes through the role."""

    max_unavailable: Annotated[int, Field(ge=1, le=MAX_INSTANCES)] = 1


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

    @model_validator(mode="after")
    def _disks_fit(self) -> RoleForm:
        count = len(self.local_storage) + len(self.volumes)
        if count > MAX_DISKS:
            raise ValueError(f"has {count} disks; {MAX_DISKS} are the most")
        return self

    def _disks(self) -> tuple[spec.Disk, ...]:
        """Sorted by where they are mounted, so that /srv comes before /srv/data."""
        found = [form.value(name) for name, form in self.local_storage.items()]
        found += [form.value(name) for name, form in self.volumes.items()]
        return tuple(sorted(found, key=lambda disk: disk.mount.split("/")))

    def value(self, name: str) -> spec.Role:
        return spec.Role(
            name,
            self.image,
            self.instances,
            self.size.value(),
            tuple(endpoint.value(key) for key, endpoint in self.endpoints.items()),
            self.setup.value(),
            self.ready.value(),
            self.upgrade.max_unavailable,
            self._disks(),
            self.stop.value(),
        )


class ServiceForm(_Form):
    """The whole file."""

    service: Name
    roles: Annotated[dict[Name, RoleForm], Field(min_length=1)]

    def value(self) -> spec.Service:
        return spec.Service(self.service, tuple(role.value(name) for name, role in self.roles.items()))
