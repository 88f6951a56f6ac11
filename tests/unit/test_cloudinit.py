"""The answer file: what the user asked for and nothing else, whatever characters are in it."""

import base64
import email
import json
import shlex
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.runtime import LINUX_PATH
from orchestrator.engine.template import escaped
from orchestrator.errors import Refused
from orchestrator.model.making import MachineSpec
from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Certificate, Command, File, Setup, User
from orchestrator.model.spec import Disk, DiskKind, Size
from orchestrator.model.vicinity import Vicinity
from orchestrator.render.cloudconfig import json_in_yaml, merged
from orchestrator.render.cloudinit import PUT, RUNNER_PATH, SETTINGS_PATH, Seed, seed
from orchestrator.render.disks import mount_argv
from orchestrator.render.keeping import keep_argv
from tests.fakes.build import DIGEST, record

DATA = Disk("data", DiskKind.VOLUME, 64, "/srv/data", "app:app", "0750")
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
KEY = "-----BEGIN RSA PRIVATE KEY-----\nBBBB\n-----END RSA PRIVATE KEY-----"
AROUND = Vicinity("198.51.100.1", (("local", IPv4Network("198.18.0.0/24")),))
HIDDEN = {
    "file:/pw": b"s3cret: {}\n",
    "env:H": b"$6$a$b\n",
    "store:k": b"\0\xff",
    "file:/pem": (PEM + "\n" + KEY).encode(),
}


def reveal(secret: SecretRef) -> bytes:
    return HIDDEN[secret.source]


def never(secret: SecretRef) -> bytes:
    raise AssertionError(f"nobody may ask for {secret}")


def made(setup: Setup, *disks: Disk, reveal=never, around: Vicinity = AROUND) -> Seed:
    return seed(record(machine=MachineSpec(DIGEST, Size(), setup, disks)), around, reveal)


def config(setup: Setup, *disks: Disk, reveal=never) -> dict:
    text = made(setup, *disks, reveal=reveal).user_data
    assert text.startswith("#cloud-config\n")
    found = yaml.safe_load(text)
    assert found == json.loads(text.split("\n", 1)[1])
    return found


def put(text: str) -> dict[str, tuple[str, bytes]]:
    """What a boothook writes: path → its mode and content."""
    words = shlex.split(text.split(PUT)[1])
    calls = [words[at + 1 : at + 4] for at, word in enumerate(words) if word == "put"]
    return {path: (mode, base64.b64decode(content.rstrip(";"))) for path, mode, content in calls}


def written(found: dict) -> dict[str, bytes]:
    return {entry["path"]: base64.b64decode(entry["content"]) for entry in found["write_files"]}


def test_a_new_generation_is_a_new_instance_to_cloud_init():
    one, two = (json.loads(seed(record(generation=n), AROUND, never).meta_data)["instance-id"] for n in (1, 2))
    assert one != two


def test_the_guest_is_named_and_its_one_card_is_found_by_its_address():
    found = made(Setup())
    assert json.loads(found.meta_data)["local-hostname"] == "web-0"
    (nic,) = json.loads(found.network_config)["ethernets"].values()
    assert (nic["match"]["macaddress"], nic["dhcp4"]) == (record().id.mac, True)


def test_a_host_name_is_a_pattern():
    assert json.loads(made(Setup(hostname="{{role}}{{ordinal}}.x")).meta_data)["local-hostname"] == "web0.x"


def test_an_empty_setup_asks_for_nothing():
    assert config(Setup()) == {}
    assert set(made(Setup()).files()) == {"meta-data", "user-data", "network-config", "vendor-data"}
    # What every guest does: it keeps its answer file, as the disc is taken away; and it has its runtime file.
    keep, told = made(Setup()).vendor_data.split(PUT)[1].rstrip("\n").rsplit("\n", 1)
    assert shlex.split(keep) == keep_argv()
    assert told.startswith("is_told hello.production.web-0.g1 || { put /etc/vmrole/settings.json 600 ")


def test_what_is_ours_is_apart_from_what_is_the_users():
    found = made(Setup(commands=(Command("theirs"),), settings=(("A", "b"),)), DATA)
    assert set(found.files()) == {"meta-data", "user-data", "network-config", "vendor-data"}
    assert found.vendor_data.startswith("#cloud-boothook\n#!/bin/sh\n")
    assert yaml.safe_load(found.user_data) == {}


@given(st.text())
def test_a_files_content_arrives_byte_for_byte(content):
    (entry,) = config(Setup(files=(File("/etc/x", content, is_template=False),)))["write_files"]
    assert base64.b64decode(entry["content"]).decode() == content


def test_a_file_that_is_no_text_arrives_as_it_is():
    data = bytes(range(256))
    file = File("/x", base64.b64encode(data).decode(), is_base64=True)
    assert written(config(Setup(files=(file, File("/y", SecretRef("store:k")))), reveal=reveal)) == {
        "/x": data,
        "/y": b"\0\xff",
    }


def test_a_file_of_another_owner_waits_until_there_are_users():
    found = config(Setup(files=(File("/a", ""), File("/b", "", owner="app:app"))))["write_files"]
    assert [entry.get("defer") for entry in found] == [None, True]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30))
def test_every_text_of_the_users_reads_back_unchanged_from_yaml(text):
    """As PyYAML reads it, which is what cloud-init does."""
    theirs = json.dumps({"a": escaped(text), "b": [escaped(text)]})
    setup = Setup(user_data=theirs, ssh_authorized_keys=(text,), users=(User("u", full_name=text, password_hash=text),))
    found = config(setup)
    assert (found["a"], found["b"], found["ssh_authorized_keys"]) == (text, [text], [text])
    assert (found["users"][1].get("gecos", ""), found["users"][1].get("hashed_passwd", "")) == (text, text)


@pytest.mark.parametrize("text", ["MIME-Version: 1.0", "mime-version:", "x\nMime-Version: 1"])
def test_no_text_makes_cloud_init_take_a_cloud_config_for_mime(text):
    """It looks for this anywhere in the first 4096 bytes."""
    rendered = json_in_yaml({"a": text})
    assert "mime-version:" not in rendered.lower()
    assert yaml.safe_load(rendered) == {"a": text}


def test_settings_are_a_file_that_only_root_reads():
    around = replace(AROUND, settings=(("KEY", "s3cret: {}"), ("N", "{{instance}}")))
    found = put(made(Setup(), around=around).vendor_data)
    mode, content = found[SETTINGS_PATH]
    assert (set(found), mode) == ({SETTINGS_PATH, LINUX_PATH}, "600")
    assert json.loads(content) == {"KEY": "s3cret: {}", "N": "web-0"}
    mode, content = found[LINUX_PATH]
    assert (json.loads(content)["settings"], mode) == ({"KEY": "s3cret: {}", "N": "web-0"}, "644")


def test_disks_are_there_before_anything_of_the_users_runs():
    """A boothook is run before every module of cloud-init's, bootcmd too."""
    found = made(Setup(commands=(Command("ours"),)), DATA).vendor_data
    first, *_others = found.split(PUT)[1].splitlines()
    assert first.startswith("sh -c ")
    assert shlex.join(mount_argv((DATA,))) in found


@pytest.mark.real
def test_the_boothook_writes_what_it_says(tmp_path):
    text = made(Setup(commands=(Command("x"),)), around=replace(AROUND, settings=(("A", "b"),))).vendor_data
    script = text.removeprefix("#cloud-boothook\n").replace("put /", f"put {shlex.quote(str(tmp_path))}/")
    script = script.replace(f"head -n 3 {LINUX_PATH}", f"head -n 3 {shlex.quote(str(tmp_path))}{LINUX_PATH}")
    settings, runner = tmp_path / SETTINGS_PATH[1:], tmp_path / RUNNER_PATH[1:]
    (tmp_path / "etc/vmrole").mkdir(parents=True)
    for left in ("", '{\n "revision": "0",\n "machine": "hello.production.web-0.g7",\n'):
        (tmp_path / LINUX_PATH[1:]).write_text(left)
        subprocess.run(["sh", "-c", script], check=True, timeout=10)
        assert json.loads((tmp_path / LINUX_PATH[1:]).read_text())["machine"] == "hello.production.web-0.g1"
    # What it was told since then is newer, and stays.
    settings.write_text("{}")
    subprocess.run(["sh", "-c", script], check=True, timeout=10)
    assert settings.read_text() == "{}"
    (tmp_path / LINUX_PATH[1:]).unlink()
    subprocess.run(["sh", "-c", script], check=True, timeout=10)
    assert (settings.stat().st_mode & 0o777, json.loads(settings.read_text())) == (0o600, {"A": "b"})
    assert (runner.stat().st_mode & 0o777, runner.read_bytes()) == (0o700, put(text)[RUNNER_PATH][1])


def test_a_larger_disk_needs_no_other_answer_file():
    assert made(Setup(), DATA) == made(Setup(), replace(DATA, size_mib=128))


def test_accounts_in_cloud_inits_words():
    user = User("app", ("adm", "x"), SecretRef("file:/pw"), "", ("key",), is_admin=True, shell="/bin/sh", full_name="A")
    found = config(
        Setup(users=(user, User("b", password_hash=SecretRef("env:H"))), administrator_password=SecretRef("file:/pw")),
        reveal=reveal,
    )
    app, other = found["users"][1:]
    assert found["users"][0] == "default"
    assert app == {
        "name": "app", "gecos": "A", "groups": "adm,x", "shell": "/bin/sh", "ssh_authorized_keys": ["key"],
        "sudo": "ALL=(ALL) NOPASSWD:ALL", "lock_passwd": False,
    }  # fmt: skip
    assert other == {"name": "b", "hashed_passwd": "$6$a$b", "lock_passwd": False}
    words = [{"name": name, "type": "text", "password": "s3cret: {}"} for name in ("root", "app")]
    assert found["chpasswd"] == {"expire": False, "users": words}


@pytest.mark.parametrize("secret", [b"", b"\n", b"a\nb", b"a\0", b"\xff"])
def test_a_password_that_is_no_line_is_refused(secret):
    setup = Setup(administrator_password=SecretRef("store:x"))
    with pytest.raises(Refused, match=r"password of root \(store:x\)") as told:
        made(setup, reveal=lambda _ref: secret)
    assert "\xff" not in str(told.value)


def test_the_system_in_cloud_inits_words():
    found = config(
        Setup(timezone="Europe/Berlin", locale="de_DE.UTF-8", keyboard="de", packages=("vim",), ntp_servers=("t",))
    )
    files = written(found)
    assert found.pop("write_files")
    assert found == {
        "timezone": "Europe/Berlin", "locale": "de_DE.UTF-8", "packages": ["vim"], "package_update": True,
        "ntp": {"enabled": True, "servers": ["t"]},
    }  # fmt: skip
    assert files["/etc/locale.gen"] == b"\nde_DE.UTF-8 UTF-8\n"
    assert b'XKBLAYOUT="de"\n' in files["/etc/default/keyboard"]


def test_certificates_are_files_and_roots_are_trusted():
    own, root = Certificate("web", SecretRef("file:/pem")), Certificate("ca", f"{PEM}\n{PEM}\n", is_root=True)
    found = config(Setup(certificates=(own, root)), reveal=reveal)
    assert found["ca_certs"] == {"trusted": [PEM, PEM]}
    modes = {entry["path"]: entry["permissions"] for entry in found["write_files"]}
    assert written(found) == {
        "/etc/ssl/certs/web.pem": f"{PEM}\n".encode(),
        "/etc/ssl/private/web.key": f"{KEY}\n".encode(),
    }
    assert modes["/etc/ssl/private/web.key"] == "0600"


def test_a_secret_that_is_no_certificate_is_refused():
    with pytest.raises(Refused, match=r"certificate web \(file:/pw\) holds no certificate"):
        made(Setup(certificates=(Certificate("web", SecretRef("file:/pw")),)), reveal=reveal)


def nic(setup: Setup) -> dict:
    return json.loads(made(setup).network_config)["ethernets"]["nic0"]


def test_names_are_asked_of_others_when_they_are_given():
    found = nic(Setup(dns_servers=("192.0.2.1",), dns_search=("x.org",)))
    assert found["nameservers"] == {"addresses": ["192.0.2.1"], "search": ["x.org"]}
    assert found["dhcp4-overrides"] == {"use-domains": True, "use-dns": False}


def test_a_static_network_is_what_dhcp_would_have_said():
    found = nic(Setup(is_static=True))
    assert "dhcp4" not in found
    assert found["accept-ra"] is False
    assert (found["addresses"], found["routes"]) == (["198.18.0.10/24"], [{"to": "0.0.0.0/0", "via": "198.18.0.1"}])
    assert found["nameservers"] == {"addresses": ["198.18.0.1"], "search": ["hello.internal"]}


def test_no_network_no_static_address():
    with pytest.raises(Refused, match="no network on host local"):
        made(Setup(is_static=True), around=Vicinity())


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=50))
def test_parts_of_the_users_arrive_as_they_are(text):
    parts = (("text/x-shellscript", "#!/bin/sh\n" + escaped(text)), ("text/cloud-boothook", escaped(text)))
    message = email.message_from_string(made(Setup(timezone="UTC", user_parts=parts)).user_data)
    found = [
        (part.get_content_type(), part.get_payload(decode=True).decode())
        for part in message.walk()
        if not part.is_multipart()
    ]
    assert message["MIME-Version"] == "1.0"
    assert yaml.safe_load(found[0][1]) == {"timezone": "UTC"}
    assert found[1:] == [("text/x-shellscript", "#!/bin/sh\n" + text), ("text/cloud-boothook", text)]


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        ({"a": [1]}, {"a": [2]}, {"a": [1, 2]}),
        ({"a": [1]}, {"a": "x"}, {"a": "x"}),
        ({"a": [1]}, {"b": 2}, {"a": [1], "b": 2}),
        ({"a": []}, {}, {}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": {"b": [1], "c": 1}}, {"a": {"b": [2], "c": 2}}, {"a": {"b": [1, 2], "c": 2}}),
    ],
)
def test_the_users_own_cloud_config_is_merged(ours, theirs, both):
    assert merged(ours, json.dumps(theirs)) == both


def test_nothing_of_ours_is_changed_by_a_merge():
    ours = {"a": [1]}
    merged(ours, '{"a": [2]}')
    assert ours == {"a": [1]}
