"""One bad thing stays one bad thing: a hostile agent on its real channel, and a libvirtd that is stopped."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE, ROOT, Lab, eventually, fetch, service, write

pytestmark = pytest.mark.vm

HOSTILE = (Path(__file__).parent / "hostile_agent.sh").read_text()
KINDS = HOSTILE.partition("for kind in ")[2].partition(";")[0].split()
KIND_S = 8
NOISE_S = 0.05  # of two cores that run two emulated guests and whatever else there is


def watcher(lab, seconds, mode):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.watcher", str(seconds), mode], cwd=ROOT, text=True,
        env={**lab.env, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def rows_of(child, timeout):
    out, err = child.communicate(timeout=timeout)
    assert child.returncode == 0, err
    assert "Traceback" not in err
    return [json.loads(line) for line in out.splitlines()]


def looks_of(rows, name):
    return [took for row in rows for who, took in row["looks"] if who == name]


def p95(values):
    return sorted(values)[int(len(values) * 0.95)]


def is_clean(text):
    return all(char.isprintable() or char == "\n" for char in text)


def test_a_hostile_agent_harms_nobody_but_its_own_instance(lab, tmp_path, capsys):
    setup = {"files": [{"path": "/root/hostile", "content": HOSTILE}]}
    lab.ok("up", write(tmp_path / "h.yaml", service("hostile", instances=2, setup=setup)))
    before = rows_of(watcher(lab, 10, "look"), 60)
    run = f"setsid /bin/busybox sh /root/hostile {KIND_S} >/dev/null 2>&1 </dev/null &"
    lab.ok("exec", "hostile/web-0", "--", "sh", "-c", run)
    time.sleep(4)
    begun = time.time()
    child = watcher(lab, KIND_S * len(KINDS) + 5, "look")
    time.sleep(12)  # in the middle of it people ask, too
    shown = lab.ok("status", "hostile").out + lab.ok("events", "hostile").out
    rows = rows_of(child, 200)

    domain = lab.instance("hostile", "web-0")["domain"]
    log = lab.inside("sh", "-c", f"cat /var/lib/libvirt/images/*/{domain}.console.log").out
    assert [kind for kind in KINDS if f"hostile: {kind}" not in log] == []
    bad = next(row["at"] for row in rows if row["states"]["web-0"] == "unknown")
    assert bad - begun < 20  # three silent looks, five seconds apart
    assert {row["states"]["web-1"] for row in rows} == {"ready"}
    assert {row["states"]["web-0"] for row in rows if bad <= row["at"] < bad + 5} == {"unknown"}
    assert is_clean(shown)
    assert all(is_clean(reason) for row in rows for reason in row["reasons"].values())
    grown_mib = (max(row["rss_kib"] for row in rows) - max(row["rss_kib"] for row in before)) / 1024
    assert grown_mib < 50
    quiet, loud = looks_of(before, "web-1"), looks_of(rows, "web-1")
    report = (
        f"{len(KINDS)} kinds: told after {bad - begun:.1f} s, {grown_mib:.1f} MiB more; looks at the other guest:"
        f" median {statistics.median(quiet) * 1000:.1f} -> {statistics.median(loud) * 1000:.1f} ms,"
        f" p95 {p95(quiet) * 1000:.1f} -> {p95(loud) * 1000:.1f} ms ({len(loud)} looks);"
        f" threads {max(row['threads'] for row in before)} -> {max(row['threads'] for row in rows)}"
    )
    with capsys.disabled():
        print(f"\n{report}")
    assert p95(loud) < p95(quiet) * 1.2 + NOISE_S, report
    assert statistics.median(loud) < statistics.median(quiet) * 1.2 + NOISE_S, report
    lab.ok("reimage", "hostile/web-0")
    assert lab.instance("hostile", "web-0")["state"] == "ready"


@pytest.fixture
def two_hosts(homes):
    home = homes / f"two hosts {os.getpid()}"
    lab = Lab(home)
    lab.ok("lab", "up", "--hosts", "2")
    lab.ok("image", "build", "tiny", timeout=600)
    yield lab
    lab.forget_all()
    lab.ok("lab", "down")
    shutil.rmtree(home)


def test_a_stopped_libvirtd_is_told_and_the_other_host_goes_on(two_hosts, tmp_path, capsys):
    lab = two_hosts
    lab.ok("up", write(tmp_path / "stop.yaml", service("stop", instances=2)))
    where = {i["name"]: i for i in lab.status("stop")["instances"]}
    (frozen,) = [i for i in where.values() if i["host"] == "h1"]
    (other,) = [i for i in where.values() if i["host"] == "h0"]
    quiet_s = reaction(lab, other, 15)
    pid = lab.inside("cat", "/run/libvirtd.pid", host="h1").out.strip()
    child = watcher(lab, 40, "tick")
    time.sleep(5)
    stopped = time.time()
    lab.inside("kill", "-STOP", pid, host="h1")
    try:
        time.sleep(14)
        killed = time.time()
        kill_qemu(lab, other)
        time.sleep(12)
    finally:
        continued = time.time()
        lab.inside("kill", "-CONT", pid, host="h1")
    rows = rows_of(child, 90)

    told = next(row["at"] for row in rows if row["states"][frozen["name"]] == "unknown")
    assert told - stopped < 20
    hung = [row for row in rows if told < row["at"] < continued]
    assert {row["states"][frozen["name"]] for row in hung} == {"unknown"}
    loud_s = next(row["at"] for row in rows if row["at"] > killed and row["states"][other["name"]] != "ready") - killed
    back = next(row for row in rows if row["at"] > killed + loud_s and row["states"][other["name"]] == "ready")
    assert back["at"] < continued, "the other instance was started again while the daemon was stopped"
    after = [row for row in rows if row["at"] > continued]
    turns = next(n for n, row in enumerate(after, 1) if row["states"][frozen["name"]] == "ready")
    waits = [row["took"] for row in hung if row["states"][other["name"]] == "ready"]
    with capsys.disabled():
        print(
            f"\nstopped: unknown after {told - stopped:.1f} s; the other's death noticed after {quiet_s:.2f} s before,"
            f" {loud_s:.2f} s then; an idle turn {statistics.median(waits) * 1000:.0f} ms; ready again after"
            f" {after[turns - 1]['at'] - continued:.1f} s, {turns} turns"
        )
    assert loud_s < quiet_s * 1.2 + 0.5
    assert turns <= 3  # the first may have begun before the daemon had answered
    assert statistics.median(waits) < 0.5 * PATIENCE
    machines = {
        host: lab.inside("virsh", "-q", "list", "--all", "--name", host=host).out.split() for host in ("h0", "h1")
    }
    assert machines == {"h0": [other["domain"]], "h1": [frozen["domain"]]}
    assert lab.instance("stop", frozen["name"])["boot"] == 1


def kill_qemu(lab, instance):
    pid = lab.inside("pgrep", "-f", f"guest={instance['domain']}", host=instance["host"]).out.split()[0]
    lab.inside("kill", f"-{int(signal.SIGKILL)}", pid, host=instance["host"])


def reaction(lab, instance, seconds):
    """How long it takes a loop to see that an instance's QEMU was killed; it is ready again afterwards."""
    child = watcher(lab, seconds, "tick")
    time.sleep(4)
    killed = time.time()
    kill_qemu(lab, instance)
    rows = rows_of(child, seconds + 60)
    seen = next(row["at"] for row in rows if row["at"] > killed and row["states"][instance["name"]] != "ready")
    eventually(lambda: fetch(f"http://{lab.status('stop')['vip']}/"), "it serves", 30)
    return seen - killed
