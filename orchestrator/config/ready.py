"""The form of a role's ``ready``: when an instance counts as ready, and how it is looked at."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from orchestrator.config.fields import STRICT, Command, Port, url_path
from orchestrator.config.quantities import bounded, seconds
from orchestrator.config.secretform import SecretForm  # noqa: TC001 - pydantic reads it at run time
from orchestrator.model import spec
from orchestrator.model.secret import SecretRef

MAX_PROBES = 10
MAX_NAME = 255
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


def _services(value: object) -> object:
    """``auto`` → None. An explicit null is nothing that a user can have meant."""
    if value != "auto" and not isinstance(value, list):
        raise ValueError("must be auto or a list of services")
    return None if value == "auto" else value


def _service(text: str) -> str:
    """A name that some service manager can have; which of them it is, its image tells (engine)."""
    if not text.strip() or text != text.strip() or not text.isprintable() or len(text) > MAX_NAME:
        raise ValueError(f"must be a service's name: 1 to {MAX_NAME} printable characters, got {text!r:.60}")
    return text


def _ssh_user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError(f"must be a user's name, got {text!r:.60}")
    return text


class _Form(BaseModel):
    model_config = STRICT


class HttpProbeForm(_Form):
    """A page that has to be there: any answer from 200 to 399 will do."""

    port: Port
    path: Annotated[str, AfterValidator(url_path)] = "/"


class ProbeForm(_Form):
    """A check of the role's own, of one kind."""

    http: HttpProbeForm | None = None
    tcp: Port | None = None
    exec: Command | None = None
    timeout: Annotated[float, BeforeValidator(bounded(seconds, "0.1s", "60s"))] = 5.0

    @model_validator(mode="after")
    def _is_one(self) -> ProbeForm:
        if sum(found is not None for found in (self.http, self.tcp, self.exec)) != 1:
            raise ValueError("must have exactly one of http, tcp and exec")
        return self

    def value(self) -> spec.Probe:
        if self.http is not None:
            return spec.Probe("http", self.http.port, self.http.path, timeout_s=self.timeout)
        if self.tcp is not None:
            return spec.Probe("tcp", self.tcp, timeout_s=self.timeout)
        words = self.exec if isinstance(self.exec, str) else tuple(self.exec or ())
        return spec.Probe("exec", words=words, timeout_s=self.timeout)


class SshForm(_Form):
    """Whom to be in a guest, and the private key for that."""

    user: Annotated[str, AfterValidator(_ssh_user)] = "root"
    key: SecretForm


class ReadyForm(_Form):
    """When an instance counts as ready, and as healthy afterwards."""

    services: Annotated[list[Annotated[str, AfterValidator(_service)]] | None, BeforeValidator(_services)] = None
    timeout: Annotated[float, BeforeValidator(bounded(seconds, "1s", "24h"))] = 300.0
    via: Literal["agent", "ssh", "network"] = "agent"
    probes: Annotated[list[ProbeForm], Field(max_length=MAX_PROBES)] = []
    successes: Annotated[int, Field(ge=1, le=20)] = 2
    interval: Annotated[float, BeforeValidator(bounded(seconds, "1s", "1h"))] = 5.0
    failures: Annotated[int, Field(ge=1, le=100)] = 3
    window: Annotated[int, Field(ge=1, le=100)] = 5
    ssh: SshForm | None = None

    @model_validator(mode="after")
    def _fits(self) -> ReadyForm:
        if self.failures > self.window:
            raise ValueError(f"failures is {self.failures}, more than the {self.window} looks of its window")
        if (self.ssh is not None) != (self.via == "ssh"):
            raise ValueError("via: ssh needs ssh: {user: …, key: …}; without it ssh means nothing")
        if self.via == "network" and (self.services is not None or any(p.exec is not None for p in self.probes)):
            raise ValueError("via: network sees no services and runs nothing in the guest: it has http and tcp probes")
        return self

    def value(self) -> spec.Ready:
        return spec.Ready(
            None if self.services is None else tuple(self.services),
            self.timeout,
            spec.Via(self.via),
            tuple(probe.value() for probe in self.probes),
            self.successes,
            self.interval,
            self.failures,
            self.window,
            self.ssh.user if self.ssh else "",
            SecretRef(self.ssh.key.secret) if self.ssh else None,
        )
