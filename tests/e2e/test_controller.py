"""`vmrole controller`: commands say what they want and watch; that it ends, dies or lets go loses nothing."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time

import pytest

from .conftest import eventually, fetch, service, write

pytestmark = pytest.mark.vm


@contextlib.contextmanager
def controller(lab, tmp_path, *options):
    """A controller that has said that it is ready, and its log; it is ended as systemd would."""
    address, log = tmp_path / "notify", tmp_path / "controller.log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link, log.open("a") as file:
        address.unlink(missing_ok=True)
        link.bind(str(address))
        link.settimeout(60)
        process = subprocess.Popen(
            [str(lab.program), *options, "controller"], env={**lab.env, "NOTIFY_SOCKET": str(address)}, stderr=file
        )
        try:
            while "READY=1" not in link.recv(4096).decode().splitlines():
                pass
            link.setblocking(False)
            yield process, log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def qemu(lab):
    return lab.inside("pgrep", "-x", "qemu-system-x86").out.strip()


def events(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_commands_want_and_watch_and_the_controller_does(lab, tmp_path):
    file = write(tmp_path / "watched.yaml", service("watched", volumes={"data": {"size": "16MiB", "mount": "/srv"}}))
    with controller(lab, tmp_path, "--log", "json") as (process, log):
        done = lab.ok("up", file)
        assert f"the controller, process {process.pid} runs the loop of this home: watching it" in done.err
        vip = lab.status("watched")["vip"]
        assert "watched" in fetch(f"http://{vip}/")
        second = lab.run("controller")
        assert (second.code, "runs on this home already" in second.err) == (75, True), second
        assert "begins" not in second.err
        # What needs to be alone gets its turn, and the controller goes on afterwards.
        lab.ok("volume", "snapshot", "watched/web-0/data", "first")
        pid = qemu(lab)
        begun = time.monotonic()
        lab.inside("kill", "-9", pid)
        eventually(lambda: qemu(lab) not in {"", pid}, "another QEMU runs")
        eventually(lambda: fetch(f"http://{vip}/", 1), "the instance is back", 60)
        print(f"\nQEMU killed -> serves again: {time.monotonic() - begun:.1f} s")
    assert process.returncode == 0
    told = events(log)
    assert {"at", "level", "logger", "message"} <= set(told[0])
    assert any(line.get("subject") == "watched.production.web-0" and "fault" in line["what"] for line in told), told
    # It has ended, and nothing else has.
    assert "watched" in fetch(f"http://{vip}/")


def test_a_controller_that_is_killed_goes_on_when_it_is_started_again(lab, tmp_path):
    file = write(tmp_path / "killed.yaml", service("killed"))
    with controller(lab, tmp_path) as (process, _log):
        lab.ok("up", file, "--no-wait")
        process.kill()
        process.wait(30)
    with controller(lab, tmp_path) as (_process, _log):
        eventually(lambda: lab.status("killed")["state"] == "ready", "it is ready", 90)
        assert lab.ok("scale", "killed", "web", "2").out == "killed has 2 instances of web\n"
        assert [i["name"] for i in lab.status("killed")["instances"] if i["in_rotation"]] == ["web-0", "web-1"]
        assert lab.run("scale", "killed", "web", "1").code == 2  # not asked, and not said
        lab.ok("scale", "killed", "web", "1", "--yes")
        assert lab.domains() == [lab.instance("killed", "web-0")["domain"]]
        assert lab.ok("down", "killed", "--yes").out == "killed is deleted\n"


def test_events_are_followed_as_they_come(lab, tmp_path):
    file = write(tmp_path / "told.yaml", service("told"))
    with controller(lab, tmp_path):
        lab.ok("up", file)
        following = lab.start("events", "told", "-f", "--json")
        try:
            lab.ok("stop", "told/web-0")
            seen = []
            os.set_blocking(following.stdout.fileno(), True)
            while "stopped" not in seen:
                seen.append(json.loads(following.stdout.readline())["what"])
        finally:
            following.terminate()
            following.communicate(timeout=30)
    assert "stop: out of rotation" in seen
