# ruff: noqa: E501 - a table reads best with one field a line
"""Any text in any field of ``setup``: refused, or read back unchanged from the disc, as the guest reads it."""

import base64
import io
import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

import pycdlib
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.config.servicefile import parse
from orchestrator.drivers.seed import IsoSeeds
from orchestrator.engine.template import escaped
from orchestrator.errors import InvalidInput
from orchestrator.model.making import machine_spec
from orchestrator.model.spec import Platform
from orchestrator.model.vicinity import Vicinity
from orchestrator.render.cloudinit import LABEL, PUT, RUNNER_PATH, SETTINGS_PATH, seed
from orchestrator.render.commands import FUNCTIONS
from tests.fakes.build import DIGEST, record

AROUND = Vicinity("198.51.100.1", (("local", IPv4Network("198.18.0.0/24")),))
Disc = dict[str, str]


def disc_of(setup: object) -> Disc | None:
    """The disc of a service file with this setup, read by another program's eyes; None if it is refused."""
    file = {"service": "hello", "roles": {"web": {"image": "a", "setup": setup}}}
    try:
        (role,) = parse(yaml.safe_dump(file), "hello.yaml").roles
    except InvalidInput:
        return None
    around = replace(AROUND, settings=role.setup.settings)
    made = seed(record(machine=machine_spec(role, DIGEST, Platform())), around, lambda _secret: b"x")
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


def as_it_is(text: str) -> str:
    return text


def one_line(text: str) -> str:
    """Spaces around a line are not part of it."""
    return text.strip()


def nic(disc: Disc) -> dict:
    return json.loads(disc["network-config"])["ethernets"]["nic0"]


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
    "user data": (lambda t: {"user_data": {"x": [escaped(t)]}}, lambda d: config(d)["x"][0], as_it_is),
    "user data's key": (lambda t: {"user_data": {"x": {t: 1}}}, lambda d: next(iter(config(d)["x"])), as_it_is),
}  # fmt: skip
TAKES_ALL = {"content", "plain content", "setting", "user data"}
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
    assert text != "a" or disc is not None or field in {"owner", "name server"}
    assert disc is not None or field not in TAKES_ALL or any("\ud800" <= char <= "\udfff" for char in text)
