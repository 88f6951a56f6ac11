"""The ``setup`` section's form. What local files hold is in it already; how the system does it is no business of it."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from ipaddress import ip_address
from typing import TYPE_CHECKING, Annotated

from lxml import etree
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator

from orchestrator.config.fields import STRICT, Line, Mode, Owner, line_or_words
from orchestrator.config.quantities import bounded, seconds
from orchestrator.config.secretform import SecretForm, Source
from orchestrator.config.userdata import UserData
from orchestrator.model import setup as model
from orchestrator.model.secret import SecretRef

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_ITEMS = 1000
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
# What Windows has, which is more than Linux has: which of the two it is for, only the image tells (engine/suitability).
_OF_WINDOWS = r"""(?![ .-])[^\x00-\x1f\x7f"/\\\[\]:;|=,+*?<>@]{1,%d}(?<![ .])"""
ACCOUNT = re.compile(_OF_WINDOWS % 32)
GROUP = re.compile(_OF_WINDOWS % 256)
_HASH = re.compile(r"\$[0-9a-z]{1,4}\$[!-9;-~]{1,200}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,39}(?:/[A-Za-z0-9_+-]{1,40}){0,2}")
_LOCALE = re.compile(r"[A-Za-z]{1,8}(?:_[A-Za-z]{2,8})?(?:\.[A-Za-z0-9-]{1,20})?(?:@[a-z]{1,20})?")
_LAYOUT = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~_/-]{0,199}(?:=[A-Za-z0-9.+:~_-]{1,200})?")
_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_DECLARATION = re.compile(r"\A\ufeff?<\?xml\s[^>]*\?>")
_CERTIFICATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
PEM = "-----BEGIN CERTIFICATE-----"


def _matching(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text) or not text.isprintable():
            raise ValueError(f"must be {what}, got {text!r:.60}")
        return text

    return AfterValidator(check)


def _address(text: str) -> str:
    try:
        ip_address(text)
    except ValueError as error:
        raise ValueError(f"must be an IP address, got {text!r:.60}") from error
    return text


def _absolute(text: str) -> str:
    parts = text.split("/")
    if not text.startswith("/") or text.endswith("/") or not text.isprintable() or {".", ".."} & set(parts):
        raise ValueError("must be an absolute path of a file in the instance")
    return text


def _no_nul(text: str) -> str:
    if "\0" in text or not text.strip():
        raise ValueError("must not be empty, and hold no NUL")
    return text


def _as_mapping(value: object) -> object:
    """A command that is only a line, or only words, as the mapping that it stands for."""
    return value if isinstance(value, dict) else {"run": line_or_words(value)}


def _secret_or_text(value: object) -> object:
    if not isinstance(value, str | dict):
        raise ValueError("must be a text or {secret: …}")  # noqa: TRY004 - pydantic collects these
    return SecretForm.model_validate(value) if isinstance(value, dict) else value


def _text(value: object) -> object:
    """Said here, since pydantic would tell what is wrong once for each of the two."""
    if isinstance(value, dict) and set(value) == {"secret"}:
        raise ValueError("must be a text: a secret takes its place, as `secret: …` beside the name or the path")
    if not isinstance(value, str | bytes | None):
        raise ValueError("must be a text")  # noqa: TRY004 - pydantic collects these
    return value


def _user_data(value: object) -> object:
    if isinstance(value, dict):
        return UserData(json.dumps(value, ensure_ascii=False))
    if not isinstance(value, UserData):
        told = "must be a mapping, a list of parts, or a text that starts with #cloud-config, #! or a MIME header"
        raise ValueError(told)  # noqa: TRY004 - pydantic collects these
    return value


def _xml(text: str) -> str:
    """Without its declaration: what it says of the encoding was true of the file, and this is a text."""
    text = _DECLARATION.sub("", text)
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"is not XML: {error.msg}") from error
    return text


Password = SecretForm | None
Text = Annotated[str | bytes | None, BeforeValidator(_text)]  # bytes: of a local file that is no text
LineOrSecret = Annotated[str | SecretForm, BeforeValidator(_secret_or_text)]
Seconds = Annotated[float, BeforeValidator(bounded(seconds, "1s", "24h"))]
Server = Annotated[str, _matching(_SERVER, "a name or an address of a server")]
Setting = Annotated[str, _matching(_KEY, "letters, digits, _ . -, not starting with a digit")]


class _Form(BaseModel):
    model_config = STRICT


def _one_of(form: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(form, name) is not None]
    if len(given) != 1:
        raise ValueError(f"needs exactly one of {', '.join(names)}")


class FileForm(_Form):
    """A file that setup writes: its ``content``, or that of a local file (``source``), or a ``secret``."""

    path: Annotated[str, AfterValidator(_absolute)]
    content: Text = None
    secret: Source | None = None
    mode: Mode = "0644"
    owner: Owner = "root:root"
    template: bool = True

    @model_validator(mode="after")
    def _is_one(self) -> FileForm:
        _one_of(self, "content", "secret")
        return self

    def value(self) -> model.File:
        content, is_base64 = _content(self.content, self.secret)
        is_template = self.template and not is_base64
        return model.File(self.path, content, self.mode, self.owner, is_template, is_base64)


def _content(content: Text, secret: str | None) -> tuple[str | SecretRef, bool]:
    """A form's content as the record has it, and whether that is base64."""
    if secret is not None:
        return SecretRef(secret), False
    if isinstance(content, bytes):
        return base64.b64encode(content).decode(), True
    return content or "", False


class CommandForm(_Form):
    """A command: ``run`` (a shell line or words), a ``script`` (or ``source``, a local file), or ``powershell``."""

    run: Annotated[str | list[str], BeforeValidator(line_or_words)] | None = None
    script: Annotated[str, AfterValidator(_no_nul)] | None = None
    powershell: Annotated[str, AfterValidator(_no_nul)] | None = None
    name: Annotated[Line, Field(max_length=60)] = ""
    timeout: Seconds = 600.0

    @model_validator(mode="after")
    def _is_one(self) -> CommandForm:
        _one_of(self, "run", "script", "powershell")
        return self

    def value(self, when: model.When) -> model.Command:
        words = tuple(self.run) if isinstance(self.run, list) else self.run or self.script or self.powershell or ""
        shell = model.Shell.POWERSHELL if self.powershell else model.Shell.SYSTEM
        return model.Command(words, when, shell, self.name, self.timeout)


class UserForm(_Form):
    """An account."""

    name: Annotated[str, _matching(ACCOUNT, "an account's name")]
    full_name: Line = ""
    groups: list[Annotated[str, _matching(GROUP, "a group's name")]] = []
    password: Password = None
    password_hash: LineOrSecret | None = None
    ssh_authorized_keys: list[Line] = []
    admin: bool = False
    shell: Annotated[str, AfterValidator(_absolute)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> UserForm:
        if self.password is not None and self.password_hash is not None:
            raise ValueError("has a password and a password_hash: give one")
        if isinstance(self.password_hash, str) and not _HASH.fullmatch(self.password_hash):
            raise ValueError("password_hash must be as crypt(3) has it, like $6$SALT$…; `openssl passwd -6` makes one")
        if ":" in self.full_name or "," in self.full_name:
            raise ValueError("full_name cannot hold : or ,")
        return self

    def value(self) -> model.User:
        return model.User(
            self.name,
            tuple(self.groups),
            self.password.value() if self.password else None,
            _line_value(self.password_hash),
            tuple(self.ssh_authorized_keys),
            self.admin,
            self.shell or "",
            self.full_name,
        )


def _line_value(value: str | SecretForm | None) -> str | SecretRef:
    return value.value() if isinstance(value, SecretForm) else value or ""


class AdministratorForm(_Form):
    """The system's own administrator: root, or Administrator."""

    password: SecretForm


class CertificateForm(_Form):
    """A certificate: PEM, for Windows also PKCS #12, with its password."""

    name: Annotated[str, _matching(_CERTIFICATE, "a name of letters, digits, _ . and -")]
    content: Text = None
    secret: Source | None = None
    password: Password = None

    @model_validator(mode="after")
    def _is_one(self) -> CertificateForm:
        _one_of(self, "content", "secret")
        if isinstance(self.content, str) and PEM not in self.content:
            raise ValueError(f"holds no certificate in PEM, which begins {PEM}")
        return self

    def value(self) -> model.Certificate:
        content, _is_base64 = _content(self.content, self.secret)
        return model.Certificate(self.name, content, password=self.password.value() if self.password else None)


class TrustedForm(_Form):
    """The certificate of an authority that the system is to trust, in PEM."""

    name: Annotated[str, _matching(_CERTIFICATE, "a name of letters, digits, _ . and -")]
    content: str | None = None
    secret: Source | None = None

    @model_validator(mode="after")
    def _is_one(self) -> TrustedForm:
        _one_of(self, "content", "secret")
        if self.content is not None and PEM not in self.content:
            raise ValueError(f"holds no certificate in PEM, which begins {PEM}")
        return self

    def value(self) -> model.Certificate:
        return model.Certificate(self.name, _content(self.content, self.secret)[0], is_root=True)


class NtpForm(_Form):
    """Where the time is asked for."""

    servers: Annotated[list[Server], Field(min_length=1)]


class DnsForm(_Form):
    """Whom to ask for names in place of the deployment's own network, and where names are looked for."""

    servers: list[Annotated[str, AfterValidator(_address)]] = []
    search: list[Server] = []


class JoinForm(_Form):
    """The Windows domain to join."""

    domain: Server
    user: Line
    password: SecretForm
    unit: Line = ""

    def value(self) -> model.Join:
        return model.Join(self.domain, self.user, self.password.value(), self.unit)


CommandItem = Annotated[CommandForm, BeforeValidator(_as_mapping)]
Commands = Annotated[list[CommandItem], Field(max_length=MAX_ITEMS - 1)]
Hostname = Annotated[Line, Field(max_length=250)]


def _unique(names: Iterable[str], what: str) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(f"has two {what} named {twice[0]}")


class SetupForm(_Form):
    """What the answer file does on first boot, and at every boot."""

    hostname: Hostname = ""
    timezone: Annotated[str, _matching(_ZONE, "a time zone, like Europe/Berlin")] | None = None
    locale: Annotated[str, _matching(_LOCALE, "a locale, like de_DE.UTF-8")] | None = None
    keyboard: Annotated[str, _matching(_LAYOUT, "a keyboard layout, like de")] | None = None
    users: list[UserForm] = []
    administrator: AdministratorForm | None = None
    ssh_authorized_keys: list[Line] = []
    files: list[FileForm] = []
    packages: list[Annotated[str, _matching(_PACKAGE, "a package's name, or NAME=VERSION")]] = []
    run: Commands = []
    run_every_boot: Commands = []
    startup_tasks: Commands = []
    certificates: list[CertificateForm] = []
    trusted_certificates: list[TrustedForm] = []
    ntp: NtpForm | None = None
    dns: DnsForm = DnsForm()
    network: Annotated[str, _matching(re.compile("dhcp|static"), "dhcp or static")] = "dhcp"
    domain_join: JoinForm | None = None
    license_key: LineOrSecret | None = None
    settings: dict[Setting, str] = {}
    user_data: Annotated[UserData, BeforeValidator(_user_data)] = UserData()
    unattend: Annotated[str, AfterValidator(_xml)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> SetupForm:
        _unique((user.name for user in self.users), "users")
        _unique(
            [*(own.name for own in self.certificates), *(ca.name for ca in self.trusted_certificates)], "certificates"
        )
        _unique((task.name for task in self.startup_tasks if task.name), "startup_tasks")
        if self.administrator and any(user.name == "root" for user in self.users):
            raise ValueError("has a user root beside administrator: give one")
        return self

    def _commands(self) -> tuple[model.Command, ...]:
        every = (
            (self.run, model.When.FIRST_BOOT),
            (self.run_every_boot, model.When.EVERY_BOOT),
            (self.startup_tasks, model.When.START_UP),
        )
        return tuple(form.value(when) for forms, when in every for form in forms)

    def value(self) -> model.Setup:
        own, trusted = [c.value() for c in self.certificates], [c.value() for c in self.trusted_certificates]
        return model.Setup(
            ssh_authorized_keys=tuple(self.ssh_authorized_keys),
            files=tuple(file.value() for file in self.files),
            commands=self._commands(),
            user_data=self.user_data.config,
            user_parts=self.user_data.parts,
            unattend=self.unattend or "",
            settings=tuple(sorted(self.settings.items())),
            hostname=self.hostname,
            timezone=self.timezone or "",
            locale=self.locale or "",
            keyboard=self.keyboard or "",
            users=tuple(user.value() for user in self.users),
            administrator_password=self.administrator.password.value() if self.administrator else None,
            packages=tuple(self.packages),
            certificates=(*own, *trusted),
            ntp_servers=tuple(self.ntp.servers) if self.ntp else (),
            dns_servers=tuple(self.dns.servers),
            dns_search=tuple(self.dns.search),
            is_static=self.network == "static",
            join=self.domain_join.value() if self.domain_join else None,
            license_key=_line_value(self.license_key),
        )
