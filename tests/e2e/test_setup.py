"""Every item of ``setup`` for Linux as a guest has it: after its first boot, through a reboot and through a reimage."""

import hashlib
import json
import re
import subprocess

import pytest

from tests.e2e.conftest import service, write

pytestmark = pytest.mark.vm

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


def setup(folder):
    certificates(folder)
    (folder / "first.sh").write_text("#!/bin/bash\nlog=(/srv/log)\necho script >>${log[0]}\n")
    (folder / "task.sh").write_text(TASK)
    return {
        "hostname": "{{instance}}-x",
        "timezone": "Europe/Berlin",
        "locale": "de_DE.UTF-8",
        "keyboard": "de",
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
            *package(folder),
        ],
        "packages": ["vmrole-hello"],
        "run": [
            "echo line-{{ordinal}} >>/srv/log; echo a word to the wise",
            ["sh", "-c", 'echo "$1" >>/srv/log', "x", "a 'word'"],
            {"source": "first.sh", "name": "the script"},
        ],
        "run_every_boot": ["echo every-boot >>/srv/log"],
        "startup_tasks": [{"name": "migrate", "source": "task.sh", "timeout": "60s"}],
        "certificates": [{"name": "web", "source": "web.pem"}],
        "trusted_certificates": [{"name": "ours", "source": "ca.pem"}],
        "ntp": {"servers": ["192.0.2.7"]},
        "dns": {"search": ["hello.internal", "example.org"]},
        "network": "static",
        "settings": {"COLOUR": "blue of {{instance}}"},
        "user_data": [
            {"type": "text/cloud-config", "content": "runcmd: ['echo {{role}}-theirs >>/srv/log']\n"},
            {"content": "#!/bin/sh\necho part >>/srv/log\n"},
        ],
    }


FIRST = ["line-0", "a 'word'", "script", "every-boot", "every-start", "part", "web-theirs"]


@pytest.fixture(scope="module")
def debian(shared_lab):
    shared_lab.ok("image", "build", "debian-12", timeout=900)
    yield shared_lab
    shared_lab.forget_all()
    assert shared_lab.remains() == []


@pytest.fixture(scope="module")
def inside(debian, tmp_path_factory):
    """A command inside the one guest of these tests."""
    folder = tmp_path_factory.mktemp("setup")
    value = service(
        "set", image="debian-12", size={"vcpus": 2, "memory": "512MiB"}, setup=setup(folder),
        volumes={"data": {"size": "64MiB", "mount": "/srv"}}, repair=False, ready={"timeout": "10m"},
    )  # fmt: skip
    debian.ok("up", write(folder / "set.yaml", value), timeout=720)
    return lambda *argv: debian.ok("exec", "set/web-0", "--", *argv).out


def test_it_is_who_it_is_said_to_be(inside):
    assert inside("hostname") == "web-0-x\n"
    assert inside("timeout", "20", "getent", "ahosts", "web-0-x").split()[0] == "127.0.1.1"  # and asks no DNS
    assert inside("date", "+%Z").strip() in {"CET", "CEST"}
    assert "LANG=de_DE.UTF-8" in inside("cat", "/etc/default/locale").replace('"', "")
    assert inside("sh", "-c", "LC_ALL=de_DE.UTF-8 locale -k LC_TIME").find("Januar") > 0
    assert 'XKBLAYOUT="de"' in inside("cat", "/etc/default/keyboard")


def test_users_are_there(inside):
    assert inside("id", "-nG", "app").split() == ["app", "adm", "workers"]
    assert inside("getent", "passwd", "app").split(":")[4:] == ["The App", "/home/app", "/bin/bash\n"]
    assert inside("getent", "shadow", "app").split(":")[1] == HASH
    assert inside("cat", "/home/app/.ssh/authorized_keys") == "ssh-ed25519 AAAA app@example\n"
    assert inside("su", "app", "-c", "sudo -n id -u") == "0\n"
    assert "ssh-ed25519 AAAA me@example" in inside("cat", "/home/debian/.ssh/authorized_keys")


def test_files_are_written_with_the_instances_own_values(inside, debian):
    status = debian.status("set")
    dip = status["instances"][0]["dip"]
    assert inside("cat", "/etc/app/web.conf") == f"web-0 0 {dip} {dip} 1 {status['vip']} {{{{x}}}}\n"
    assert inside("stat", "-c", "%U:%G %a", "/etc/app/web.conf") == "app:workers 640\n"
    assert inside("cat", "/etc/app/plain") == "{{x}}"
    assert json.loads(inside("cat", "/etc/vmrole/settings.json")) == {"COLOUR": "blue of web-0"}
    assert inside("vmrole-hello") == "from a package\n"


def test_certificates_are_where_the_system_looks(inside):
    assert inside("openssl", "verify", "-CApath", "/etc/ssl/certs", "/etc/ssl/certs/web.pem").endswith(": OK\n")
    assert inside("stat", "-c", "%a", "/etc/ssl/private/web.key") == "600\n"
    assert "PRIVATE KEY" not in inside("cat", "/etc/ssl/certs/web.pem")


def test_the_network_is_as_asked(inside, debian):
    (nic,) = json.loads(inside("ip", "-json", "address", "show", "eth0"))
    (own,) = [info for info in nic["addr_info"] if info["family"] == "inet"]
    assert (own["local"], own.get("dynamic", False)) == (debian.instance("set", "web-0")["dip"], False)
    assert "default via" in inside("ip", "route")
    resolv = inside("cat", "/run/systemd/resolve/resolv.conf")
    assert re.search(r"^search .*hello\.internal .*example\.org", resolv, re.MULTILINE)
    assert inside("getent", "hosts", "web-0.set.internal").split()[0] == own["local"]
    assert "192.0.2.7" in inside("sh", "-c", "cat /etc/systemd/timesyncd.conf.d/*")


def test_cloud_init_finds_nothing_wrong_with_our_words(inside):
    said = inside("sh", "-c", "cloud-init schema -c /var/lib/cloud/instance/cloud-config.txt 2>&1")
    assert "Valid cloud-config" in said
    assert "eprecat" not in said


def test_what_each_command_printed_is_kept(inside):
    folder = "/var/lib/vmrole/setup/set.production.web-0.g1"
    assert inside("cat", f"{folder}/001-first_boot.out") == "a word to the wise\n"
    codes = inside("sh", "-c", f"cat {folder}/*.code").split()
    assert codes == ["0"] * 6  # the disks, three of run, one of every boot, one start-up task
    assert inside("cat", "/srv/log").splitlines() == FIRST


def test_a_failed_startup_task_keeps_it_out_and_a_reimage_sets_up_again(inside, debian):
    """A reboot runs what is of every boot and nothing else; a new generation runs all of it."""
    inside("touch", "/srv/broken")
    done = debian.run("reboot", "set/web-0", timeout=720)
    assert done.code == 1
    assert "start-up task migrate failed with exit code 3: the schema is too old" in done.err
    assert debian.instance("set", "web-0")["in_rotation"] is False
    assert inside("cat", "/srv/log").splitlines() == [*FIRST, "every-boot", "every-start"]
    inside("sh", "-c", "rm /srv/broken /srv/log")

    debian.ok("reimage", "set/web-0", timeout=720)
    assert inside("cat", "/srv/log").splitlines() == FIRST
    assert inside("cat", "/etc/app/web.conf").split()[4] == "2"
    assert debian.instance("set", "web-0")["in_rotation"] is True


def test_a_command_that_fails_is_setups_failure_and_the_next_ones_do_not_run(lab, tmp_path):
    """On the small image, with the same words as on an ordinary one."""
    run = [{"run": "echo the database is not there >&2; exit 4", "name": "database"}, "touch /root/next"]
    done = lab.run("up", write(tmp_path / "f.yaml", service("fails", setup={"run": run})))
    assert done.code == 1
    assert "run database failed with exit code 4: the database is not there" in done.err
    assert lab.run("exec", "fails/web-0", "--", "test", "-e", "/root/next").code == 1


def test_nothing_is_ready_before_its_startup_tasks_ended(lab, tmp_path):
    tasks = [
        {"run": "sleep 6; echo done >/root/task", "name": "slow"},
        {"run": "sleep 60", "name": "hangs", "timeout": "3s"},
    ]
    file = write(tmp_path / "s.yaml", service("slow", setup={"startup_tasks": tasks}))
    done = lab.run("up", file)
    assert done.code == 1
    assert "start-up task slow" in done.out + done.err  # what it waited for
    assert "start-up task hangs did not end in time" in done.err
    assert "run `vmrole reboot`" in done.err
    assert lab.ok("exec", "slow/web-0", "--", "cat", "/root/task").out == "done\n"
    assert lab.instance("slow", "web-0")["timeline"]["services"] is None
    ok = write(tmp_path / "s.yaml", service("slow", setup={"startup_tasks": tasks[:1]}))
    lab.ok("up", ok)
    line = lab.instance("slow", "web-0")["timeline"]
    assert line["services"] - line["agent"] >= 5


def test_a_command_may_reboot_the_machine_and_the_next_one_goes_on(lab, tmp_path):
    run = ["echo one >>/root/log; sync; reboot; sleep 30", "echo two >>/root/log"]
    lab.ok("up", write(tmp_path / "r.yaml", service("twice", setup={"run": run})))
    assert lab.ok("exec", "twice/web-0", "--", "cat", "/root/log").out == "one\ntwo\n"
