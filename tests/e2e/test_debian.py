"""examples/hello.yaml on the ordinary image: systemd, cloud-init, nginx. Once, as it takes a minute."""

import re
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import ROOT, fetch, write

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def debian(shared_lab):
    shared_lab.ok("image", "build", "debian-12", timeout=900)
    yield shared_lab
    shared_lab.forget_all()
    assert shared_lab.remains() == []


def test_the_example_runs_and_a_failed_unit_is_named(debian, tmp_path):
    value = yaml.safe_load(Path(ROOT / "examples/hello.yaml").read_text())
    web = value["roles"]["web"]
    web["setup"] = {"run": ["echo from setup > /root/setup"]}
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
