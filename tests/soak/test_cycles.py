"""Reimage again and again: nothing grows, neither in this process nor in the world."""

import gc
import threading
from pathlib import Path

import pytest

from tests.e2e.conftest import service as real_service
from tests.e2e.conftest import write
from tests.fakes.build import role, service
from tests.fakes.world import FakeWorld
from tests.unit.test_converges import reimage

CYCLES = 500
WARM = 50
REAL_CYCLES = 20


def measured():
    gc.collect()
    status = Path("/proc/self/status").read_text().splitlines()
    rss_kib = int(next(row.split()[1] for row in status if row.startswith("VmRSS")))
    return {"fds": len(list(Path("/proc/self/fd").iterdir())), "threads": threading.active_count(), "rss_kib": rss_kib}


def test_five_hundred_reimages_leave_nothing_behind():
    world = FakeWorld("east", "west")
    world.up(service(role(instances=4)))
    world.settle()
    with world.loop() as loop:
        for cycle in range(CYCLES):
            world.faults.done.clear()
            world.ask(reimage)
            world.settle_by(loop)
            if cycle == WARM:
                before, files = measured(), count(world)
        after = measured()
    print(f"{CYCLES} cycles of 4 instances: {before} -> {after}; files on hosts {files} -> {count(world)}")
    assert {record.generation for record in world.store.intent().instances} == {CYCLES + 1}
    assert count(world) == files
    assert after["fds"] == before["fds"]
    assert after["threads"] <= before["threads"] + 2
    # What is told (events) is kept in memory by the fake store: the rest of the growth is ours.
    assert after["rss_kib"] - before["rss_kib"] < 10 * 1024


def count(world):
    return {name: len(host.volumes) for name, host in world.hosts.items()}


@pytest.mark.vm
def test_twenty_reimages_of_a_real_guest_leave_nothing_behind(lab, tmp_path):
    lab.ok("up", write(tmp_path / "soak.yaml", real_service("soak")))
    seen = []
    for _cycle in range(REAL_CYCLES):
        lab.ok("reimage", "soak/web-0")
        rss = lab.inside("sh", "-c", "grep VmRSS /proc/$(cat /run/libvirtd.pid)/status").out.split()[1]
        fds = lab.inside("sh", "-c", "ls /proc/$(cat /run/libvirtd.pid)/fd | wc -l").out.strip()
        seen.append((len(lab.volumes()), int(fds), int(rss)))
    print(f"{REAL_CYCLES} reimages: files, libvirtd's handles, its RSS in KiB: {seen[1]} -> {seen[-1]}")
    assert lab.instance("soak", "web-0")["generation"] == REAL_CYCLES + 1
    assert seen[-1][0] == seen[1][0]
    assert seen[-1][1] <= seen[1][1] + 2
