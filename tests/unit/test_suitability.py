"""What only Windows can do is refused on Linux; and cloud-init's own schema is heard where there is one."""

import json
import os
from pathlib import Path

import pytest

from orchestrator.drivers.cloudconfig import schema_problems
from orchestrator.engine.suitability import not_on_linux, unfit_for_linux
from orchestrator.engine.windows import unfit
from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Certificate, Command, Join, Setup, Shell, User, When
from orchestrator.model.spec import WINDOWS, Platform, Ready
from tests.fakes.build import deployment, role, service

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def test_what_needs_windows_is_told_with_its_place():
    shells = [Command("a"), Command("b", shell=Shell.POWERSHELL), Command("c", When.START_UP, Shell.POWERSHELL)]
    certificates = (
        Certificate("a", PEM),
        Certificate("b", "/w=="),
        Certificate("c", SecretRef("file:x")),
        Certificate("d", PEM, password=SecretRef("env:P")),
        Certificate("e", PEM, is_root=True),
    )
    found = list(not_on_linux(Setup(commands=tuple(shells), certificates=certificates)))
    assert [path for path, _message in found] == [
        ("run", 1),
        ("startup_tasks", 0),
        ("certificates", 1),
        ("certificates", 3),
    ]


def test_accounts_that_only_windows_can_have_are_told_with_their_place():
    users = (User("app", ("adm", "50")), User("Test User", ("Remote Desktop Users",)))
    assert [path for path, _message in not_on_linux(Setup(users=users))] == [
        ("users", 1, "name"), ("users", 1, "groups", 0),
    ]  # fmt: skip


NAMES = {
    "nginx": "",
    "foo@bar.service": "",
    r"dev-disk-by\x2dlabel-data.mount": "windows",
    "-.mount": "",
    "net.eth0": "",
    "g++d": "",
    "a:b_c.socket": "",
    "Windows Audio": "linux",
    "Sp\u00f6\u00f6ler$": "linux",
    "-f": "linux",
    ".hidden": "linux",
    "..": "linux",
    "a/b": "linux windows",
    "a;b": "linux",
    "*": "linux",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_service_of_the_image_can_have_is_refused_with_its_place(name):
    web = role(ready=Ready(services=("ok", name)))
    wanted = {system: [("ready", "services", 1)] if system in NAMES[name] else [] for system in ("linux", "windows")}
    assert [path for path, _why in unfit_for_linux(web)] == wanted["linux"]
    record = deployment(service(web), platforms={"web": Platform(WINDOWS)})
    found = [path for path, _why in unfit(record, lambda _setup: iter(())) if "ready" in path]
    assert found == [("roles", "web", *path) for path in wanted["windows"]]


def test_nothing_else_is():
    assert list(not_on_linux(Setup(commands=(Command("a"),), packages=("x",), timezone="UTC"))) == []


# In place of a cloud-init that is not installed where tests run; e2e asks the real one, in a guest.
PROGRAM = """\
#!/usr/bin/python3
import json, sys
first, rest = open(sys.argv[-1]).read().split("\\n", 1)
assert sys.argv[1:3] == ["schema", "--config-file"] and first == "#cloud-config"
wrong = [key for key in json.loads(rest) if key != "packages"]
print(f"Error:\\nCloud config schema errors: {wrong[0]}: \\x1b[1mnot one" if wrong else "Valid cloud-config")
sys.exit(bool(wrong))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch):
    (tmp_path / "cloud-init").write_text(PROGRAM)
    (tmp_path / "cloud-init").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


@pytest.mark.real
@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("config", "told"), [({"packages": ["ä"]}, ()), ({"pakages": 1}, ("Cloud config schema errors: pakages: not one",))]
)
def test_what_the_schema_says(config, told):
    assert schema_problems(json.dumps(config, ensure_ascii=False)) == told


@pytest.mark.real
def test_without_cloud_init_nothing_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert schema_problems("{}") == ()


def test_what_only_windows_has_is_told_by_its_field():
    join = Join("corp.example.org", "joiner", SecretRef("env:JOIN"))
    setup = Setup(join=join, license_key=SecretRef("env:KEY"), unattend="<unattend/>")
    found = dict(not_on_linux(setup))
    assert set(found) == {("domain_join",), ("license_key",), ("unattend",)}
    assert all("the image is no Windows" in message for message in found.values())
