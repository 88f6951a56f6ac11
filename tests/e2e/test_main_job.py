"""The main job on real guests: a service file goes in, instances answer behind one address, and nothing is left."""

import json

import pytest

from tests.e2e.conftest import fetch, service, write

pytestmark = pytest.mark.vm


SETUP = {
    "files": [{"path": "/etc/motd", "content": "zwölf: 'quoted' \"twice\" $HOME `id`\n", "mode": "0640"}],
    "run": ["echo ran > /root/ran", ["sh", "-c", "echo $0 > /root/argv", "a b"]],
    "ssh_authorized_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample me@example"],
    "settings": {"COLOUR": "blue; rm -rf /"},
}


def hello(**changes):
    return service("hello", setup=SETUP, **changes)


def test_a_service_from_file_to_rotation_and_away(lab, tmp_path):
    path = tmp_path / "hello.yaml"
    first = lab.ok("up", write(path, hello()))
    status = lab.status("hello")
    assert f"http://{status['vip']}/" in first.out
    check_ready(status, ["web-0"])
    check_setup_is_done_from_the_file(lab)
    check_second_up_changes_nothing(lab, str(path))

    check_the_file_changes_and_the_deployment_follows(lab, path)
    status = lab.status("hello")
    check_ready(status, ["web-0", "web-1"])
    pages = {fetch(f"http://{status['vip']}/").strip() for _ in range(6)}
    assert pages == {"web-0 generation 2 of hello (production)", "web-1 generation 1 of hello (production)"}
    check_commands_in_guests(lab)
    check_the_outside(lab, status)
    check_fewer(lab, path)

    assert lab.ok("down", "hello", "--yes").out == "hello is deleted\n"
    assert lab.remains() == []
    assert "deleted" in lab.ok("events", "hello").out


def check_ready(status, names):
    assert status["state"] == "ready"
    assert [i["name"] for i in status["instances"]] == names
    for instance in status["instances"]:
        assert (instance["state"], instance["stage"], instance["in_rotation"]) == ("ready", "rotation", True)
        marks = list(instance["timeline"].values())
        assert None not in marks
        assert marks == sorted(marks)


def check_setup_is_done_from_the_file(lab):
    def read(path):
        return lab.ok("exec", "hello/web-0", "--", "cat", path).out

    assert read("/etc/motd") == SETUP["files"][0]["content"]
    assert lab.ok("exec", "hello/web-0", "--", "stat", "-c", "%a %U:%G", "/etc/motd").out == "640 root:root\n"
    assert (read("/root/ran"), read("/root/argv")) == ("ran\n", "a b\n")
    assert "me@example" in read("/root/.ssh/authorized_keys")
    assert json.loads(read("/etc/vmrole/settings.json")) == {"COLOUR": "blue; rm -rf /"}


def check_second_up_changes_nothing(lab, file):
    before = lab.domains(), lab.volumes()
    again = lab.ok("up", file)
    assert "nothing to change" in again.out
    assert (lab.domains(), lab.volumes()) == before
    assert "nothing to change" in lab.ok("plan", file).out


def check_commands_in_guests(lab):
    done = lab.run("exec", "hello/web-0", "--", "sh", "-c", "hostname; echo to-stderr >&2; exit 7")
    assert (done.code, done.out, done.err) == (7, "web-0\n", "to-stderr\n")
    assert lab.run("exec", "hello/web-0", "--", "no-such-command").code == 127
    # More than an agent's answer can carry, and the agent lives on.
    much = lab.ok("exec", "hello/web-0", "--", "sh", "-c", "head -c 12000000 /dev/zero | tr '\\0' x").out
    assert len(much) == 12_000_000
    assert set(much) == {"x"}
    # Instances of a deployment find each other by name.
    other = lab.instance("hello", "web-1")["dip"]
    assert other in lab.ok("exec", "hello/web-0", "--", "nslookup", "web-1").out
    assert "generation 1" in lab.ok("exec", "hello/web-0", "--", "wget", "-qO-", "http://web-1/").out


def check_the_outside(lab, status):
    def from_outside(address):
        return lab.inside("curl", "--silent", "--fail", "--max-time", "3", f"http://{address}/", host="outside")

    assert from_outside(status["vip"]).code == 0
    for instance in status["instances"]:
        assert from_outside(instance["dip"]).code != 0
        # The DIP does answer where it should: on its own host.
        assert lab.inside("curl", "--silent", "--fail", f"http://{instance['dip']}/", host="edge").code == 0


LARGER = {"size": {"vcpus": 1, "memory": "144MiB"}}


def check_the_file_changes_and_the_deployment_follows(lab, path):
    changed = hello(instances=2, **LARGER)
    changed["roles"]["web"]["endpoints"]["direct"] = {"port": "9000-9001", "target": 80, "visibility": "instance"}
    forecast = json.loads(lab.ok("plan", write(path, changed), "--json").out)
    assert [(i["name"], i["does"]) for i in forecast["instances"]] == [("web-0", "upgrade"), ("web-1", "create")]
    costs = {change["path"].removeprefix("roles.web."): change["cost"] for change in forecast["changes"]}
    assert costs == {"instances": "instances", "size.memory": "machines", "endpoints.direct": "reload"}
    lab.ok("up", str(path))

    status = lab.status("hello")
    assert [i["generation"] for i in status["instances"]] == [2, 1]
    assert fetch(f"http://{status['vip']}:9000/").startswith("web-0")
    assert fetch(f"http://{status['vip']}:9001/").startswith("web-1")


def check_fewer(lab, path):
    lab.ok("up", write(path, hello(**LARGER)))
    assert [i["name"] for i in lab.status("hello")["instances"]] == ["web-0"]
    assert len(lab.domains()) == 1
    # Nothing is left of who went, and of the machine before the upgrade its overlay, for a way back.
    assert [v for v in lab.volumes() if "web-1" in v] == []
    assert [v for v in lab.volumes() if ".g1." in v] == ["hello.production.web-0.g1.overlay.qcow2"]
