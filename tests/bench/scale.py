"""What a loop costs that has nothing to do: a thousand instances in fakes, fifty domains at libvirt's test driver."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from orchestrator.control.observe import Observer
from orchestrator.engine.plan import plan
from tests.e2e.conftest import service as real_service
from tests.e2e.conftest import write
from tests.fakes.build import role, service
from tests.fakes.world import FakeWorld

ROOT = Path(__file__).parents[2]
ROUNDS = 5
IDLE_S = 30.0


def scale_rows():
    idle, mib = idle_cost()
    return [
        ("1000 instances: one look (fakes) and its plan", thousand(), "1"),
        ("idle, 50 domains (test driver): share of a core", [idle], "0.03"),
        ("  memory, MiB", [mib], "150"),
    ]


def thousand():
    """Seconds for a look and a plan, of a world at rest."""
    world = FakeWorld("a", "b", "c", "d")
    for number in range(50):
        world.up(service(role(instances=20), name=f"s{number}"))
    made = world.settle()
    assert len(made.instances) == 1000
    observer = Observer(world.hosts, world.guests, world.balancer)
    taken = [once(observer, world) for _round in range(ROUNDS)]
    observer.close()
    return taken


def once(observer, world):
    begun, now = time.perf_counter(), world.clock.now()
    intent = world.store.intent()
    made = plan(intent, observer.look(intent, {}, frozenset(), now), now)
    assert made.steps == ()
    return time.perf_counter() - begun


def idle_cost():
    """The share of a core and the MiB of a process that runs the loop for 50 domains which do not change."""
    argv = [sys.executable, "-m", "tests.bench.idle", str(IDLE_S)]
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    share, mib = re.findall(rb"[0-9.]+", done.stdout)[:2]
    return float(share), float(mib)


# In place of the guest's own: the agent comes when everything else has been up for a while, as on a large machine.
LATE_AGENT = """#!/bin/busybox sh
until sv -w 1 check /etc/service/httpd /etc/service/dropbear >/dev/null 2>&1; do usleep 200000; done
sleep 2
exec qemu-ga -m virtio-serial -p /dev/virtio-ports/org.qemu.guest_agent.0 -t /run
"""


def agent_rows(lab, home):
    """From libvirt's event that the agent is there until it is stored that the guest is ready, boot by boot.

    Everything else in the guest has been up for a while by then: what is waited for is only the loop, the agent's
    answers, and the guest's own check of its services, twice. No other service: the rows name instances without theirs.
    """
    lab.forget_all()
    setup = {"files": [{"path": "/etc/sv/qemu-ga/run", "content": LATE_AGENT, "mode": "0755"}]}
    lab.ok("up", write(home / "agent.yaml", real_service("agent", setup=setup)))
    argv = [sys.executable, "-m", "tests.e2e.watcher", "400", "tick"]
    env = {**lab.env, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as child:
        try:
            taken = [until_decided(lab, child.stdout) for _round in range(ROUNDS)]
        finally:
            child.terminate()
    lab.ok("down", "agent", "--yes")
    return [("agent there (event) -> decided that it is ready", taken, "0.3")]


def until_decided(lab, rows):
    lab.ok("exec", "agent/web-0", "--", "sh", "-c", "(sleep 1; reboot) >/dev/null 2>&1 &")
    events, boots = [], []
    for text in rows:
        row = json.loads(text)
        events += row["events"]
        boots.append(row["up"]["web-0"])
        if boots[-1] > boots[0]:
            end = row["decided"]["web-0"]
            return end - max(at for at in events if at < end)
    raise AssertionError("the loop that is watched has ended")
