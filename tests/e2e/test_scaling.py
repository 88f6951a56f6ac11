"""More and fewer instances of real guests: by hand, by name, by what there is to do; and who is started first."""

import json
import signal
import subprocess
import time

import pytest

from .conftest import PATIENCE, eventually, fetch, service, write
from .test_controller import controller

pytestmark = pytest.mark.vm

SMALL = {"image": "tiny", "size": {"vcpus": 1, "memory": "128MiB"}}


def names(lab, service, role="web"):
    time.sleep(1)  # the controller needs the machine, too
    found = lab.status(service)["instances"]
    return [i["name"] for i in found if i["role"] == role and i["in_rotation"]]


def served(vip, port=80):
    """Who answers, of several questions."""
    return {page.split()[0] for _ in range(12) if (page := fetch(f"http://{vip}:{port}/", 2))}


def timed(what, act):
    begun = time.monotonic()
    act()
    print(f"\n{what}: {time.monotonic() - begun:.1f} s", end="")


def test_roles_in_order_then_two_five_one(lab, tmp_path):
    web = {
        "instances": 2,
        "after": ["db"],
        "stop": {"drain": "5s", "timeout": "20s"},
        "volumes": {"data": {"size": "16MiB", "mount": "/srv"}},
        "endpoints": {
            "http": {"port": 80, "protocol": "http", "check": {"path": "/healthz"}},
            "direct": {"port": "9000-9009", "target": 80, "visibility": "instance"},
        },
    }
    value = service("many", **web)
    value["roles"]["db"] = SMALL
    file = write(tmp_path / "many.yaml", value)
    timed("up: db, then 2 of web", lambda: lab.ok("up", file))
    marks = {i["name"]: i["timeline"] for i in lab.status("many")["instances"]}
    assert all(marks[web]["started"] >= marks["db-0"]["rotation"] for web in ("web-0", "web-1"))
    assert "starts: role db is ready" in lab.ok("events", "many").out
    vip = lab.status("many")["vip"]

    lab.ok("exec", "many/web-1", "--", "sh", "-c", "echo kept > /srv/told; sync")
    timed("2 -> 5", lambda: lab.ok("scale", "many", "web", "5"))
    assert served(vip) == {f"web-{n}" for n in range(5)}
    assert served(vip, 9004) == {"web-4"}

    assert "no instance web-7" in lab.run("scale", "many", "web", "4", "--remove", "web-7", "--yes").err
    timed("5 -> 4, without web-1", lambda: lab.ok("scale", "many", "web", "4", "--remove", "web-1", "--yes"))
    assert names(lab, "many") == ["web-0", "web-2", "web-3", "web-4"]
    assert (served(vip, 9004), served(vip, 9001)) == ({"web-4"}, set())

    timed("4 -> 1", lambda: lab.ok("scale", "many", "web", "1", "--yes"))
    assert names(lab, "many") == ["web-0"]
    assert len(lab.domains()) == 2
    kept = {row["instance"] for row in json.loads(lab.ok("volume", "ls", "--json").out)}
    assert {f"web-{n}" for n in range(5)} <= {name.rpartition("/")[2] for name in kept}

    # The name that went first is the first to come back, with its volume.
    timed("1 -> 2", lambda: lab.ok("scale", "many", "web", "2"))
    assert lab.ok("exec", "many/web-1", "--", "cat", "/srv/told").out == "kept\n"
    assert served(vip) == {"web-0", "web-1"}
    # The file says two, so there is nothing to change.
    assert "nothing to change" in lab.ok("up", file).out
    another_vip(lab, tmp_path, value, vip)


def another_vip(lab, tmp_path, value, old):
    """The VIP is given while the service runs: it is served at once, no machine is touched, and the old one goes."""
    before, vip = lab.domains(), f"198.51.100.{int(old.rpartition('.')[2]) + 5}"
    lab.ok("up", write(tmp_path / "many.yaml", {**value, "vip": vip}))
    assert (lab.status("many")["vip"], lab.domains()) == (vip, before)
    assert served(vip) == {"web-0", "web-1"}
    there = lab.inside("ip", "-o", "address", "show", host="edge").out
    assert (f"{vip}/32" in there, f"{old}/32" in there) == (True, False)
    second = lab.run("plan", write(tmp_path / "other.yaml", {**service("other"), "vip": vip}))
    assert (second.code, f"{vip} is the VIP of many" in second.err) == (2, True), second


def story(lab):
    return lab.ok("autoscale", "busy", "--for", "1s").out + lab.ok("events", "busy").out + lab.ok("status", "busy").out


def test_the_number_follows_the_load(lab, tmp_path):
    scale = {"max": 3, "target": {"requests_per_second": 5}, "cool_down": "8s"}
    value = service("busy", autoscale=scale, stop={"drain": "2s", "timeout": "20s"})
    value["roles"]["calc"] = {**SMALL, "autoscale": {"max": 2, "target": {"cpu_percent": 100}}}
    with controller(lab, tmp_path):
        lab.ok("up", write(tmp_path / "busy.yaml", value))
        vip, begun = lab.status("busy")["vip"], time.monotonic()
        argv = ["hey", "-z", f"{120 * PATIENCE:.0f}s", "-c", "2", "-q", "8", f"http://{vip}/"]  # 16 requests a second
        load = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            trial = {found["role"]: found for found in json.loads(lab.ok("autoscale", "busy", "--json").out)}
            assert trial["web"]["figure"] > 3
            assert 0 <= trial["calc"]["figure"] < 100
            assert trial["calc"]["would_be"] == 1
            eventually(lambda: names(lab, "busy") == ["web-0", "web-1", "web-2"], "three serve", 100)
            print(f"\n1 -> 3 under 16 requests a second: {time.monotonic() - begun:.1f} s", end="")
        finally:
            print(story(lab))
            load.send_signal(signal.SIGINT)
            said = load.communicate(timeout=30)[0]
        assert "Error distribution" not in said
        begun = time.monotonic()
        eventually(lambda: names(lab, "busy") == ["web-0"] and len(lab.domains()) == 2, "one is left", 90)
        print(f"\n3 -> 1 without load: {time.monotonic() - begun:.1f} s", end="")
        told = [json.loads(line) for line in lab.ok("events", "busy", "--json").out.splitlines()]
        made = [(event["what"], event["cause"]) for event in told if event["actor"] == "autoscale"]
        assert all("requests a second and instance" in cause for _what, cause in made)
        assert [what for what, _cause in made][-2:] == ["web: 3 → 2 instances", "web: 2 → 1 instances"]
        assert lab.status("busy")["roles"][0]["autoscale"]["max"] == 3
