"""The life of an instance on real guests: what each act does to each disk, cell by cell, and that traffic goes on.

A lab of two hosts, so that an instance can move.
"""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import Lab, eventually, fetch, service, write

pytestmark = pytest.mark.vm

DISKS = {
    "local_storage": {
        "cache": {"size": "32MiB", "mount": "/var/cache/app", "owner": "www-data:www-data", "mode": "0750"},
        "temp": {"size": "32MiB", "mount": "/var/temp", "clean_on_reimage": True},
    },
    "volumes": {"data": {"size": "48MiB", "mount": "/srv"}},
}
PLACES = {"overlay": "/root", "cache": "/var/cache/app", "temp": "/var/temp", "data": "/srv"}


@pytest.fixture(scope="module")
def two_hosts(homes):
    home = homes / "two hosts"
    lab = Lab(home)
    lab.ok("lab", "up", "--hosts", "2")
    lab.ok("image", "build", "tiny", timeout=600)
    yield lab
    lab.ok("lab", "down")
    shutil.rmtree(home)


@pytest.fixture
def lab(two_hosts):
    """Empty before and after each test, on both hosts."""
    yield two_hosts
    two_hosts.forget_all()
    assert two_hosts.remains() == []
    assert two_hosts.inside("virsh", "-q", "list", "--all", host="h1").out.strip() == ""


def mark(lab, instance, text):
    """Leave a marker on every disk."""
    script = "; ".join(f"echo {text} > {place}/marker" for place in PLACES.values())
    lab.ok("exec", instance, "--", "sh", "-c", f"{script}; sync")


def marks(lab, instance):
    """What the markers say, disk by disk; "" where there is none."""
    script = "; ".join(f"echo {disk} $(cat {place}/marker 2>/dev/null)" for disk, place in PLACES.items())
    rows = lab.ok("exec", instance, "--", "sh", "-c", script).out.splitlines()
    return {row.partition(" ")[0]: row.partition(" ")[2] for row in rows}


def told(lab, name):
    return lab.ok("events", name).out


def test_each_act_does_to_each_disk_what_the_contract_says(lab, tmp_path):
    file = write(tmp_path / "life.yaml", service("life", **DISKS))
    lab.ok("up", file)
    born = lab.instance("life", "web-0")
    shown = lab.ok("exec", "life/web-0", "--", "stat", "-c", "%U:%G %a", "/var/cache/app").out
    assert shown == "www-data:www-data 750\n"
    mark(lab, "life/web-0", "first")
    check_reboots(lab, born, file)
    check_reimage_and_back(lab, born)
    check_relocation(lab, born)
    check_stop_and_start(lab, file)
    check_growth(lab, tmp_path)
    check_volumes_outlive_the_service(lab, tmp_path)


def check_reboots(lab, born, file):
    every = dict.fromkeys(PLACES, "first")
    said = lab.ok("reboot", "life/web-0").out
    assert "overlay" in said
    assert marks(lab, "life/web-0") == every
    check_same(lab, born, generation=1, boot=2)
    # Asked for inside the guest it is a reboot too, and no fault.
    lab.run("exec", "life/web-0", "--", "reboot")
    eventually(lambda: lab.ok("up", file) and lab.instance("life", "web-0")["boot"] == 3, "the guest's own reboot", 60)
    assert marks(lab, "life/web-0") == every
    check_same(lab, born, generation=1, boot=3)
    assert fetch(f"http://{lab.status('life')['vip']}/").startswith("web-0 generation 1")
    assert "fault" not in told(lab, "life")


def check_reimage_and_back(lab, born):
    said = lab.ok("reimage", "life/web-0").out
    assert "new from the image" in said
    assert "undo-reimage" in said
    assert marks(lab, "life/web-0") == {"overlay": "", "cache": "first", "temp": "", "data": "first"}
    check_same(lab, born, generation=2, boot=1)
    assert fetch(f"http://{lab.status('life')['vip']}/").startswith("web-0 generation 2")
    mark(lab, "life/web-0", "second")
    lab.ok("undo-reimage", "life/web-0")
    assert marks(lab, "life/web-0") == {"overlay": "first", "cache": "second", "temp": "first", "data": "second"}
    check_same(lab, born, generation=1)


def check_relocation(lab, born):
    refused = lab.run("relocate", "life/web-0")
    assert refused.code == 2
    assert "lost" in refused.out
    assert "--yes" in refused.err
    assert lab.instance("life", "web-0")["host"] == born["host"]
    lab.ok("relocate", "life/web-0", "--yes")
    assert marks(lab, "life/web-0") == {"overlay": "", "cache": "", "temp": "", "data": "second"}
    now = lab.instance("life", "web-0")
    assert (now["mac"], now["generation"]) == (born["mac"], 3)
    assert now["host"] != born["host"]
    assert [v for v in volumes(lab, born["host"]) if ".web-0." in v] == []


def check_stop_and_start(lab, file):
    lab.ok("stop", "life/web-0")
    stopped = lab.instance("life", "web-0")
    assert (stopped["state"], stopped["in_rotation"]) == ("stopped", False)
    assert "stopped" in lab.ok("up", file).out
    assert lab.instance("life", "web-0")["state"] == "stopped"
    lab.ok("start", "life/web-0")
    assert marks(lab, "life/web-0") == {"overlay": "", "cache": "", "temp": "", "data": "second"}


def check_same(lab, born, *, generation, boot=None):
    """The instance is in rotation, and is who it was."""
    now = lab.instance("life", "web-0")
    assert (now["name"], now["mac"], now["dip"], now["host"]) == (born["name"], born["mac"], born["dip"], born["host"])
    assert (now["generation"], now["in_rotation"], now["state"]) == (generation, True, "ready")
    assert boot is None or now["boot"] == boot
    return now


def volumes(lab, host):
    pools = lab.inside("virsh", "-q", "pool-list", "--all", "--name", host=host).out.split()
    rows = [row for pool in pools for row in lab.inside("virsh", "-q", "vol-list", pool, host=host).out.splitlines()]
    return sorted(row.split()[0] for row in rows if row.split())


def size_kib(lab, place):
    row = lab.ok("exec", "life/web-0", "--", "df", "-k", place).out.splitlines()[-1]
    return int(row.split()[1])


def check_growth(lab, tmp_path):
    before = lab.instance("life", "web-0")
    larger = json.loads(json.dumps(DISKS))
    larger["volumes"]["data"]["size"] = "96MiB"
    small = size_kib(lab, "/srv")
    file = write(tmp_path / "larger.yaml", service("life", **larger))
    forecast = json.loads(lab.ok("plan", file, "--json").out)["instances"][0]
    assert (forecast["does"], forecast["disks"]["volumes"]["data"]) == ("grow", "kept, grown from 48 to 96 MiB")
    lab.ok("up", file)
    assert size_kib(lab, "/srv") > small * 1.7
    assert lab.instance("life", "web-0")["generation"] == before["generation"]
    assert marks(lab, "life/web-0")["data"] == "second"

    refused = lab.run("up", write(tmp_path / "smaller.yaml", service("life", **DISKS)))
    assert refused.code == 2
    assert "roles.web.volumes.data.size" in refused.err
    assert "never shrink" in refused.err


def check_volumes_outlive_the_service(lab, tmp_path):
    data = "life/web-0/data"
    lab.ok("volume", "snapshot", data, "running")  # while its instance runs
    lab.ok("exec", "life/web-0", "--", "sh", "-c", "echo third > /srv/marker; sync")
    assert lab.run("volume", "restore", data, "running", "--yes").code == 1  # in use
    lab.ok("stop", "life/web-0")
    lab.ok("volume", "snapshot", data, "stopped")
    lab.ok("volume", "restore", data, "running", "--yes")
    lab.ok("start", "life/web-0")
    assert marks(lab, "life/web-0")["data"] == "second"

    lab.ok("down", "life", "--yes")
    (kept,) = json.loads(lab.ok("volume", "ls", "--json").out)
    assert (kept["volume"], kept["attached_to"], kept["snapshots"]) == (data, None, ["running", "stopped"])
    wanted = json.loads(json.dumps(DISKS))
    wanted["volumes"]["data"]["size"] = "96MiB"
    lab.ok("up", write(tmp_path / "again.yaml", service("life", **wanted)))
    assert marks(lab, "life/web-0") == {"overlay": "", "cache": "", "temp": "", "data": "second"}
    lab.ok("down", "life", "--volumes", "--yes")
    assert json.loads(lab.ok("volume", "ls", "--json").out) == []


def test_an_instance_that_comes_back_gets_its_own_volume_and_nothing_else(lab, tmp_path):
    disks = {
        "local_storage": {"temp": {"size": "16MiB", "mount": "/var/temp", "clean_on_reimage": True}},
        "volumes": {"data": {"size": "16MiB", "mount": "/srv"}},
    }
    told = {"target": "33434-33500", "protocol": "udp", "visibility": "internal"}  # what traceroute sends to
    disks["endpoints"] = {"http": {"port": 80, "protocol": "http", "check": {"path": "/healthz"}}, "told": told}
    two = write(tmp_path / "two.yaml", service("pair", instances=2, **disks))
    one = write(tmp_path / "one.yaml", service("pair", **disks))
    lab.ok("up", two)
    check_a_rule_across_hosts(lab, two)
    for name in ("web-0", "web-1"):
        lab.ok("exec", f"pair/{name}", "--", "sh", "-c", f"echo {name} > /srv/whose; sync")
    lab.ok("exec", "pair/web-1", "--", "sh", "-c", "echo old > /var/temp/life; sync")
    lab.ok("reimage", "pair/web-1")  # its old overlay, with its clean disk, is kept for a way back
    lab.ok("scale", "pair", "web", "1", "--yes")
    left = [v for host in ("h0", "h1") for v in volumes(lab, host) if ".web-1." in v]
    assert left == ["pair.production.web-1.data.volume.raw"]
    assert [v["volume"] for v in json.loads(lab.ok("volume", "ls", "pair", "--json").out)] == [
        "pair/web-0/data", "pair/web-1/data",
    ]  # fmt: skip
    lab.ok("scale", "pair", "web", "2")
    for name in ("web-0", "web-1"):
        assert lab.ok("exec", f"pair/{name}", "--", "cat", "/srv/whose").out == f"{name}\n"
    assert lab.run("exec", "pair/web-1", "--", "cat", "/var/temp/life").code != 0
    check_snapshots_follow_their_volume(lab, "pair/web-1")
    assert lab.run("volume", "rm", "pair/web-1/data", "--yes").code == 1
    lab.ok("up", one)
    lab.ok("volume", "rm", "pair/web-1/data", "--yes")
    assert not [v for host in ("h0", "h1") for v in volumes(lab, host) if ".web-1." in v]  # its snapshots went with it
    lab.ok("down", "pair", "--volumes", "--yes")


def check_a_rule_across_hosts(lab, path):
    """Who may not reach an endpoint does not reach it from another host either; no machine is touched for a rule."""
    of = {i["name"]: i for i in lab.status("pair")["instances"]}
    assert {i["host"] for i in of.values()} == {"h0", "h1"}
    dip, value = of["web-0"]["dip"], yaml.safe_load(Path(path).read_text())
    probe = f"traceroute -n -q 1 -m 4 -w 2 {dip} | tail -n +2 | grep -w {dip}"

    def arrives():
        return lab.run("exec", "pair/web-1", "--", "sh", "-c", probe).code == 0

    assert arrives(), "without a rule all of a deployment may"
    lab.ok("up", write(Path(path), {**value, "traffic": [{"to": "web.told", "from": []}]}))
    assert not arrives()
    lab.ok("up", write(Path(path), value))
    assert arrives()
    assert {name: i["domain"] for name, i in of.items()} == {
        i["name"]: i["domain"] for i in lab.status("pair")["instances"]
    }


def check_snapshots_follow_their_volume(lab, instance):
    """A snapshot counts wherever it lies: after a move it restores the volume, on another host."""
    lab.ok("volume", "snapshot", f"{instance}/data", "before")
    lab.ok("exec", instance, "--", "sh", "-c", "echo changed > /srv/whose; sync")
    host = lab.instance("pair", "web-1")["host"]
    lab.ok("relocate", instance, "--yes")
    assert lab.instance("pair", "web-1")["host"] != host
    assert lab.ok("exec", instance, "--", "cat", "/srv/whose").out == "changed\n"
    lab.ok("stop", instance)
    lab.ok("volume", "restore", f"{instance}/data", "before", "--yes")
    lab.ok("start", instance)
    assert lab.ok("exec", instance, "--", "cat", "/srv/whose").out == "web-1\n"


def test_traffic_goes_on_and_connections_finish_while_all_are_rebooted_one_by_one(lab, tmp_path, capsys):
    # A page that takes some seconds to send, so that a connection is open when its instance has to go.
    setup = {"run": ["head -c 6000000 /dev/zero > /var/www/large"]}
    file = write(tmp_path / "flow.yaml", service("flow", instances=2, setup=setup, stop={"drain": "20s"}))
    lab.ok("up", file)
    vip = lab.status("flow")["vip"]
    slow = [
        subprocess.Popen(
            ["curl", "--silent", "--fail", "--noproxy", "*", "--limit-rate", "1M", "-o", str(tmp_path / f"got{n}"),
             f"http://{vip}/large"]
        )
        for n in range(2)
    ]  # fmt: skip
    time.sleep(1)
    child = lab.start("reboot", "flow", "--all")
    failed, asked = [], 0
    while child.poll() is None:
        page, asked = fetch(f"http://{vip}/"), asked + 1
        failed += [] if page.startswith("web-") else [asked]
        time.sleep(0.05)
    _out, said = child.communicate()
    assert child.returncode == 0, said
    with capsys.disabled():
        print(f"\n{asked} requests while two instances were rebooted, {len(failed)} failed")
    assert failed == []
    assert [each.wait(timeout=60) for each in slow] == [0, 0]
    assert [(tmp_path / f"got{n}").stat().st_size for n in range(2)] == [6_000_000] * 2
    assert [i["boot"] for i in lab.status("flow")["instances"]] == [2, 2]
    assert "draining" in said


def test_a_guest_that_does_not_listen_is_switched_off(lab, tmp_path):
    hook = {
        "path": "/etc/vmrole/stopping",
        "content": "#!/bin/sh\necho $1 > /srv/told; sync; sleep 600\n",
        "mode": "0755",
    }
    role = {
        "setup": {"files": [hook]},
        "stop": {"timeout": "3s"},
        "volumes": {"data": {"size": "16MiB", "mount": "/srv"}},
    }
    lab.ok("up", write(tmp_path / "deaf.yaml", service("deaf", **role)))
    lab.ok("reboot", "deaf/web-0")
    assert lab.ok("exec", "deaf/web-0", "--", "cat", "/srv/told").out == "reboot\n"
    assert "did not shut down within 3 s" in told(lab, "deaf")
    lab.ok("down", "deaf", "--volumes", "--yes")
