"""The whole life of a Windows with secrets, as far as it goes without one.

The image is a Linux of ours whose agent runs a stand-in by PowerShell's path: it answers looks, and takes the runtime
file. All else is real: the answer disc, the disc of drivers, the machine's definition, ejecting, deleting, reimaging.
"""

import base64
import json
import os
import shlex
from pathlib import Path

import pytest

from orchestrator.drivers.seed import IsoSeeds
from orchestrator.drivers.winguest import COME, POWERSHELL
from tests.e2e.conftest import CACHE, eventually, service, write
from tests.e2e.test_secrets import SEED_S, Watch, memory_of_processes, searched, seeds, spellings
from tests.unit.test_winready import answer

pytestmark = pytest.mark.vm

# The runtime file that came is taken as it is; a look's answer says which it has.
STAND_IN = f"""#!/bin/sh
[ "$5" = -EncodedCommand ] || exit 2
case $(echo "$6" | base64 -d | tr -d '\\0') in
*Win32_Service*) jq -cn --argjson had {shlex.quote(json.dumps(answer(uptime=20.5)))} \\
    --arg boot "$(cat /proc/sys/kernel/random/boot_id)" \\
    --arg told "$(head -n 2 /tmp/told 2>/dev/null | tr '\\n' ' ')" '$had + {{boot: $boot, told: $told}}' ;;
*runtime.come*) cp {shlex.quote(COME)} /tmp/told ;;
esac
"""
KINDS = ("administrator", "user", "join", "file", "key", "pkcs12")


@pytest.fixture
def stand_in(lab, tmp_path):
    """An image that says that it is Windows, with a disc of drivers."""
    encoded = base64.b64encode(STAND_IN.encode()).decode()
    there = shlex.quote(f"/usr/bin/{POWERSHELL}")
    lab.ok("image", "customize", "tiny", "--memory", "128MiB", "--as", "stand-in:1",
           "--run", f"echo {encoded} | base64 -d >{there} && chmod 755 {there}")  # fmt: skip
    (tmp_path / "drivers.iso").write_bytes(IsoSeeds().disc("DRIVERS", {"readme.txt": b"none"}))
    lab.ok("image", "add", "drivers:1", str(tmp_path / "drivers.iso"))
    lab.ok("image", "set", "stand-in", "--os", "windows", "--firmware", "bios", "--virtio", "--drivers", "drivers")
    yield
    lab.forget_all()
    refused = lab.run("image", "rm", "drivers")
    assert (refused.code != 0, "its drivers" in refused.err) == (True, True)
    lab.ok("image", "rm", "stand-in")
    lab.ok("image", "rm", "drivers")


def asked(folder, values):
    """A service with a secret in each place of a Windows' setup that may have one."""
    for kind, value in values.items():
        (folder / f"{kind}.secret").write_text(value)
    secret = {kind: {"secret": f"file:{kind}.secret"} for kind in KINDS}
    setup = {
        "administrator": {"password": secret["administrator"]},
        "users": [{"name": "app", "password": secret["user"]}],
        "domain_join": {"domain": "example.org", "user": "joiner", "password": secret["join"]},
        "files": [{"path": "/app/key", **secret["file"], "mode": "0600"}],
        "certificates": [{"name": "web", **secret["key"], "password": secret["pkcs12"]}],
    }
    disks = {"volumes": {"data": {"size": "128MiB", "mount": "D:\\"}}}
    return write(
        folder / "win.yaml",
        service("win", image="stand-in", endpoints={}, setup=setup, ready={"timeout": "2m"}, **disks),
    )


def wide(value):
    """As the answer file has a password: UTF-16 in base64, whatever stands behind it."""
    return base64.b64encode(value.encode("utf-16-le"))[:-4]


def is_in(value, data):
    return wide(value) in data or any(spelling in data for spelling in spellings(value))


def discs(lab):
    """What is in the machine's drives."""
    domain = lab.instance("win", "web-0")["domain"]
    rows = [row.split(None, 3) for row in lab.virsh("domblklist", domain, "--details").splitlines()]
    return [row[3] for row in rows if row[1] == "cdrom"]


@pytest.mark.usefixtures("stand_in")
def test_no_secret_of_a_windows_is_anywhere_but_on_its_disc(lab, tmp_path, capsys):
    folder = tmp_path / "service"
    folder.mkdir()
    # The first letter is what PKCS #12 begins with.
    values = {kind: f"0canary-{kind}-{os.urandom(12).hex()}" for kind in KINDS}
    file = asked(folder, values)
    with Watch(lab) as watch:
        going = lab.start("-vv", "up", file)
        seed = eventually(lambda: next(iter(lab.home.rglob("*.seed.iso")), None), "the disc is there", 60)
        data = eventually(lambda: (d := seed.read_bytes()) and is_in(values["pkcs12"], d) and d, "it is whole", 5)
        assert {kind for kind, value in values.items() if not is_in(value, data)} == set()
        drives = eventually(lambda: lab.run("status", "win").code == 0 and discs(lab), "the machine is there", 20)
        assert [Path(drive).suffix for drive in drives] == [".iso", ".qcow2"]
        assert memory_of_processes(list(values.values())) == []
        out, err = going.communicate(timeout=120)
        assert going.returncode == 0, err
        eventually(lambda: seed.name in watch.gone, "the disc is gone", SEED_S)
    late = watch.gone[seed.name] - lab.instance("win", "web-0")["timeline"]["services"]
    assert late <= SEED_S
    assert {mode for mode, _uid in watch.seen[seed.name]} == {"0o600"}
    assert (discs(lab), seeds(lab)) == (["-", "-"], [])
    check_said(lab, values, [out, err])
    lab.ok("reimage", "win/web-0")
    assert lab.instance("win", "web-0")["generation"] == 2
    assert (discs(lab), seeds(lab)) == (["-", "-"], []), lab.ok("events", "win").out
    check_said(lab, values, [])
    with capsys.disabled():
        print(f"\nthe discs were gone {late:.2f} s after ready")


def check_said(lab, values, said):
    """No word, no file and no process of ours has one of the values."""
    said += [lab.ok(*words).out for words in (
        ("status", "win"), ("status", "win", "--json"), ("events", "win"), ("image", "ls", "--json"), ("ls", "--json"),
    )]  # fmt: skip
    domain = lab.instance("win", "web-0")["domain"]
    said += [lab.virsh("dumpxml", *kind, "--security-info", domain) for kind in ((), ("--inactive",))]
    assert [(n, v) for n, text in enumerate(said) for v in values.values() if is_in(v, text.encode())] == []
    hits = searched([lab.home, Path("/tmp"), Path("/var/log"), CACHE / "images"], list(values.values()))
    assert [hit for hit in hits if not hit[0].endswith(".secret")] == []
    assert memory_of_processes(list(values.values())) == []
