"""An upgrade of four real guests under load: a good image without a failed request, a bad one, and the way back.

The images are tiny with one file changed in them, from outside, which needs no machine to be booted for it.
"""

import json
import subprocess
import threading
import time

import pytest

from tests.e2e.conftest import PATIENCE, fetch, service, write
from tests.e2e.test_traffic import Hey

pytestmark = pytest.mark.vm

PARTITION = 1024 * 1024  # where the one file system of the image begins
UPGRADE = {"domains": 2, "max_unavailable": 2, "min_ready": "2s"}
SETUP = {"run": ["test ! -e /etc/broken"]}
READY = {"timeout": f"{150 * PATIENCE:.0f}s"}


def image(lab, folder, name, path, text):
    """A copy of tiny with one more file."""
    disk, file = folder / f"{name}.raw", folder / f"{name}.file"
    lab.ok("image", "export", "tiny", str(disk), "--format", "raw")
    file.write_text(text)
    lines = f"write {file} {path}\n"
    where = f"{disk}?offset={PARTITION}"
    subprocess.run(["debugfs", "-w", "-f", "-", where], input=lines, text=True, check=True, capture_output=True)
    lab.ok("image", "add", name, str(disk), timeout=120)
    disk.unlink()


class Asking:
    """Somebody who asks for the page all the time, each time by a connection of its own."""

    def __init__(self, url):
        self.url, self.answers, self.failures = url, 0, []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._over.set()
        self._thread.join()

    def _ask(self):
        until = time.monotonic() + 240 * PATIENCE
        while not self._over.wait(0.1) and time.monotonic() < until:
            if fetch(self.url, timeout=10):
                self.answers += 1
            else:
                self.failures.append(time.time())


def digests(lab):
    return [found["digest"] for found in lab.status("up")["instances"]]


def told(lab):
    return json.loads(lab.ok("upgrade", "status", "up", "--json").out)


def test_a_good_image_costs_no_request_and_a_bad_one_stops_and_is_taken_back(lab, tmp_path):
    image(lab, tmp_path, "newer", "/etc/edition", "second")
    image(lab, tmp_path, "broken", "/etc/broken", "its setup fails")
    path = tmp_path / "up.yaml"

    def file(name):
        return write(path, service("up", image=name, instances=4, upgrade=UPGRADE, setup=SETUP, ready=READY))

    lab.ok("up", file("tiny"))
    old = digests(lab)[0]
    url = f"http://{lab.status('up')['vip']}/"
    hey = Hey(url)
    lab.ok("up", file("newer"))
    load = hey.stop()
    assert (load.failed, load.errors, load.asked > 100) == (0, "", True)
    new = lab.status("up")
    check_upgraded(lab, new)
    with Asking(url) as asking:
        check_a_bad_image_stops(lab, file("broken"))
        check_rollback(lab, new)
    assert (asking.failures, asking.answers > 100) == ([], True)
    assert old not in digests(lab)


def check_upgraded(lab, status):
    assert [i["generation"] for i in status["instances"]] == [2] * 4
    assert len({i["digest"] for i in status["instances"]}) == 1
    assert lab.ok("exec", "up/web-3", "--", "cat", "/etc/edition").out == "second"
    assert told(lab)["upgrade"] is None
    begun = {i["name"]: i["timeline"]["requested"] for i in status["instances"]}
    ready = {i["name"]: i["timeline"]["rotation"] for i in status["instances"]}
    # The second domain began when the first had been in rotation for min_ready.
    assert min(begun["web-1"], begun["web-3"]) >= max(ready["web-0"], ready["web-2"]) + 2


def check_a_bad_image_stops(lab, file):
    done = lab.run("up", file)
    assert done.code == 1
    assert "has stopped: web-" in done.err
    assert "did not get healthy in its time, at setup: " in done.err
    assert "setup failed: " in done.err
    assert "vmrole upgrade rollback up" in done.err
    found = told(lab)
    assert found["upgrade"]["stopped"]["stage"] == "setup"
    assert [i["upgrade"] for i in found["instances"]] == ["new", "new", "waits", "waits"]
    assert [i["in_rotation"] for i in lab.status("up")["instances"]] == [False, True, False, True]


def check_rollback(lab, before):
    kept = [i["generation"] for i in before["instances"]]
    lab.ok("upgrade", "rollback", "up")
    after = lab.status("up")
    assert after["state"] == "ready"
    assert [i["digest"] for i in after["instances"]] == [i["digest"] for i in before["instances"]]
    # Everybody has the machine from before: those that were upgraded their overlay, the others were not touched.
    assert [i["generation"] for i in after["instances"]] == kept
    assert [after["instances"][n]["timeline"] for n in (1, 3)] == [before["instances"][n]["timeline"] for n in (1, 3)]
