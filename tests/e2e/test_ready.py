"""What ready means on real guests: services by name, probes, busy, and guests that no agent answers for."""

import subprocess
import time

import pytest

from tests.e2e.conftest import service, write

pytestmark = pytest.mark.vm

# A service of runit's that says something and ends, and logs by svlogd.
BROKEN = "#!/bin/sh\nexec 2>&1\necho no such database\nsleep 0.3\nexit 3\n"
LOG = "#!/bin/sh\nmkdir -p main\nexec svlogd main\n"


def program(path, content):
    return {"path": path, "content": content, "mode": "0755"}


def in_rotation(lab, service_name, name="web-0"):
    return lab.instance(service_name, name)["in_rotation"]


def test_a_service_that_keeps_ending_is_named_with_its_last_words(lab, tmp_path):
    role = {
        "setup": {
            "files": [program("/etc/sv/broken/run", BROKEN), program("/etc/sv/broken/log/run", LOG)],
            "run": ["ln -s /etc/sv/broken /etc/service/broken"],
        },
        "ready": {"timeout": "45s"},
    }
    done = lab.run("up", write(tmp_path / "bad.yaml", service("bad", **role)), timeout=90)
    assert done.code == 1
    assert "broken (" in done.err
    assert "no such database" in done.err
    assert not in_rotation(lab, "bad")
    assert "no such database" in lab.ok("logs", "bad/web-0", "-u", "broken", "-n", "5").out
    assert "setup of" in lab.ok("logs", "bad/web-0").out
    assert "Booting from Hard Disk" in lab.ok("console", "bad/web-0", "-n", "1000").out
    assert lab.run("logs", "bad/web-0", "-u", "../etc/shadow").code == 2
    assert lab.run("logs", "bad/web-0", "-u", "nothing").code == 1
    check_copies(lab, tmp_path)

    # Named services are all that counts then.
    role["ready"] = {"timeout": "60s", "services": ["httpd"]}
    lab.ok("up", write(tmp_path / "bad.yaml", service("bad", **role)), timeout=90)
    assert in_rotation(lab, "bad")


def check_copies(lab, tmp_path):
    here, back = tmp_path / "here", tmp_path / "back"
    here.write_bytes(bytes(range(256)) * 8192)  # more than one piece of it
    here.chmod(0o640)
    lab.ok("cp", str(here), "bad/web-0:/root/a name", timeout=60)
    assert lab.ok("exec", "bad/web-0", "--", "stat", "-c", "%a %s", "/root/a name").out == "640 2097152\n"
    lab.ok("cp", "bad/web-0:/root/a name", str(back), timeout=60)
    assert back.read_bytes() == here.read_bytes()
    assert lab.run("cp", str(here), "bad/web-0:/root").code == 1
    assert lab.run("cp", "bad/web-0:/none", str(back)).code == 1
    assert back.exists()
    assert lab.run("cp", str(here), str(back)).code == 2


def test_probes_and_busy(lab, tmp_path):
    def role(page):
        probes = [
            {"http": {"port": 80, "path": page}, "timeout": "2s"},
            {"tcp": 22},
            {"exec": ["test", "-e", "/etc/hostname"]},
            {"exec": "echo looked for it >&2; test ! -e /tmp/broken", "timeout": "2s"},
        ]
        return {"ready": {"probes": probes, "interval": "1s", "timeout": "30s"}, "instances": 1}

    done = lab.run("up", write(tmp_path / "p.yaml", service("probed", **role("/nowhere"))), timeout=90)
    assert done.code == 1
    assert "probe http :80/nowhere: 404" in done.err
    assert not in_rotation(lab, "probed")

    lab.ok("up", write(tmp_path / "p.yaml", service("probed", **role("/healthz"))), timeout=60)
    assert in_rotation(lab, "probed")

    check_busy(lab, tmp_path, role("/healthz"))


def check_busy(lab, tmp_path, role):
    lab.ok("exec", "probed/web-0", "--", "sh", "-c", "mkdir -p /run/vmrole; echo counting money >/run/vmrole/busy")
    file = write(tmp_path / "p.yaml", service("probed", **role))
    again = lab.ok("up", file)
    assert "probed/web-0 is busy, and out of rotation: counting money" in again.out
    seen = lab.instance("probed", "web-0")
    assert (seen["state"], seen["reason"], seen["in_rotation"]) == ("busy", "counting money", False)
    assert not backend_servers(lab)
    lab.ok("exec", "probed/web-0", "--", "rm", "/run/vmrole/busy")
    lab.ok("up", file)
    assert in_rotation(lab, "probed")
    assert backend_servers(lab)
    told = lab.ok("events", "probed").out
    assert "busy: out of rotation" in told
    assert "not busy any more" in told
    assert lab.instance("probed", "web-0")["generation"] == 1


ASK = """import socket
link = socket.socket(socket.AF_UNIX)
link.connect("haproxy.sock")
link.sendall(b"show servers state\\n")
print(link.makefile().read())"""


def backend_servers(lab):
    """The servers that HAProxy has and sends to, by its runtime socket."""
    asked = subprocess.run(["python3", "-c", ASK], cwd=lab.home / "run", capture_output=True, text=True, check=True)
    rows = [row.split() for row in asked.stdout.splitlines()]
    return [row[3] for row in rows if len(row) > 6 and row[0].isdigit() and row[6] == "0"]


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


NO_AGENT = ["touch /etc/sv/qemu-ga/down; sv down /etc/service/qemu-ga"]


def test_guests_without_an_agent(lab, tmp_path, key):
    value = service(
        "mute", setup={"run": NO_AGENT, "ssh_authorized_keys": [key.with_suffix(".pub").read_text().strip()]}
    )
    net = {**value["roles"]["web"], "ready": {"via": "network", "interval": "1s", "timeout": "60s"}}
    ssh = {"via": "ssh", "ssh": {"key": {"secret": f"file:{key}"}}, "timeout": "90s", "interval": "1s"}
    value["roles"] = {
        "net": net,
        "ssh": {**value["roles"]["web"], "ready": ssh, "endpoints": {}},
    }
    file = write(tmp_path / "mute.yaml", value)
    lab.ok("up", file, timeout=150)
    for instance in lab.status("mute")["instances"]:
        assert (instance["state"], instance["in_rotation"]) == ("ready", True), instance
        marks = list(instance["timeline"].values())
        assert None not in marks
        assert marks == sorted(marks)
    for words, code, said in ((["hostname"], 0, "ssh-0\n"), (["echo a; exit 3"], 3, "a\n")):
        done = lab.run("ssh", "mute/ssh-0", "-i", str(key), "--", *words)
        assert (done.code, done.out) == (code, said), done.err
    assert "mute.production.ssh-0.g1 " in (lab.home / "ssh_known_hosts").read_text()

    begun = time.monotonic()
    lab.ok("stop", "mute/net-0", "mute/ssh-0", timeout=90)
    assert time.monotonic() - begun < 30
    assert {i["state"] for i in lab.status("mute")["instances"]} == {"stopped"}
