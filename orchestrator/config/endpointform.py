"""An endpoint in the service file: its fields one by one, and which of them go together.

HAProxy's rules stand here in a user's words; how an endpoint becomes HAProxy's text is no matter of this module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from orchestrator.config.fields import STRICT, Port, url_path
from orchestrator.config.quantities import bounded, seconds
from orchestrator.config.secretform import SecretForm  # noqa: TC001 - pydantic reads it at run time
from orchestrator.model import spec, traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NO_UDP = "udp is not possible on the VIP: HAProxy, which carries it all, has TCP only; say visibility: internal"
NOT_ON_VIP = "an internal endpoint has a target only: it is not on the VIP"
OF_THE_VIP = (
    "balance", "sticky", "proxy_protocol", "max_connections", "max_connections_per_instance", "idle_timeout", "tls",
    "ignore_instance_status",
)  # fmt: skip


def _range(value: object) -> tuple[int, int] | None:
    """``80`` → (80, 80); ``9100-9109`` → (9100, 9109); None if it is neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value) if isinstance(value, str) else None
    return (int(match.group(1)), int(match.group(2))) if match is not None else None


def _port_range(value: object) -> tuple[int, int]:
    if (found := _range(value)) is None:
        raise ValueError("must be a port (80) or a range of ports (9100-9109)")
    first, last = found
    if not (1 <= first <= 65535 and 1 <= last <= 65535):
        raise ValueError(f"ports are from 1 to 65535, got {value}")
    if first > last:
        raise ValueError(f"is a range that ends before it begins: say {last}-{first}")
    return found


def _status_range(value: object) -> tuple[int, int]:
    if (found := _range(value)) is None or not 100 <= found[0] <= found[1] <= 599:
        raise ValueError("must be a status of HTTP (200) or a range of them (200-399)")
    return found


def ports_of(value: object) -> range:
    """The ports that an endpoint's ``port`` stands for; none while that is wrong or left out."""
    try:
        first, last = _port_range(value)
    except ValueError:
        return range(0)
    return range(first, last + 1)


Ports = Annotated[tuple[int, int], BeforeValidator(_port_range)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Few = Annotated[int, Field(ge=1, le=100)]
Pace = Annotated[float, BeforeValidator(bounded(seconds, "0.1s", "1h"))]


class _Form(BaseModel):
    model_config = STRICT


class TlsForm(_Form):
    """TLS that ends at the VIP; the secret is the certificate with its chain and key, PEM."""

    certificate: SecretForm
    min_version: Literal["1.2", "1.3"] = "1.2"

    def value(self) -> spec.Tls:
        return spec.Tls(self.certificate.value(), self.min_version)


class CheckForm(_Form):
    """What HAProxy asks an instance for, and how often."""

    path: Annotated[str, AfterValidator(url_path)] = ""
    interval: Pace = 2.0
    timeout: Pace = 2.0
    rise: Few = 2
    fall: Few = 3
    port: Port = 0
    status: Annotated[tuple[int, int], BeforeValidator(_status_range)] = (200, 399)

    def value(self) -> traffic.Check:
        return traffic.Check(self.interval, self.timeout, self.rise, self.fall, self.port, self.status)


class EndpointForm(_Form):
    """A port of a role: on the VIP (input), between instances (internal), or one VIP port an instance (instance)."""

    port: Ports | None = None
    target: Ports | None = None
    protocol: Literal["http", "https", "tcp", "udp"] = "tcp"
    visibility: Literal["input", "internal", "instance"] = "input"
    check: CheckForm | None = None
    balance: Literal["roundrobin", "leastconn", "source"] = "roundrobin"
    sticky: Literal["none", "cookie", "source"] = "none"
    proxy_protocol: bool = False
    max_connections: Count = 0
    max_connections_per_instance: Count = 0
    idle_timeout: Annotated[float, BeforeValidator(bounded(seconds, "1s", "24h"))] = 60.0
    tls: TlsForm | None = None
    ignore_instance_status: bool = False

    @model_validator(mode="after")
    def _fits(self) -> EndpointForm:
        if self.visibility == "internal":
            if self.port is not None or self.check is not None:
                raise ValueError(NOT_ON_VIP)
            if self.target is None:
                raise ValueError("an internal endpoint needs a target: the port inside the instance")
            return self
        if self.target is not None and self.target[0] != self.target[1]:
            raise ValueError("a target that is a range is for visibility: internal; HAProxy sends to one port")
        if self.port is None:
            raise ValueError("needs a port: the port on the VIP")
        if self.visibility == "input" and self.port[0] != self.port[1]:
            raise ValueError("an input endpoint has one port; a range is for visibility: instance")
        if self.visibility == "instance" and self.target is None:
            raise ValueError("an instance endpoint needs a target: the port inside the instance")
        return self

    def value(self, name: str) -> spec.Endpoint:
        ports = self.port or (0, 0)
        first, last = self.target or (ports[0], ports[0])
        return spec.Endpoint(
            name,
            ports,
            first,
            spec.Protocol(self.protocol),
            spec.Visibility(self.visibility),
            self.check.path if self.check else "",
            self._traffic(),
            self.ignore_instance_status,
            last if last != first else 0,
        )

    def _traffic(self) -> spec.Traffic:
        return spec.Traffic(
            self.check.value() if self.check else traffic.Check(),
            traffic.Balance(self.balance),
            traffic.Sticky(self.sticky),
            self.proxy_protocol,
            self.max_connections,
            self.max_connections_per_instance,
            self.idle_timeout,
            self.tls.value() if self.tls else None,
        )


def misfits(raw: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path within the endpoint, what is wrong) of each field that the others do not allow.

    Read from the file as it is, so that they are told together with what is wrong in single fields.
    """
    protocol, visibility = raw.get("protocol", "tcp"), raw.get("visibility", "input")
    if visibility == "internal":
        yield from (((field,), NOT_ON_VIP) for field in OF_THE_VIP if field in raw)
        return
    if protocol == "udp":
        yield ("protocol",), NO_UDP
    if visibility == "instance":
        yield from _alone(raw)
    if raw.get("sticky") == "cookie" and protocol in {"tcp", "https"}:
        yield ("sticky",), f"cookie needs protocol: http: HAProxy does not see inside {protocol}; say source"
    if protocol == "https" and raw.get("tls") is not None:
        yield ("tls",), "has no place in protocol: https, which hands TLS on to the instance; say protocol: http or tcp"
    yield from _check_misfits(raw.get("check"), protocol)


def _alone(raw: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], str]]:
    for field, plain in (("balance", "roundrobin"), ("sticky", "none")):
        if raw.get(field, plain) != plain:
            yield (field,), "makes no sense for an instance endpoint: one instance is behind each of its ports"


def _check_misfits(check: object, protocol: object) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(check, dict):
        return
    if "path" in check and protocol == "tcp" and "port" not in check:
        yield ("check", "path"), "needs protocol: http or https, or a check.port that answers HTTP"
    if "status" in check and "path" not in check:
        yield ("check", "status"), "needs check.path: without it HAProxy only connects"
