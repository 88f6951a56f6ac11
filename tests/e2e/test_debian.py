"""examples/hello.yaml on the ordinary image: systemd, cloud-init, nginx. Once, as it takes a minute."""

import re
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import ROOT, fetch, write

pytestmark = pytest.mark.vm

DISKS = {
    "local_storage": {
        "cache": {"size": "64MiB", "mount": "/var/cache/app"},
        "temp": {"size": "64MiB", "mount": "/var/temp", "clean_on_reimage": True},
    },
    "volumes": {"data": {"size": "64MiB", "mount": "/srv", "owner": "app:app", "mode": "0750"}},
}
PLACES = {"overlay": "/root", "cache": "/var/cache/app", "temp": "/var/temp", "data": "/srv"}


@pytest.fixture(scope="module")
def debian(shared_lab):
    shared_lab.ok("image", "build", "debian-12", timeout=900)
    yield shared_lab
    shared_lab.forget_all()
    assert shared_lab.remains() == []


def test_the_example_runs_and_a_failed_unit_is_named(debian, tmp_path):
    value = yaml.safe_load(Path(ROOT / "examples/hello.yaml").read_text())
    web = value["roles"]["web"]
    web["setup"] = {
        "run": ["echo from setup > /root/setup"],
        # A user that is only made by setup, after the disks have been mounted.
        "user_data": {"users": ["default", {"name": "app", "system": True}]},
    }
    web |= DISKS
    unit = "[Service]\nExecStart=/bin/sh -c 'echo no such database; exit 3'\n[Install]\nWantedBy=multi-user.target\n"
    value["roles"]["bad"] = {
        "image": "debian-12",
        "size": {"vcpus": 1, "memory": "512MiB"},
        "setup": {
            "files": [{"path": "/etc/systemd/system/broken.service", "content": unit}],
            "run": ["systemctl daemon-reload", "systemctl enable broken", "systemctl start --no-block broken"],
        },
    }
    web["instances"] = 1
    done = debian.run("up", write(tmp_path / "hello.yaml", value), timeout=420)

    assert done.code == 1
    assert "bad-0: failed at services: services failed: broken.service" in done.err
    assert "no such database" in done.err
    status = debian.status("hello")
    assert {i["name"]: i["in_rotation"] for i in status["instances"]} == {"bad-0": False, "web-0": True}
    assert fetch(f"http://{status['vip']}/") == "web-0 generation 1 of hello (production)\n"

    def inside(*argv):
        return debian.ok("exec", "hello/web-0", "--", *argv).out

    assert inside("systemctl", "is-system-running") == "running\n"
    assert inside("cat", "/root/setup") == "from setup\n"
    # Names of other instances resolve to their DIPs, by DNS.
    dip = next(i["dip"] for i in status["instances"] if i["name"] == "bad-0")
    assert re.search(rf"^{re.escape(dip)}\s", inside("getent", "hosts", "bad-0"))
    check_every_act(debian, tmp_path, value)


def check_every_act(debian, tmp_path, value):
    """The contract's table, once on an ordinary image."""
    del value["roles"]["bad"]
    file = write(tmp_path / "hello.yaml", value)
    debian.ok("up", file)
    assert debian.ok("exec", "hello/web-0", "--", "stat", "-c", "%U:%G %a", "/srv").out == "app:app 750\n"
    script = "; ".join(f"echo first > {place}/marker" for place in PLACES.values())
    debian.ok("exec", "hello/web-0", "--", "sh", "-c", f"{script}; sync")

    debian.ok("reboot", "hello/web-0")
    assert marks(debian) == dict.fromkeys(PLACES, "first")
    assert debian.instance("hello", "web-0")["boot"] == 2
    # From its second boot on the disks are mounted by systemd, before the services.
    assert debian.ok("exec", "hello/web-0", "--", "systemctl", "is-active", "srv.mount").out == "active\n"
    debian.ok("reimage", "hello/web-0")
    assert marks(debian) == {"overlay": "", "cache": "first", "temp": "", "data": "first"}
    debian.ok("undo-reimage", "hello/web-0")
    assert marks(debian) == dict.fromkeys(PLACES, "first")
    debian.ok("relocate", "hello/web-0", "--same-host", "--yes")
    assert marks(debian) == {"overlay": "", "cache": "", "temp": "", "data": "first"}
    assert debian.ok("exec", "hello/web-0", "--", "systemctl", "is-system-running").out == "running\n"
    assert "fault" not in debian.ok("events", "hello").out


def marks(debian):
    script = "; ".join(f"echo {disk} $(cat {place}/marker 2>/dev/null)" for disk, place in PLACES.items())
    rows = debian.ok("exec", "hello/web-0", "--", "sh", "-c", script).out.splitlines()
    return {row.partition(" ")[0]: row.partition(" ")[2] for row in rows}
