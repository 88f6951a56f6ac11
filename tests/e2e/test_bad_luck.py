"""What goes wrong in the world: each ends in a clear message, nothing is lost, and `down` still cleans up."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.images import Repository
from tests.e2e.conftest import CACHE, VMROLE, eventually, fetch, service, write

pytestmark = pytest.mark.vm


def fail_to_start(name):
    """Setup that adds an auto-start service which never runs."""
    script = f"/etc/sv/{name}/run"
    return {
        "files": [{"path": script, "content": "#!/bin/sh\nexit 1\n", "mode": "0755"}],
        "run": [f"ln -s /etc/sv/{name} /etc/service/{name}"],
    }


def test_an_instance_whose_service_does_not_start_stays_out_and_is_named(lab, tmp_path):
    value = service("sick", instances=2)
    value["roles"]["bad"] = {**value["roles"]["web"], "instances": 1, "setup": fail_to_start("broken"), "endpoints": {
        "http": {"port": 81, "target": 80, "protocol": "http"}}, "ready": {"timeout": "45s"}}  # fmt: skip
    done = lab.run("up", write(tmp_path / "sick.yaml", value))

    assert done.code == 1
    assert "bad-0: failed at services" in done.err
    assert "broken" in done.err
    status = lab.status("sick")
    assert status["state"] == "failed"
    assert {i["name"]: i["in_rotation"] for i in status["instances"]} == {"bad-0": False, "web-0": True, "web-1": True}
    assert fetch(f"http://{status['vip']}:81/") == ""
    assert fetch(f"http://{status['vip']}/").startswith("web-")

    # Somebody mends it from inside: it comes into rotation without being made again.
    lab.ok("exec", "sick/bad-0", "--", "sh", "-c", "rm /etc/service/broken")
    lab.ok("up", str(tmp_path / "sick.yaml"))
    assert lab.instance("sick", "bad-0")["generation"] == 1
    assert fetch(f"http://{status['vip']}:81/").startswith("bad-0")


def test_a_failed_setup_is_told_in_its_own_words(lab, tmp_path):
    setup = {"run": ["echo the database is not there >&2; exit 4"]}
    done = lab.run("up", write(tmp_path / "s.yaml", service("unset", setup=setup)))
    assert done.code == 1
    assert "web-0: failed at setup" in done.err
    assert "exit" in done.err
    assert "4" in done.err
    assert "the database is not there" in done.err
    assert lab.instance("unset", "web-0")["state"] == "failed"


@pytest.fixture
def blank_image(lab):
    """An image that has nothing to boot."""
    repository = Repository(lab.home / "images", SystemClock())
    with repository.incoming() as folder:
        disk = folder / "blank.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "16M"], check=True)
        repository.keep(disk, name="blank", recipe="")
    return "blank"


def test_an_image_that_never_boots_fails_at_the_agent_with_the_console(lab, tmp_path, blank_image):
    value = service("void", image=blank_image, ready={"timeout": "8s"})
    done = lab.run("up", write(tmp_path / "void.yaml", value))
    assert done.code == 1
    assert "web-0: failed at agent" in done.err
    assert "the guest agent" in done.err
    assert "No bootable device" in done.err  # the firmware's own last words, from the serial console


@pytest.fixture
def mute_image(lab):
    """The tiny image without its agent: taken out of the file system in the disk, as nobody mounts anything here."""
    repository = Repository(lab.home / "images", SystemClock())
    with repository.incoming() as folder:
        raw, disk = folder / "mute.raw", folder / "mute.qcow2"
        convert = ["qemu-img", "convert", "-O"]
        subprocess.run([*convert, "raw", "-f", "qcow2", repository.blob(repository.resolve("tiny")), raw], check=True)
        start = json.loads(subprocess.run(["sfdisk", "--json", raw], capture_output=True, check=True).stdout)
        offset = start["partitiontable"]["partitions"][0]["start"] * 512
        debugfs = ["debugfs", "-w", "-R", "rm /etc/service/qemu-ga", f"{raw}?offset={offset}"]
        subprocess.run(debugfs, check=True, capture_output=True)
        subprocess.run([*convert, "qcow2", "-f", "raw", raw, disk], check=True)
        repository.keep(disk, name="mute", recipe="")
    return "mute"


def test_an_image_without_an_agent_fails_at_the_agent(lab, tmp_path, mute_image):
    value = service("mute", image=mute_image, ready={"timeout": "12s"})
    done = lab.run("up", write(tmp_path / "mute.yaml", value))
    assert done.code == 1
    assert "web-0: failed at agent: not ready within" in done.err
    instance = lab.instance("mute", "web-0")
    assert (instance["state"], instance["in_rotation"]) == ("failed", False)
    assert instance["console"]


def test_a_full_pool_is_named_with_its_path(lab, tmp_path):
    pools = "/var/lib/libvirt/images"
    assert lab.inside("mount", "-t", "tmpfs", "-o", "size=24m,mode=711", "tmpfs", pools).code == 0
    try:
        done = lab.run("up", write(tmp_path / "full.yaml", service("full", stop={"drain": "0s", "timeout": "3s"})))
        assert done.code == 1
        assert "no room for the image" in done.err
        assert pools in done.err
        assert lab.domains() == []
        lab.inside("mount", "-o", "remount,size=400m", pools)
        lab.ok("up", str(tmp_path / "full.yaml"))
        check_a_reimage_without_room_costs_nothing(lab, f"{pools}/filler", str(tmp_path / "full.yaml"))
        check_a_machine_that_stands_still_for_want_of_room_can_go(lab, f"{pools}/filler")
    finally:
        lab.run("down", "full", "--yes")
        assert lab.inside("umount", pools).code == 0


def check_a_reimage_without_room_costs_nothing(lab, filler, file):
    # What the guest has still to write would need room, too; `exec` itself leaves something, so this comes after it.
    lab.ok("exec", "full/web-0", "--", "sh", "-c", "mount -o remount,noatime /; (sleep 2; sync) >/dev/null 2>&1 &")
    time.sleep(5)
    lab.inside("sh", "-c", 'dd if=/dev/zero of="$1" bs=1M 2>/dev/null', "sh", filler)
    done = lab.run("reimage", "full/web-0")
    assert done.code == 1
    assert "no room for full.production.web-0.g2.overlay.qcow2" in done.err
    assert "/var/lib/libvirt/images" in done.err
    still = lab.instance("full", "web-0")
    assert (still["state"], still["generation"], still["in_rotation"]) == ("ready", 1, True)
    assert not [v for v in lab.volumes() if ".g2." in v]
    lab.inside("rm", filler)
    lab.ok("up", file)  # it goes on by itself
    assert lab.instance("full", "web-0")["generation"] == 2


def check_a_machine_that_stands_still_for_want_of_room_can_go(lab, filler):
    # Told before there is no room: the least write after that stops the machine, and `exec` makes one.
    write_much = "(sleep 5; dd if=/dev/urandom of=/root/much bs=1M count=9; sync) >/dev/null 2>&1 &"
    lab.ok("exec", "full/web-0", "--", "sh", "-c", write_much)
    lab.inside("sh", "-c", 'dd if=/dev/zero of="$1" bs=1M 2>/dev/null', "sh", filler)
    eventually(lambda: "has no room" in lab.instance("full", "web-0")["reason"], "it is paused for want of room")
    lab.ok("down", "full", "--yes")
    assert lab.domains() == []


def test_a_port_that_another_program_has_is_refused_before_anything_is_made(lab, tmp_path):
    lab.ok("up", write(tmp_path / "one.yaml", service("one")))
    keeper = lab.start("lab", "exec", "--host", "edge", "--", "python3", "-c", LISTEN)
    try:
        eventually(lambda: "8081" in lab.inside("ss", "-Hltn", host="edge").out, "the other program listens")
        value = service("two")
        value["roles"]["web"]["endpoints"]["http"].update(port=8081, target=80)
        done = lab.run("up", write(tmp_path / "two.yaml", value))
        assert done.code == 2
        assert "roles.web.endpoints.http.port: port 8081 is taken" in done.err
        assert lab.run("status", "two").code == 2
    finally:
        lab.inside("pkill", "-f", "vmrole-test-listener", host="edge")
        keeper.communicate(timeout=20)


LISTEN = "import socket,time; 'vmrole-test-listener'; s=socket.create_server(('0.0.0.0', 8081)); time.sleep(60)"


def test_two_ups_of_the_same_service_at_once_end_the_same(lab, tmp_path):
    file = write(tmp_path / "twin.yaml", service("twin"))
    both = [lab.start("up", file) for _ in range(2)]
    ends = [(child.communicate(timeout=120), child.returncode) for child in both]
    codes = sorted(code for _text, code in ends)
    assert codes in ([0, 0], [0, 75]), ends
    said = "".join(err for (_out, err), _code in ends)
    assert "runs the loop of this home: watching it" in said or "at the same moment" in said
    assert lab.domains() == ["twin.production.web-0.g1"]


def test_a_daemon_that_does_not_answer_is_told_and_nothing_is_changed(lab, tmp_path):
    pid = lab.inside("pidof", "libvirtd").out.split()[0]
    stopped = lab.inside("kill", "-STOP", pid)
    assert stopped.code == 0
    try:
        done = lab.run("up", write(tmp_path / "hung.yaml", service("hung")), timeout=60)
        assert done.code == 75
        assert "h0" in done.err
        assert "what to do" in done.err
    finally:
        lab.inside("kill", "-CONT", pid)
    assert lab.run("status", "hung").code == 2


def test_a_haproxy_that_hangs_is_told_and_waited_for(lab, tmp_path):
    file = write(tmp_path / "stuck.yaml", service("stuck"))
    lab.ok("up", file)
    assert lab.inside("pkill", "-STOP", "haproxy", host="edge").code == 0
    try:
        done = lab.run("down", "stuck", "--yes", "--timeout", "15s", timeout=60)
        assert done.code == 75
        assert "HAProxy does not answer" in done.err
        times = [0.0, *(float(row[1:].split()[0]) for row in done.err.splitlines() if row.startswith("["))]
        assert max(after - before for before, after in itertools.pairwise(times)) < 10
        assert len(lab.domains()) == 1  # it may still be asked for answers: it is not taken away
    finally:
        lab.inside("pkill", "-CONT", "haproxy", host="edge")
    lab.ok("down", "stuck", "--yes")


def test_a_missing_haproxy_is_named_with_its_package(lab, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ip", "ss", "nsenter", "qemu-img", "qemu-system-x86_64"):
        (programs / name).symlink_to(shutil.which(name))
    env = {"PATH": f"{programs}:{VMROLE.parent}"}
    done = lab.run("up", write(tmp_path / "no.yaml", service("no")), env=env)
    assert done.code == 1
    assert "HAProxy is not installed" in done.err
    assert lab.run("status", "no").code == 2


def test_without_a_libvirt_daemon_the_user_is_told_what_to_do(tmp_path):
    env = {**os.environ, "VMROLE_CACHE": str(CACHE)}
    argv = [str(VMROLE), "--home", str(tmp_path / "home"), "--connect", "qemu+unix:///system?socket=/nowhere", "ls"]
    listed = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert listed.returncode == 0  # a listing shows what is known
    doctor = subprocess.run([*argv[:-1], "doctor"], env=env, capture_output=True, text=True, check=False)
    assert doctor.returncode == 1
    assert "vmrole lab up" in doctor.stdout


def test_a_qemu_that_dies_is_started_again_by_the_next_up(lab, tmp_path):
    file = write(tmp_path / "dead.yaml", service("dead"))
    lab.ok("up", file)
    pid = next(p for p in lab.inside("pidof", "qemu-system-x86_64").out.split())
    lab.inside("kill", f"-{int(signal.SIGKILL)}", pid)
    lab.ok("up", file)
    assert lab.instance("dead", "web-0")["generation"] == 1
    assert fetch(f"http://{lab.status('dead')['vip']}/").startswith("web-0")


def test_down_cleans_up_what_was_broken_by_hand(lab, tmp_path):
    lab.ok("up", write(tmp_path / "mess.yaml", service("mess", instances=2)))
    lab.virsh("destroy", "mess.production.web-0.g1")
    lab.virsh("undefine", "mess.production.web-0.g1")
    lab.virsh("net-destroy", "mess.production")
    lab.ok("down", "mess", "--yes")
    assert lab.remains() == []
    assert Path(lab.home / "run").exists()
