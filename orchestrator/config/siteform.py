"""`site.yaml` in the state folder: what is settable of the place where services run."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ValidationError, model_validator

from orchestrator.config.fields import STRICT
from orchestrator.config.reading import UNREADABLE, Fault, ordered, problem, read
from orchestrator.config.words import in_words
from orchestrator.errors import InvalidInput, UserError
from orchestrator.model.vips import Bind

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.site import Site

SETTINGS_FILE = "site.yaml"
HINT = 'the README shows it under "VIPs"'
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise ValueError(f"{text!r:.60} is not the name of an interface")
    return text


def _pool(value: object) -> IPv4Network:
    try:
        found = IPv4Network(value if isinstance(value, str) else "")
    except ValueError as error:
        raise ValueError(f"must be a network like 192.0.2.0/28: {error}") from error
    if found.is_multicast or found.is_unspecified or found.is_loopback or found.num_addresses > 2**16:
        raise ValueError("must be a network of addresses that a machine can have, a /16 at most")
    return found


def _bind(value: object) -> object:
    """``loopback`` is short for a mapping that names no interface."""
    if value == "loopback":
        return {}
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("must be loopback, {interface: NAME} or {own: NAME}")
    return value


Device = Annotated[str, AfterValidator(_device)]


class _Form(BaseModel):
    model_config = STRICT


class BindForm(_Form):
    """What VIPs are added to, or whose own address they are."""

    interface: Device | None = None
    own: Device | None = None

    def value(self) -> tuple[Bind, str]:
        if self.interface is not None:
            return Bind.INTERFACE, self.interface
        return (Bind.OWN, self.own) if self.own is not None else (Bind.LOOPBACK, "lo")


class VipsForm(_Form):
    """Where VIPs live, and which ones are given out."""

    bind: Annotated[BindForm, BeforeValidator(_bind)] = BindForm()
    pool: Annotated[IPv4Network, BeforeValidator(_pool)] | None = None

    @model_validator(mode="after")
    def _has_a_pool(self) -> VipsForm:
        bind, _device = self.bind.value()
        if bind is Bind.INTERFACE and self.pool is None:
            raise ValueError("needs a pool: addresses of the interface's network that nobody else uses")
        if bind is Bind.OWN and self.pool is not None:
            raise ValueError("has no pool with bind: own: all services share the interface's address")
        return self


class SiteForm(_Form):
    """The whole file."""

    vips: VipsForm = VipsForm()
    version: Literal[1] = 1


def as_set(site: Site, home: Path) -> Site:
    """The site with what the state folder's file says of it. Raises InvalidInput, with every problem in that file."""
    path = home / SETTINGS_FILE
    try:
        text = path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return site
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    form = _parsed(text, str(path))
    bind, device = form.vips.bind.value()
    pool = form.vips.pool if form.vips.pool is not None else site.vip_pool
    return replace(site, vip_pool=pool, vip_device=device, vip_bind=bind)


def _parsed(text: str, source: str) -> SiteForm:
    places, raw, faults = read(text)
    if raw is None and not faults:
        return SiteForm()
    if not isinstance(raw, dict) or faults:
        told = faults or [Fault((), "must be a mapping with `vips`", 1)]
        raise InvalidInput(source, ordered(fault.problem() for fault in told), HINT)
    try:
        return SiteForm.model_validate(raw)
    except ValidationError as error:
        found = [
            problem(places, one["loc"], in_words(one), is_missing=one["type"] == "missing")
            for one in error.errors()
            if one["input"] is not UNREADABLE
        ]
        raise InvalidInput(source, ordered(found), HINT) from error
