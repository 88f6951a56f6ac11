"""An ordinary image as one story of few boots: systemd, cloud-init, nginx, every item of ``setup``, every disk.

A Debian takes its time without KVM, so all that has to be seen on one is seen on the same two guests of one service:
``web`` is examples/hello.yaml with disks, a secret, and what setup runs; it is rebooted, reimaged and taken back.
``other`` has what else setup can say, all of it for its only boot, and a unit that fails.
"""

import hashlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.e2e.conftest import ROOT, eventually, fetch, write

pytestmark = pytest.mark.vm

DISKS = {
    "local_storage": {
        "cache": {"size": "64MiB", "mount": "/var/cache/app"},
        "temp": {"size": "64MiB", "mount": "/var/temp", "clean_on_reimage": True},
    },
    # Its owner is made by setup only, after the disks have been mounted.
    "volumes": {"data": {"size": "64MiB", "mount": "/srv", "owner": "app:app", "mode": "0750"}},
}
PLACES = {"overlay": "/root", "cache": "/var/cache/app", "temp": "/var/temp", "data": "/srv"}

HASH = "$6$vmrole$Tq6ZgBnU0vYhQ5oC8yL1e8K3m1c2wq0r9d7s5f3g1h0j2k4l6m8n0p2q4r6s8t0u1v3w5x7y9z1a3b5c7d9e1f"
TASK = """\
#!/bin/bash
echo every-start >>/srv/log
[ ! -e /srv/broken ] || { echo "the schema is too old" >&2; exit 3; }
"""


def openssl(*argv, cwd):
    subprocess.run(["openssl", *argv], cwd=cwd, check=True, capture_output=True, timeout=30)


def certificates(folder):
    """An authority, and a certificate that it signed, with its key."""
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
        "-subj", "/CN=vmrole test authority", cwd=folder,
    )  # fmt: skip
    openssl(
        "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "web.key", "-out", "web.csr", "-subj", "/CN=web", cwd=folder
    )
    openssl(
        "x509",
        "-req",
        "-in",
        "web.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-out",
        "web.crt",
        "-days",
        "9",
        cwd=folder,
    )
    (folder / "web.pem").write_text((folder / "web.crt").read_text() + (folder / "web.key").read_text())


def package(folder):
    """A package repository of one package, as files that setup can write: a lab's guests reach no other."""
    root = folder / "hello-package"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/vmrole-hello").write_text("#!/bin/sh\necho from a package\n")
    (root / "usr/bin/vmrole-hello").chmod(0o755)
    fields = "Package: vmrole-hello\nVersion: 1.0\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n"
    (root / "DEBIAN/control").write_text(fields)
    deb = folder / "hello.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(root), str(deb)], check=True, capture_output=True)
    data = deb.read_bytes()
    about = f"{fields}Filename: ./hello.deb\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    return [
        {"path": "/opt/repo/hello.deb", "source": "hello.deb"},
        {"path": "/opt/repo/Packages", "content": about},
        {"path": "/etc/apt/sources.list", "content": "deb [trusted=yes] file:/opt/repo ./\n"},
    ]


def web_setup(folder):
    (folder / "token").write_text("a-secret-of-debian")
    (folder / "first.sh").write_text("#!/bin/bash\nlog=(/srv/log)\necho script >>${log[0]}\n")
    (folder / "task.sh").write_text(TASK)
    return {
        "users": [
            {
                "name": "app",
                "full_name": "The App",
                "groups": ["adm", "workers"],
                "password_hash": HASH,
                "ssh_authorized_keys": ["ssh-ed25519 AAAA app@example"],
                "admin": True,
                "shell": "/bin/bash",
            }
        ],
        "ssh_authorized_keys": ["ssh-ed25519 AAAA me@example"],
        "files": [
            {
                "path": "/etc/app/{{role}}.conf",
                "content": "{{instance}} {{ordinal}} {{dip}} {{role.web.dips}} {{generation}} {{vip}} {{{{x}}\n",
                "owner": "app:workers",
                "mode": "0640",
            },
            {"path": "/etc/app/plain", "content": "{{x}}", "template": False},
            {"path": "/etc/token", "secret": "file:token", "mode": "0600"},
        ],
        "run": [
            "echo line-{{ordinal}} >>/srv/log; echo a word to the wise",
            ["sh", "-c", 'echo "$1" >>/srv/log', "x", "a 'word'"],
            {"source": "first.sh", "name": "the script"},
        ],
        "run_every_boot": ["echo every-boot >>/srv/log"],
        "startup_tasks": [{"name": "migrate", "source": "task.sh", "timeout": "60s"}],
        "settings": {"COLOUR": "blue of {{instance}}"},
        "user_data": [
            {"type": "text/cloud-config", "content": "runcmd: ['echo {{role}}-theirs >>/srv/log']\n"},
            {"content": "#!/bin/sh\necho part >>/srv/log\n"},
        ],
    }


FIRST = ["line-0", "a 'word'", "script", "every-boot", "every-start", "part", "web-theirs"]
EVERY = ["every-boot", "every-start"]


def other_setup(folder):
    certificates(folder)
    unit = "[Service]\nExecStart=/bin/sh -c 'echo no such database; exit 3'\n[Install]\nWantedBy=multi-user.target\n"
    return {
        "hostname": "{{instance}}-x",
        "timezone": "Europe/Berlin",
        "locale": "de_DE.UTF-8",
        "keyboard": "de",
        "files": [{"path": "/etc/systemd/system/broken.service", "content": unit}, *package(folder)],
        "packages": ["vmrole-hello"],
        "run": ["systemctl daemon-reload", "systemctl enable broken", "systemctl start --no-block broken"],
        "certificates": [{"name": "web", "source": "web.pem"}],
        "trusted_certificates": [{"name": "ours", "source": "ca.pem"}],
        "ntp": {"servers": ["192.0.2.7"]},
        "dns": {"search": ["hello.internal", "example.org"]},
        "network": "static",
    }


@pytest.fixture(scope="module")
def hello(shared_lab, tmp_path_factory):
    """The lab, the service's value, its file, and what ``up`` said of it."""
    shared_lab.ok("image", "build", "debian-12", timeout=900)
    folder = tmp_path_factory.mktemp("hello")
    value = yaml.safe_load((ROOT / "examples/hello.yaml").read_text())
    web = value["roles"]["web"]
    patient = {"repair": False, "ready": {"timeout": "15m"}}
    value["roles"]["other"] = {"image": web["image"], "size": web["size"], "setup": other_setup(folder), **patient}
    web |= {"instances": 1, "size": {"vcpus": 2, "memory": "512MiB"}, "setup": web_setup(folder), **DISKS, **patient}
    file = write(folder / "hello.yaml", value)
    done = shared_lab.run("up", file, timeout=960)
    yield shared_lab, value, file, done
    shared_lab.forget_all()
    assert shared_lab.remains() == []


@pytest.fixture(scope="module")
def debian(hello):
    return hello[0]


@pytest.fixture(scope="module")
def inside(debian):
    """A command inside the example's guest."""
    return lambda *argv: debian.ok("exec", "hello/web-0", "--", *argv).out


@pytest.fixture(scope="module")
def other(debian):
    return lambda *argv: debian.ok("exec", "hello/other-0", "--", *argv).out


def marks(inside):
    script = "; ".join(f"echo {disk} $(cat {place}/marker 2>/dev/null)" for disk, place in PLACES.items())
    rows = inside("sh", "-c", script).splitlines()
    return {row.partition(" ")[0]: row.partition(" ")[2] for row in rows}


def identity(inside):
    """What a second setup would change: cloud-init's instance and the host keys."""
    return inside("sh", "-c", "cat /var/lib/cloud/data/instance-id; md5sum /etc/ssh/ssh_host_*")


def seeds(lab):
    return [volume for volume in lab.volumes() if volume.endswith(".seed.iso")]


def test_the_example_runs_and_a_failed_unit_is_named(hello, inside):
    debian, _value, _file, done = hello
    assert done.code == 1
    assert "other-0: failed at services: services failed: broken.service" in done.err
    assert "no such database" in done.err
    status = debian.status("hello")
    assert {i["name"]: i["in_rotation"] for i in status["instances"]} == {"other-0": False, "web-0": True}
    assert fetch(f"http://{status['vip']}/") == "web-0 generation 1 of hello (production)\n"
    assert inside("systemctl", "is-system-running") == "running\n"
    # Names of other instances resolve to their DIPs, by DNS.
    dip = next(i["dip"] for i in status["instances"] if i["name"] == "other-0")
    assert re.search(rf"^{re.escape(dip)}\s", inside("getent", "hosts", "other-0"))


def test_it_is_who_it_is_said_to_be(other):
    assert other("hostname") == "other-0-x\n"
    assert other("timeout", "20", "getent", "ahosts", "other-0-x").split()[0] == "127.0.1.1"  # and asks no DNS
    assert other("date", "+%Z").strip() in {"CET", "CEST"}
    assert "LANG=de_DE.UTF-8" in other("cat", "/etc/default/locale").replace('"', "")
    assert other("sh", "-c", "LC_ALL=de_DE.UTF-8 locale -k LC_TIME").find("Januar") > 0
    assert 'XKBLAYOUT="de"' in other("cat", "/etc/default/keyboard")


def test_users_are_there(inside):
    assert inside("id", "-nG", "app").split() == ["app", "adm", "workers"]
    assert inside("getent", "passwd", "app").split(":")[4:] == ["The App", "/home/app", "/bin/bash\n"]
    assert inside("getent", "shadow", "app").split(":")[1] == HASH
    assert inside("cat", "/home/app/.ssh/authorized_keys") == "ssh-ed25519 AAAA app@example\n"
    assert inside("su", "app", "-c", "sudo -n id -u") == "0\n"
    assert "ssh-ed25519 AAAA me@example" in inside("cat", "/home/debian/.ssh/authorized_keys")


def test_files_and_packages_are_there_with_the_instances_own_values(inside, other, debian):
    status = debian.status("hello")
    dip = next(i["dip"] for i in status["instances"] if i["name"] == "web-0")
    assert inside("cat", "/etc/app/web.conf") == f"web-0 0 {dip} {dip} 1 {status['vip']} {{{{x}}}}\n"
    assert inside("stat", "-c", "%U:%G %a", "/etc/app/web.conf") == "app:workers 640\n"
    assert inside("cat", "/etc/app/plain") == "{{x}}"
    assert json.loads(inside("cat", "/etc/vmrole/settings.json")) == {"COLOUR": "blue of web-0"}
    assert inside("stat", "-c", "%U:%G %a", "/srv") == "app:app 750\n"
    assert other("vmrole-hello") == "from a package\n"


def test_certificates_are_where_the_system_looks(other):
    assert other("openssl", "verify", "-CApath", "/etc/ssl/certs", "/etc/ssl/certs/web.pem").endswith(": OK\n")
    assert other("stat", "-c", "%a", "/etc/ssl/private/web.key") == "600\n"
    assert "PRIVATE KEY" not in other("cat", "/etc/ssl/certs/web.pem")


def test_the_network_is_as_asked(other, debian):
    (nic,) = json.loads(other("ip", "-json", "address", "show", "eth0"))
    (own,) = [info for info in nic["addr_info"] if info["family"] == "inet"]
    assert (own["local"], own.get("dynamic", False)) == (debian.instance("hello", "other-0")["dip"], False)
    assert "default via" in other("ip", "route")
    resolv = other("cat", "/run/systemd/resolve/resolv.conf")
    assert re.search(r"^search .*hello\.internal .*example\.org", resolv, re.MULTILINE)
    assert other("getent", "hosts", "other-0.hello.internal").split()[0] == own["local"]
    assert "192.0.2.7" in other("sh", "-c", "cat /etc/systemd/timesyncd.conf.d/*")


def test_cloud_init_finds_nothing_wrong_with_our_words(inside, other):
    for guest in (inside, other):
        said = guest("sh", "-c", "cloud-init schema -c /var/lib/cloud/instance/cloud-config.txt 2>&1")
        assert "Valid cloud-config" in said
        assert "eprecat" not in said


def test_what_each_command_printed_is_kept(inside):
    folder = "/var/lib/vmrole/setup/hello.production.web-0.g1"
    assert inside("cat", f"{folder}/001-first_boot.out") == "a word to the wise\n"
    codes = inside("sh", "-c", f"cat {folder}/*.code").split()
    assert codes == ["0"] * 6  # the disks, three of run, one of every boot, one start-up task
    assert inside("cat", "/srv/log").splitlines() == FIRST


def test_its_life(hello, inside):
    """The contract's table, once on an ordinary image; and what of setup is done again at which of its boots."""
    debian, value, file, _done = hello
    del value["roles"]["other"]
    debian.ok("up", write(Path(file), value), timeout=720)
    script = "; ".join(f"echo first > {place}/marker" for place in PLACES.values())
    inside("sh", "-c", f"{script}; sync")
    check_reboot(debian, inside)
    check_reimage_and_back(debian, inside)
    debian.ok("relocate", "hello/web-0", "--same-host", "--yes", timeout=720)
    assert marks(inside) == {"overlay": "", "cache": "", "temp": "", "data": "first"}
    assert inside("systemctl", "is-system-running") == "running\n"
    assert "fault" not in debian.ok("events", "hello").out


def check_reboot(debian, inside):
    """Without its seed, and even when cloud-init has lost its cache, as after an upgrade of Python in the guest."""
    eventually(lambda: seeds(debian) == [], "the seed is gone", 5)
    born = identity(inside)
    assert inside("stat", "-c", "%a", "/var/lib/cloud/seed/nocloud/user-data") == "600\n"
    inside("sh", "-c", "touch /srv/broken; rm /var/lib/cloud/instance/obj.pkl; sync")
    done = debian.run("reboot", "hello/web-0", timeout=720)
    assert done.code == 1
    assert "start-up task migrate failed with exit code 3: the schema is too old" in done.err
    now = debian.instance("hello", "web-0")
    assert (now["in_rotation"], now["boot"], now["generation"]) == (False, 2, 1)
    # It is who it was: nothing of setup but what is of every boot is done again.
    assert identity(inside) == born
    assert inside("cat", "/srv/log").splitlines() == [*FIRST, *EVERY]
    assert inside("cat", "/etc/token") == "a-secret-of-debian"
    source = json.loads(inside("cat", "/run/cloud-init/result.json"))["v1"]["datasource"]
    assert source.startswith("DataSourceNoCloud")
    assert marks(inside) == dict.fromkeys(PLACES, "first")
    # From its second boot on the disks are mounted by systemd, before the services.
    assert inside("systemctl", "is-active", "srv.mount") == "active\n"
    inside("rm", "/srv/broken", "/srv/log")


def check_reimage_and_back(debian, inside):
    debian.ok("reimage", "hello/web-0", timeout=720)
    assert marks(inside) == {"overlay": "", "cache": "first", "temp": "", "data": "first"}
    assert inside("cat", "/srv/log").splitlines() == FIRST
    assert inside("cat", "/etc/app/web.conf").split()[4] == "2"
    assert debian.instance("hello", "web-0")["in_rotation"] is True
    debian.ok("undo-reimage", "hello/web-0", timeout=720)
    assert marks(inside) == dict.fromkeys(PLACES, "first")
    assert inside("cat", "/srv/log").splitlines() == [*FIRST, *EVERY]
    assert debian.instance("hello", "web-0")["in_rotation"] is True
