# ruff: noqa: E501 - a table reads best with one field a line
"""Any text in any field of ``setup``: refused, or read back unchanged from the disc, as the guest reads it."""

import base64
import email
import io
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network
from typing import get_args

import pycdlib
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestrator.config.servicefile import parse
from orchestrator.config.setupform import SetupForm
from orchestrator.config.userdata import UserData
from orchestrator.drivers.seed import IsoSeeds
from orchestrator.engine.template import escaped
from orchestrator.errors import InvalidInput, Refused
from orchestrator.model.making import machine_spec
from orchestrator.model.spec import Platform
from orchestrator.model.vicinity import Vicinity
from orchestrator.render.cloudinit import LABEL, PUT, RUNNER_PATH, SETTINGS_PATH, seed
from orchestrator.render.commands import FUNCTIONS
from tests.fakes.build import DIGEST, record

AROUND = Vicinity("198.51.100.1", (("local", IPv4Network("198.18.0.0/24")),))
Disc = dict[str, str]


def disc_of(setup: object, secret: bytes = b"x") -> Disc | None:
    """The disc of a service file with this setup, read by another program's eyes; None if it is refused.

    ``secret``: what every secret is.
    """
    file = {"service": "hello", "roles": {"web": {"image": "a", "setup": setup}}}
    try:
        (role,) = parse(yaml.safe_dump(file), "hello.yaml").roles
    except InvalidInput:
        return None
    around = replace(AROUND, settings=role.setup.settings)
    try:
        made = seed(record(machine=machine_spec(role, DIGEST, Platform())), around, lambda _secret: secret)
    except Refused:
        return None
    iso = pycdlib.PyCdlib()
    iso.open_fp(io.BytesIO(IsoSeeds().disc(LABEL, made.files())))
    found = {}
    for child in iso.list_children(joliet_path="/"):
        if child.is_file():
            out = io.BytesIO()
            name = child.file_identifier().decode("utf-16-be")
            iso.get_file_from_iso_fp(out, joliet_path=f"/{name}")
            found[name] = out.getvalue().decode()
    iso.close()
    return found


def config(disc: Disc) -> dict:
    return yaml.safe_load(disc["user-data"])


def put(disc: Disc, path: str) -> str:
    words = shlex.split(disc["vendor-data"].split(PUT)[1])
    return next(base64.b64decode(words[at + 2]).decode() for at, word in enumerate(words) if word == path)


def command(disc: Disc) -> list[str]:
    """The words of the one command, after its kind, number, time limit."""
    calls = put(disc, RUNNER_PATH).split(FUNCTIONS)[1].strip().split("\n", 1)[1].rsplit("\n", 1)[0]
    return shlex.split(calls)[4:]


def written_file(disc: Disc, number: int = 0) -> str:
    return base64.b64decode(config(disc)["write_files"][number]["content"]).decode()


def part(disc: Disc) -> email.message.Message:
    """The one part of the user's own beside the cloud-config."""
    return list(email.message_from_string(disc["user-data"]).walk())[2]


def unix_lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def pem(text: str) -> str:
    return f"{PEM}\n{text}\n{PEM_END}"


def as_it_is(text: str) -> str:
    return text


def one_line(text: str) -> str:
    """Spaces around a line are not part of it."""
    return text.strip()


def nic(disc: Disc) -> dict:
    return json.loads(disc["network-config"])["ethernets"]["nic0"]


PEM, PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
SECRET = {"secret": "env:A"}
# field → (the setup that has a text there, where the guest finds it, how it is written there)
FIELDS: dict[str, tuple[Callable[[str], object], Callable[[Disc], object], Callable[[str], str]]] = {
    "hostname": (lambda t: {"hostname": t}, lambda d: json.loads(d["meta-data"])["local-hostname"], one_line),
    "timezone": (lambda t: {"timezone": t}, lambda d: config(d)["timezone"], as_it_is),
    "locale": (lambda t: {"locale": t}, lambda d: config(d)["locale"], as_it_is),
    "user": (lambda t: {"users": [{"name": t}]}, lambda d: config(d)["users"][1]["name"], as_it_is),
    "full name": (lambda t: {"users": [{"name": "a", "full_name": t}]}, lambda d: config(d)["users"][1]["gecos"], one_line),
    "group": (lambda t: {"users": [{"name": "a", "groups": [t]}]}, lambda d: config(d)["users"][1]["groups"], as_it_is),
    "shell": (lambda t: {"users": [{"name": "a", "shell": f"/{t}"}]}, lambda d: config(d)["users"][1]["shell"][1:], as_it_is),
    "hash": (lambda t: {"users": [{"name": "a", "password_hash": f"$6$a{t}"}]}, lambda d: config(d)["users"][1]["hashed_passwd"][4:], as_it_is),
    "key": (lambda t: {"ssh_authorized_keys": [t]}, lambda d: config(d)["ssh_authorized_keys"][0], one_line),
    "path": (lambda t: {"files": [{"path": f"/{escaped(t)}", "content": ""}]}, lambda d: config(d)["write_files"][0]["path"][1:], as_it_is),
    "content": (lambda t: {"files": [{"path": "/a", "content": escaped(t)}]}, lambda d: base64.b64decode(config(d)["write_files"][0]["content"]).decode(), as_it_is),
    "plain content": (lambda t: {"files": [{"path": "/a", "content": t, "template": False}]}, lambda d: base64.b64decode(config(d)["write_files"][0]["content"]).decode(), as_it_is),
    "owner": (lambda t: {"files": [{"path": "/a", "content": "", "owner": t}]}, lambda d: config(d)["write_files"][0]["owner"], as_it_is),
    "package": (lambda t: {"packages": [t]}, lambda d: config(d)["packages"][0], as_it_is),
    "line": (lambda t: {"run": [escaped(t)]}, lambda d: command(d)[1], as_it_is),
    "word": (lambda t: {"run": [["a", escaped(t)]]}, lambda d: command(d)[2], as_it_is),
    "script": (lambda t: {"startup_tasks": [{"name": "x", "script": escaped(t)}]}, lambda d: command(d)[1], as_it_is),
    "name": (lambda t: {"run_every_boot": [{"name": t, "run": "a"}]}, lambda d: command(d)[0], lambda t: " ".join(t.split())),
    "setting": (lambda t: {"settings": {"A": escaped(t)}}, lambda d: json.loads(put(d, SETTINGS_PATH))["A"], as_it_is),
    "time server": (lambda t: {"ntp": {"servers": [t]}}, lambda d: config(d)["ntp"]["servers"][0], as_it_is),
    "domain": (lambda t: {"dns": {"search": [t]}}, lambda d: nic(d)["nameservers"]["search"][0], as_it_is),
    "name server": (lambda t: {"dns": {"servers": [t]}}, lambda d: nic(d)["nameservers"]["addresses"][0], as_it_is),
    "keyboard": (lambda t: {"keyboard": t}, lambda d: shlex.split(written_file(d))[1].removeprefix("XKBLAYOUT="), as_it_is),
    "user's key": (lambda t: {"users": [{"name": "a", "ssh_authorized_keys": [t]}]}, lambda d: config(d)["users"][1]["ssh_authorized_keys"][0], one_line),
    "certificate": (lambda t: {"certificates": [{"name": "a", "content": pem(t)}]}, written_file, lambda t: unix_lines(pem(t)) + "\n"),
    "certificate's name": (lambda t: {"certificates": [{"name": t, "content": pem("x")}]}, lambda d: config(d)["write_files"][0]["path"][15:-4], as_it_is),
    "trusted certificate": (lambda t: {"trusted_certificates": [{"name": "a", "content": pem(t)}]}, lambda d: config(d)["ca_certs"]["trusted"][0], lambda t: unix_lines(pem(t))),
    "every boot": (lambda t: {"run_every_boot": [escaped(t)]}, lambda d: command(d)[1], as_it_is),
    "mode": (lambda t: {"files": [{"path": "/a", "content": "", "mode": t}]}, lambda d: config(d)["write_files"][0]["permissions"], as_it_is),
    "part": (lambda t: {"user_data": [{"type": "text/x-shellscript", "content": escaped(t)}]}, lambda d: part(d).get_payload(decode=True).decode(), as_it_is),
    "part's type": (lambda t: {"user_data": [{"type": f"text/{t}", "content": "#x"}]}, lambda d: part(d).get_content_type()[5:], as_it_is),
    "user data": (lambda t: {"user_data": {"x": [escaped(t)]}}, lambda d: config(d)["x"][0], as_it_is),
    "user data's key": (lambda t: {"user_data": {"x": {t: 1}}}, lambda d: next(iter(config(d)["x"])), as_it_is),
}  # fmt: skip
TAKES_ALL = {"content", "plain content", "setting", "user data", "part"}
ODD = st.sampled_from(
    [
        "'",
        '"',
        "\\",
        "$(reboot)",
        "`",
        "\n",
        "\0",
        "\x1b",
        "\x85",
        "\u2028",
        "\ufeff",
        "😀",
        "{{",
        "}}",
        "#",
        ": ",
        "- ",
        "MIME-Version:",
        "%",
    ]
)
TEXTS = st.text(max_size=12) | st.lists(ODD | st.text(max_size=3), max_size=6).map("".join)


@pytest.mark.parametrize("field", FIELDS)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
@example("a")
@example("'; reboot; '")
@example("MIME-Version: 1.0")
def test_any_text_is_refused_or_reads_back_unchanged(field, text):
    make, find, written = FIELDS[field]
    disc = disc_of(make(text))
    assert disc is None or find(disc) == written(text)
    assert text != "a" or disc is not None or field in {"owner", "name server", "mode"}
    assert disc is not None or field not in TAKES_ALL or any("\ud800" <= char <= "\udfff" for char in text)


# The same of what a secret holds.
SECRETS: dict[str, tuple[object, Callable[[Disc], object]]] = {
    "password": (
        {"users": [{"name": "a", "password": SECRET}]},
        lambda d: config(d)["chpasswd"]["users"][0]["password"],
    ),
    "administrator": ({"administrator": {"password": SECRET}}, lambda d: config(d)["chpasswd"]["users"][0]["password"]),
    "hash": ({"users": [{"name": "a", "password_hash": SECRET}]}, lambda d: config(d)["users"][1]["hashed_passwd"]),
    "file": ({"files": [{"path": "/a", "secret": "env:A"}]}, written_file),
}


@pytest.mark.parametrize("field", SECRETS)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS)
@example("a")
@example("a: b\n")
@example("root:x\nother:y")
def test_any_secret_is_refused_or_reads_back_unchanged(field, text):
    setup, find = SECRETS[field]
    disc = disc_of(setup, text.encode())
    assert disc is None or find(disc) == (text if field == "file" else text.removesuffix("\n").removesuffix("\r"))
    assert disc is not None or field != "file"


# Each text that a setup can have → the field above that tries it; "-": Windows' (test_unattend.py tries those).
COVERED = {
    "hostname": "hostname", "timezone": "timezone", "locale": "locale", "keyboard": "keyboard",
    "users.name": "user", "users.full_name": "full name", "users.groups": "group", "users.shell": "shell",
    "users.password.secret": "password", "users.password_hash": "hash", "users.password_hash.secret": "hash",
    "users.ssh_authorized_keys": "user's key", "administrator.password.secret": "administrator",
    "ssh_authorized_keys": "key", "files.path": "path", "files.content": "content", "files.secret": "file",
    "files.mode": "mode", "files.owner": "owner", "packages": "package",
    "run.run": "line", "run.script": "script", "run.powershell": "-", "run.name": "name",
    "run_every_boot.run": "every boot", "run_every_boot.script": "script", "run_every_boot.powershell": "-",
    "run_every_boot.name": "name", "startup_tasks.run": "word", "startup_tasks.script": "script",
    "startup_tasks.powershell": "-", "startup_tasks.name": "name",
    "certificates.name": "certificate's name", "certificates.content": "certificate",
    "certificates.secret": "certificate", "certificates.password.secret": "-",
    "trusted_certificates.name": "certificate's name", "trusted_certificates.content": "trusted certificate",
    "trusted_certificates.secret": "trusted certificate", "ntp.servers": "time server", "dns.servers": "name server",
    "dns.search": "domain", "network": "-", "domain_join.domain": "-", "domain_join.user": "-",
    "domain_join.password.secret": "-", "domain_join.unit": "-", "license_key": "-", "license_key.secret": "-",
    "settings": "setting", "user_data": "user data", "unattend": "-",
}  # fmt: skip


def texts_of(form: type[BaseModel], path: str = "") -> set[str]:
    """The path of each field of a form, and of those in it, that a text can be in."""
    found: set[str] = set()
    for name, field in form.model_fields.items():
        found |= _texts_in(field.annotation, f"{path}.{name}".lstrip("."))
    return found


def _texts_in(kind: object, path: str) -> set[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return texts_of(kind, path)
    inner = [found for part in get_args(kind) for found in _texts_in(part, path)]
    return {path, *inner} if kind in {str, UserData} else set(inner)


def test_no_text_of_a_setup_is_forgotten():
    assert set(COVERED) == texts_of(SetupForm)
    assert set(COVERED.values()) <= {"-", *FIELDS, *SECRETS}
