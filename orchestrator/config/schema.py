"""The service file's form, field by field. pydantic checks it; nothing here reads a file or knows a line number."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from orchestrator.config.quantities import mebibytes, seconds
from orchestrator.model import spec
from orchestrator.model.names import NAME_RULE, is_name

MAX_INSTANCES = 200
_PATH = re.compile(r"/[A-Za-z0-9_.~/%?&=+-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!r} is not a name: {NAME_RULE}")
    return text


def _url_path(text: str) -> str:
    if not _PATH.fullmatch(text):
        raise ValueError("must be a path of a URL, starting with /")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/") or "\0" in text or text.endswith("/"):
        raise ValueError("must be an absolute path of a file in the instance")
    return text


def _sayable(text: str) -> str:
    """YAML can spell half of a character (a lone surrogate); no file and no disc can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds a character that is none (a lone surrogate)") from error
    return text


def _one_line(text: str) -> str:
    if not text.strip() or any(ord(letter) < 32 for letter in text):
        raise ValueError("must be one line, and not empty")
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
    if not 1 <= first <= last <= 65535:
        raise ValueError(f"ports are from 1 to 65535, got {value}")
    return first, last


def _cloud_config(value: object) -> str:
    """The user's cloud-config, as a mapping or as its text, to one JSON object's text."""
    if isinstance(value, str):
        if not value.startswith("#cloud-config"):
            raise ValueError("must be a mapping, or a text that starts with #cloud-config")
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"is not YAML: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("must be a mapping of cloud-config keys")  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        return _sayable(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except TypeError as error:
        raise ValueError(f"holds a value that JSON has no form for: {error}") from error


Text = Annotated[str, AfterValidator(_sayable)]
Name = Annotated[str, AfterValidator(_name)]
Port = Annotated[int, Field(ge=1, le=65535)]
Ports = Annotated[tuple[int, int], BeforeValidator(_port_range)]
Mebibytes = Annotated[int, BeforeValidator(mebibytes)]
Seconds = Annotated[float, BeforeValidator(seconds)]


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
    memory: Annotated[Mebibytes, Field(ge=64, le=1024 * 1024)] = 512
    disk: Annotated[Mebibytes, Field(ge=1, le=2 * 1024 * 1024)] | None = None

    def value(self) -> spec.Size:
        return spec.Size(self.vcpus, self.memory, -(-(self.disk or 0) // 1024))


class FileForm(_Form):
    """A file that setup writes."""

    path: Annotated[str, AfterValidator(_sayable), AfterValidator(_absolute)]
    content: Text
    mode: Annotated[str, Field(pattern=r"^0[0-7]{3}$")] = "0644"
    owner: Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]*:[a-z_][a-z0-9_-]*$")] = "root:root"

    def value(self) -> spec.File:
        return spec.File(self.path, self.content, self.mode, self.owner)


class SetupForm(_Form):
    """What the answer file does on first boot."""

    ssh_authorized_keys: list[Annotated[str, AfterValidator(_sayable), AfterValidator(_one_line)]] = []
    files: list[FileForm] = []
    run: list[Text | list[Text]] = []
    user_data: Annotated[str, BeforeValidator(_cloud_config)] = ""
    settings: dict[Annotated[str, AfterValidator(_setting)], Text] = {}

    def value(self) -> spec.Setup:
        return spec.Setup(
            tuple(self.ssh_authorized_keys),
            tuple(file.value() for file in self.files),
            tuple(line if isinstance(line, str) else tuple(line) for line in self.run),
            self.user_data,
            tuple(sorted(self.settings.items())),
        )


class ReadyForm(_Form):
    """When an instance counts as ready."""

    services: Literal["auto"] | list[Annotated[str, AfterValidator(_sayable), AfterValidator(_one_line)]] = "auto"
    timeout: Annotated[Seconds, Field(ge=1, le=24 * 3600)] = 300.0

    def value(self) -> spec.Ready:
        return spec.Ready(None if self.services == "auto" else tuple(self.services), self.timeout)


class UpgradeForm(_Form):
    """How a change goes through the role."""

    max_unavailable: Annotated[int, Field(ge=1, le=MAX_INSTANCES)] = 1


class RoleForm(_Form):
    """A named kind of instance."""

    image: Annotated[str, AfterValidator(_sayable), AfterValidator(_one_line)]
    instances: Annotated[int, Field(ge=1, le=MAX_INSTANCES)] = 1
    size: SizeForm = SizeForm()
    endpoints: dict[Name, EndpointForm] = {}
    setup: SetupForm = SetupForm()
    ready: ReadyForm = ReadyForm()
    upgrade: UpgradeForm = UpgradeForm()

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
        )


class ServiceForm(_Form):
    """The whole file."""

    service: Name
    roles: Annotated[dict[Name, RoleForm], Field(min_length=1)]

    def value(self) -> spec.Service:
        return spec.Service(self.service, tuple(role.value(name) for name, role in self.roles.items()))
