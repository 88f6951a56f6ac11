"""A steady load from a public load generator (hey) while everything that changes the rotation is done: what it costs.

The rate is bounded, and it goes to the lab's VIP only.
"""

import csv
import io
import itertools
import re
import signal
import subprocess
import time
from dataclasses import dataclass

import pytest

from tests.e2e import standing
from tests.e2e.conftest import PATIENCE, service, write

pytestmark = [pytest.mark.vm, pytest.mark.alone]

ARGV = ["hey", "-z", f"{120 * PATIENCE:.0f}s", "-c", "2", "-q", "5", "-t", "10"]  # 10 requests a second


@dataclass(frozen=True)
class Load:
    """What became of the requests. ``gap_s``: the longest time between two good answers."""

    asked: int
    failed: int
    gap_s: float
    errors: str


class Hey:
    """Three of them: two count every failure, with kept connections and with new ones; one times each good answer."""

    def __init__(self, url):
        fresh = [*ARGV, "-disable-keepalive"]
        self._all = [self._start(*argv, url) for argv in (ARGV, fresh, [*fresh, "-o", "csv"])]
        time.sleep(1)

    def _start(self, *argv):
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def stop(self):
        time.sleep(1)
        for each in self._all:
            each.send_signal(signal.SIGINT)
        kept, fresh, timed = (each.communicate(timeout=30)[0] for each in self._all)
        rows = [row for said in (kept, fresh) for row in outcomes(said)]
        failed = {what: count for what, count in rows if what != "200"}
        return Load(sum(count for _what, count in rows), sum(failed.values()), gap(timed), "; ".join(failed))


def outcomes(text):
    """(status or error, how often) from hey's summary: ``[200] 7 responses``, ``[2] Get "…": EOF``."""
    for first, rest in re.findall(r"^\s+\[(\d+)\]\s+(.*)$", text, re.MULTILINE):
        counted = re.fullmatch(r"(\d+) responses", rest)
        yield (first, int(counted.group(1))) if counted else (rest, int(first))


def gap(text):
    """From the rows of a csv: when the last of each two good answers had come, less when the one before had."""
    rows = csv.DictReader(io.StringIO(text))
    ends = sorted(float(r["offset"]) + float(r["response-time"]) for r in rows if r["status-code"] == "200")
    assert len(ends) > 10, text
    return max(after - before for before, after in itertools.pairwise(ends))


@pytest.fixture
def flow(lab, tmp_path):
    """Two instances, and a way to change their endpoints."""

    def file(**more):
        http = {"port": 80, "protocol": "http", "check": {"path": "/healthz"}}
        return write(tmp_path / "flow.yaml", service("flow", instances=2, endpoints={"http": http, **more}))

    lab.ok("up", file())
    return file


def drain(lab):
    lab.ok("stop", "flow/web-1")
    lab.ok("start", "flow/web-1")


def death(lab):
    """HAProxy and all its processes are killed under a loop that stands by."""
    with standing.loop(lab):
        time.sleep(2)
        standing.kill_haproxy(lab)
        time.sleep(4)


ACTS = {
    "reboot --all": lambda lab, _file: lab.ok("reboot", "flow", "--all"),
    "reimage --all": lambda lab, _file: lab.ok("reimage", "flow", "--all"),
    "stop, start": lambda lab, _file: drain(lab),
    "reload": lambda lab, file: [lab.ok("up", file(more={"port": port, "target": 80})) for port in (81, 82, 83)],
    "HAProxy killed": lambda lab, _file: death(lab),
}


def test_what_a_change_of_rotation_costs(lab, flow, capsys):
    vip = lab.status("flow")["vip"]
    found = {}
    for name, act in ACTS.items():
        begun = time.monotonic()
        load = Hey(f"http://{vip}/")
        act(lab, flow)
        found[name] = load.stop(), time.monotonic() - begun
    with capsys.disabled():
        print(f"\n{'':16} {'took s':>7} {'requests':>9} {'failed':>7} {'longest gap s':>14}")
        for name, (load, took) in found.items():
            print(f"{name:16} {took:7.1f} {load.asked:9} {load.failed:7} {load.gap_s:14.2f}  {load.errors[:150]}")
    quiet = {name: load for name, (load, _took) in found.items() if name != "HAProxy killed"}
    assert {name: (load.failed, load.errors) for name, load in quiet.items()} == dict.fromkeys(quiet, (0, ""))
    assert found["HAProxy killed"][0].gap_s <= 2
    assert all(load.asked > 20 for load in quiet.values())
    assert [i["generation"] for i in lab.status("flow")["instances"]] == [2, 2]
