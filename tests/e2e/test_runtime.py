"""Instances find each other: names, the runtime file, and settings that are changed while everything runs."""

import json
import time

import pytest

from tests.e2e.conftest import eventually, write

pytestmark = pytest.mark.vm

HOOK = '#!/bin/sh\njq -r .settings.COLOUR "$1" >>/root/told; echo "told of $(jq -r .revision "$1")"\n'
SIZE = {"vcpus": 1, "memory": "128MiB"}


def file(colour: str) -> dict:
    web = {
        "image": "tiny",
        "instances": 2,
        "size": SIZE,
        "endpoints": {
            "http": {"port": 80, "protocol": "http", "check": {"path": "/healthz"}},
            "gossip": {"target": 9000, "visibility": "internal"},
        },
        "setup": {
            "settings": {"COLOUR": colour, "WHO": "{{instance}}"},
            "files": [
                {"path": "/etc/vmrole/on-change.d/10-note", "mode": "0755", "content": HOOK},
                {"path": "/etc/vmrole/on-change.d/20-app", "mode": "0755", "content": "#!/bin/sh\nexit 3\n"},
            ],
            "run": ["cp /etc/vmrole/runtime.json /root/first.json"],
        },
        "local_storage": {"cache": {"size": "16MiB", "mount": "/cache"}},
    }
    return {"service": "meet", "roles": {"web": web, "db": {"image": "tiny", "size": SIZE}}}


def inside(lab, name, *argv):
    return lab.ok("exec", f"meet/{name}", "--", *argv).out


def told(lab, name, path="/etc/vmrole/runtime.json"):
    return json.loads(inside(lab, name, "cat", path))


def resolved(lab, name, asked):
    """The addresses that a guest finds for a name; none if it finds none."""
    out = lab.run("exec", f"meet/{name}", "--", "nslookup", asked).out
    answer = out.split("Name:", 1)[1] if "Name:" in out else ""
    return {word for word in answer.split() if word.startswith("198.18.")}


def test_instances_find_each_other_and_settings_change_while_they_run(lab, tmp_path):
    path = tmp_path / "meet.yaml"
    lab.ok("up", write(path, file("blue")))
    dips = {i["name"]: i["dip"] for i in lab.status("meet")["instances"]}

    check_what_an_instance_knows(lab, dips)
    check_settings_are_changed_in_the_guests(lab, path)
    check_names(lab, str(path), dips)


def check_what_an_instance_knows(lab, dips):
    first = told(lab, "web-1", "/root/first.json")  # there before setup's own commands ran
    assert (first["service"], first["slot"], first["role"], first["instance"]) == ("meet", "production", "web", "web-1")
    assert (first["ordinal"], first["generation"], first["upgrade_domain"]) == (1, 1, 1)
    assert first["settings"] == {"COLOUR": "blue", "WHO": "web-1"}
    assert first["local_storage"] == {"cache": "/cache"}
    assert first["roles"]["web"]["endpoints"]["gossip"]["port"] == 9000
    now = told(lab, "db-0")
    known = {i["name"]: (i["dip"], i["ready"]) for role in now["roles"].values() for i in role["instances"]}
    assert known == {name: (dip, True) for name, dip in dips.items()}
    assert json.loads(inside(lab, "web-0", "cat", "/etc/vmrole/settings.json")) == {"COLOUR": "blue", "WHO": "web-0"}


def check_settings_are_changed_in_the_guests(lab, file_path):
    def boots():
        return [inside(lab, name, "cat", "/proc/sys/kernel/random/boot_id") for name in ("web-0", "web-1")]

    before = boots()
    path = write(file_path, file("red"))
    plan = json.loads(lab.ok("plan", path, "--json").out)
    assert {i["does"] for i in plan["instances"]} == {"keep"}
    assert any("tell web-0" in step for step in plan["steps"])
    begun = time.monotonic()
    lab.ok("up", path)
    took = time.monotonic() - begun
    print(f"vmrole up with other settings: {took:.1f} s")
    assert [told(lab, name)["settings"]["COLOUR"] for name in ("web-0", "web-1")] == ["red", "red"]
    assert boots() == before
    assert [i["generation"] for i in lab.status("meet")["instances"]] == [1, 1, 1]
    assert "red" in eventually(lambda: inside(lab, "web-0", "tail", "-n", "1", "/root/told"), "the hook runs")
    assert "told of" in inside(lab, "web-0", "cat", "/var/lib/vmrole/on-change/10-note.out")
    said = "told of a change, 20-app ended with exit code 3"
    eventually(lambda: said in lab.instance("meet", "web-0")["reason"], "what the program ended with is known")
    assert lab.instance("meet", "web-0")["state"] == "ready"
    lab.ok("up", path)
    assert said in lab.ok("events", "meet").out
    assert "nothing to change" in lab.ok("up", path).out
    # More than an agent takes in one call.
    lab.ok("up", write(file_path, file("long " * 30_000)))
    assert told(lab, "web-1")["settings"]["COLOUR"] == "long " * 30_000


def check_names(lab, path, dips):
    web = {dips["web-0"], dips["web-1"]}
    assert resolved(lab, "db-0", "web-1") == {dips["web-1"]}
    assert resolved(lab, "db-0", "web") == web
    assert resolved(lab, "web-0", "db.meet.internal") == {dips["db-0"]}
    # There is nobody to ask in a lab, and the guest is told so instead of waiting.
    told_at_once = "cut -d ' ' -f 1 /proc/uptime; nslookup unknown.example 2>&1; cut -d ' ' -f 1 /proc/uptime"
    begun, *said, ended = inside(lab, "db-0", "sh", "-c", told_at_once).splitlines()
    print(f"a name that nobody knows: {float(ended) - float(begun):.2f} s")
    assert any("NXDOMAIN" in line for line in said), said
    inside(lab, "web-0", "sh", "-c", "mkdir -p /run/vmrole; echo counting >/run/vmrole/busy")
    lab.ok("up", path)
    assert resolved(lab, "db-0", "web") == web - {dips["web-0"]}
    assert resolved(lab, "db-0", "web-0") == {dips["web-0"]}
    assert [i["ready"] for i in told(lab, "db-0")["roles"]["web"]["instances"]] == [False, True]
