"""What a loop costs that has nothing to do: a thousand instances in fakes, fifty domains at libvirt's test driver."""

import itertools
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
READY = {"web-0": "ready"}


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


def agent_rows(lab, home):
    """From libvirt's event that the agent is there to the turn that says ready, of a guest that ran all the time."""
    lab.ok("up", write(home / "agent.yaml", real_service("agent")))
    argv = [sys.executable, "-m", "tests.e2e.watcher", "60", "tick"]
    env = {**lab.env, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    turn = "sv -w 5 force-stop /etc/service/qemu-ga; sleep 7; sv up /etc/service/qemu-ga; sleep 4"
    again = f"sleep 2; for turn in 1 2 3 4; do {turn}; done"
    lab.ok(
        "exec",
        "agent/web-0",
        "--",
        "sh",
        "-c",
        f"PATH=/usr/bin:$PATH setsid sh -c '{again}' >/dev/null 2>&1 </dev/null &",
    )
    rows = [json.loads(row) for row in child.communicate(timeout=120)[0].splitlines()]
    lab.ok("down", "agent", "--yes")
    events = [at for row in rows for at in row["events"]]
    ready = [b for a, b in itertools.pairwise(rows) if (a["states"], b["states"]) == ({"web-0": "unknown"}, READY)]
    ends = [row["at"] + row["took"] for row in ready]
    return [("agent there (event) -> ready", [end - max(at for at in events if at < end) for end in ends], "0.3")]
