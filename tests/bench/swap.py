"""What a swap costs: the controller's time, from the store to HAProxy, and the requests that come meanwhile."""

import contextlib
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

from tests.e2e.conftest import CACHE, ROOT, service, write

ROUNDS = 40
PAUSE_S = 0.25
QUIET_S = ROUNDS * PAUSE_S

# As `vmrole swap` does it, but in one process: what the interpreter needs to start is another row's.
PROGRAM = """
import json, pathlib, sys, time
from orchestrator.engine.rotation import frontends, routes, signature
from orchestrator.engine.swap import pair, swapped
from orchestrator.wiring import wired
home, cache = map(pathlib.Path, sys.argv[1:3])
with wired(home, None, cache, lambda _text: None) as wiring, wiring.lease.try_hold():
    def wait(seconds, ticks=wiring.loop.tick):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            ticks()
            time.sleep(min(left, 0.1))
    wait(2)
    ended, route = [], wiring.balancer.route
    wiring.balancer.route = lambda fronts: (route(fronts), ended.append(time.perf_counter()))
    taken = []
    for _round in range(int(sys.argv[3])):
        two = pair(wiring.store.intent(), "swapped")
        begun = time.perf_counter()
        after = swapped(two)
        wiring.store.save_deployments([after.live, after.coming], [])
        wiring.loop.tick()
        taken.append(ended.pop() - begun)
        now = wiring.store.intent().deployments
        assert wiring.balancer.observe().routes == signature(routes(frontends(now)))
        wait(float(sys.argv[4]))
    print(json.dumps(taken))
"""


def swap_rows(lab, home):
    """The controller's time, and the latency of requests with swaps and without, over connections of their own."""
    file = write(home / "swapped.yaml", service("swapped"))
    lab.ok("up", file)
    lab.ok("up", file, "--slot", "staging")
    url = f"http://{lab.status('swapped')['vip']}/"
    quiet = asked(url, lambda: swaps(lab, 0))
    taken: list[float] = []
    busy = asked(url, lambda: taken.extend(swaps(lab, ROUNDS)))
    for slot in ("production", "staging"):
        lab.ok("down", "swapped", "--slot", slot, "--yes")
    failed = [seconds for seconds in (*quiet, *busy) if seconds is None]
    assert not failed, f"{len(failed)} of {len(quiet) + len(busy)} requests failed"
    return [
        ("swap: stored, planned, routed by HAProxy", taken, "0.020"),
        ("request at the VIP, the loop at rest", quiet, ""),
        (f"request at the VIP, {ROUNDS} swaps meanwhile", busy, ""),
    ]


def swaps(lab, rounds):
    """How long each of so many swaps took the loop; without any, the same loop runs for as long."""
    argv = [sys.executable, "-c", PROGRAM, str(lab.home), str(CACHE), str(rounds), str(PAUSE_S)]
    if not rounds:
        program = PROGRAM.replace("wait(2)", f"wait({2 + QUIET_S})")
        argv[2] = program
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def asked(url, act):
    """The seconds of each request while ``act`` goes on; None for one that failed."""
    found: list[float | None] = []
    over = threading.Event()
    asker = threading.Thread(target=ask, args=(url, found, over), daemon=True)
    asker.start()
    act()
    over.set()
    asker.join(timeout=10)
    return found


def ask(url, found, over):
    while not over.is_set():
        begun, seconds = time.perf_counter(), None
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            seconds = time.perf_counter() - begun
        found.append(seconds)
        time.sleep(0.02)
