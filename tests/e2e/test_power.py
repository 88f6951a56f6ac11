"""Deaths of what vmrole stands on, and of its store: services come back as they were wanted, with their disks."""

import contextlib
import json
import os
import signal
import sqlite3

import pytest

from orchestrator.lab import nodes
from tests.e2e.conftest import eventually, fetch, service, write

pytestmark = pytest.mark.vm

DISKS = {
    "local_storage": {"cache": {"size": "16MiB", "mount": "/var/cache/app"}},
    "volumes": {"data": {"size": "16MiB", "mount": "/srv"}},
}
MARK = "for place in /root /var/cache/app /srv; do echo kept > $place/marker; done; sync"


@pytest.fixture(scope="module")
def power(shared_lab, tmp_path_factory):
    """A service of two instances for all of these, each with a marker on every disk: each test leaves it ready."""
    file = write(tmp_path_factory.mktemp("power") / "power.yaml", service("power", instances=2, **DISKS))
    shared_lab.ok("up", file)
    for name in ("web-0", "web-1"):
        shared_lab.ok("exec", f"power/{name}", "--", "sh", "-c", MARK)
    yield shared_lab, file
    shared_lab.ok("down", "power", "--volumes", "--yes")
    assert shared_lab.remains() == []


def generations(lab):
    return [i["generation"] for i in lab.status("power")["instances"]]


def check(lab, before):
    """Both serve, as the same generations and on the disks that they had."""
    status = lab.status("power")
    assert [(i["state"], i["generation"]) for i in status["instances"]] == [("ready", number) for number in before]
    for name in ("web-0", "web-1"):
        shown = lab.ok("exec", f"power/{name}", "--", "cat", "/root/marker", "/var/cache/app/marker", "/srv/marker").out
        assert shown == "kept\n" * 3
    assert {fetch(f"http://{status['vip']}/").split()[0] for _ in range(4)} == {"web-0", "web-1"}
    assert len(lab.domains()) == 2


def faults(lab):
    """Those of guests; what was wrong with HAProxy is told of the deployment."""
    events = [json.loads(row) for row in lab.ok("events", "power", "--json").out.splitlines()]
    return [e for e in events if e["what"].startswith("fault") and e["subject"].startswith("power.production.web-")]


def test_qemu_libvirtd_and_haproxy_killed(power):
    lab, file = power
    before = generations(lab)
    pid = lab.inside("pgrep", "-f", "guest=power.production.web-0").out.split()[0]
    lab.inside("kill", "-9", pid)
    lab.ok("up", file)
    check(lab, before)
    assert len(faults(lab)) == 1
    lab.inside("sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
    eventually(lambda: lab.run("up", file).code == 0, "libvirtd is back", 30)
    check(lab, before)
    lab.inside("pkill", "-9", "haproxy", host="edge")
    lab.ok("up", file)
    check(lab, before)
    assert len(faults(lab)) == 1  # no guest was touched for either


def test_power_loss_of_the_whole_lab(power):
    lab, file = power
    before = generations(lab)
    lab.ok("stop", "power/web-1")
    for node in nodes.find(lab.home):
        os.kill(node.pid, signal.SIGKILL)  # a namespace's first process: all others in it go with it
    lab.ok("lab", "up")
    lab.ok("up", file)
    states = {i["name"]: i["state"] for i in lab.status("power")["instances"]}
    assert states == {"web-0": "ready", "web-1": "stopped"}  # as it was wanted
    lab.ok("start", "power/web-1")
    check(lab, before)


@pytest.mark.parametrize("harm", ["lost", "damaged"])
def test_a_store_that_is_gone_is_rebuilt_from_the_hosts(power, harm):
    lab, file = power
    lab.ok("reimage", "power/web-1")
    lab.ok("exec", "power/web-1", "--", "sh", "-c", MARK)
    before = {i["name"]: [i[key] for key in ("generation", "dip", "mac", "host", "domain")]
              for i in lab.status("power")["instances"]}  # fmt: skip
    assert before["web-1"][0] > before["web-0"][0]
    uptime = lab.ok("exec", "power/web-0", "--", "cat", "/proc/sys/kernel/random/boot_id").out
    store = lab.home / "vmrole.db"
    if harm == "lost":
        for suffix in ("", "-wal", "-shm"):
            store.with_name(store.name + suffix).unlink(missing_ok=True)
        assert lab.run("status", "power").code == 2
    else:
        assert not store.with_name(f"{store.name}-wal").exists()  # nobody has it open: every command has closed it
        with store.open("r+b") as damaged:
            damaged.write(b"not a database at all" * 100)
        refused = lab.run("ls")
        assert refused.code == 1
        assert "vmrole recover" in refused.err
    said = lab.ok("recover").out
    for name, (generation, *_rest) in before.items():
        assert f"power/{name}: generation {generation}" in said
    # `up` on the same file: it was all found, nothing is made anew.
    lab.ok("up", file)
    after = {i["name"]: [i[key] for key in ("generation", "dip", "mac", "host", "domain")]
             for i in lab.status("power")["instances"]}  # fmt: skip
    assert after == before
    assert lab.ok("exec", "power/web-0", "--", "cat", "/proc/sys/kernel/random/boot_id").out == uptime
    assert "nothing to change" in lab.ok("up", file).out
    assert "nothing to recover" in lab.ok("recover").out
    assert lab.ok("exec", "power/web-1", "--", "cat", "/srv/marker").out == "kept\n"
    with contextlib.closing(sqlite3.connect(store)) as db:  # its own `with` ends a transaction, not the connection
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
