"""Measures what vmrole itself costs, apart from the guest's own boot, and prints one table. `make bench`.

Every figure is a median of real runs in one lab, in one go; versions and accelerator stand beside them. Names of groups
as arguments (`python -m tests.bench swap seed`) measure those only.
"""

import argparse
import contextlib
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
from datetime import datetime

from tests.bench.events import event_rows
from tests.bench.images import image_rows
from tests.bench.scale import agent_rows, scale_rows
from tests.bench.seed import seed_row
from tests.bench.swap import swap_rows
from tests.bench.upgrade import upgrade_rows
from tests.e2e.conftest import CACHE, VMROLE, Lab, service, write

ROUNDS = 8
ACTS = 5
NOOPS = 9


def one_by_one(lab, home):
    """One instance at a time, on a host that has the image already."""
    lab.ok("up", write(home / "hold.yaml", service("hold")))
    runs = [once(lab, home, f"run{number}") for number in range(ROUNDS)]
    controller, agent, rotation = zip(*runs, strict=True)
    return [
        ("controller: requested -> QEMU running", controller, "0.8"),
        ("guest's own boot: QEMU running -> agent", agent, ""),
        ("rotation: services up -> first 200 at the VIP", rotation, "0.5"),
    ]


def once(lab, home, name):
    # The VIP is known beforehand: the lowest free one.
    vip = json.loads(lab.ok("plan", write(home / "run.yaml", service(name)), "--json").out)["vip"]
    answered = []
    watcher = threading.Thread(target=watch, args=(f"http://{vip}/", answered), daemon=True)
    watcher.start()
    lab.ok("up", str(home / "run.yaml"))
    watcher.join(timeout=10)
    line = lab.instance(name, "web-0")["timeline"]
    lab.ok("down", name, "--yes")
    first = answered[0]
    return line["started"] - line["requested"], line["agent"] - line["started"], max(0.0, first - line["services"])


def watch(url, answered):
    """Ask until the first 200, and note when that was."""
    deadline = time.time() + 120
    while time.time() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=2):
                answered.append(time.time())
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.01)


def two_at_once(lab, home):
    """The same for two instances of one `up`: what they take from each other."""
    taken = []
    for number in range(3):
        lab.ok("up", write(home / "two.yaml", service(f"two{number}", instances=2)))
        taken += [i["timeline"] for i in lab.status(f"two{number}")["instances"]]
        lab.ok("down", f"two{number}", "--yes")
    return [("controller, two at once", [line["started"] - line["requested"] for line in taken], "0.8")]


CREATE = """
import subprocess, sys, time
base, new, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
for _ in range(rounds):
    begun = time.perf_counter()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", new], check=True)
    print(time.perf_counter() - begun)
"""


def overlays(lab, home):
    """An overlay made through libvirt, by our loop, against qemu-img on the same base and file system."""
    ours = []
    lab.ok("up", write(home / "keep.yaml", service("keep")))
    for number in range(ACTS):
        log = lab.ok("-v", "up", write(home / "over.yaml", service(f"over{number}")), "--no-wait").err
        ours.append(int(re.search(r"CreateOverlay, (\d+) ms", log).group(1)) / 1000)
        lab.ok("down", f"over{number}", "--yes")
    (base,) = (v for v in lab.volumes() if v.startswith("base.") and v.endswith(".qcow2"))
    folder = f"/var/lib/libvirt/images/{lab.virsh('pool-list', '--name').strip()}"
    argv = ["python3", "-c", CREATE, f"{folder}/{base}", "/run/overlay.qcow2", str(ACTS)]
    plain = [float(row) for row in lab.inside(*argv).out.split()]
    return [("overlay, by the loop through libvirt", ours, ""), ("overlay, `qemu-img create`", plain, "")]


def acts(lab, home):
    """How long an instance is out of rotation, against what the guest alone needs for the same."""
    disks = {"volumes": {"data": {"size": "16MiB", "mount": "/srv"}}}
    lab.ok("up", write(home / "acts.yaml", service("acts", **disks)))
    vip = lab.status("acts")["vip"]
    boots, reimages, reboots, own = [], [], [], []
    for _round in range(ACTS):
        log = []
        reimages.append(gap(vip, lambda log=log: log.append(lab.ok("-v", "reimage", "acts/web-0").err)))
        boots.append(lab.instance("acts", "web-0")["timeline"]["rotation"] - powered_on(log[0]))
        reboots.append(gap(vip, lambda: lab.ok("reboot", "acts/web-0")))
        own.append(gap(vip, lambda: rebooted_from_inside(lab, home)))
    lab.ok("down", "acts", "--volumes", "--yes")
    return [
        ("bare boot: power on -> in rotation", boots, ""),
        ("reimage: no answer at the VIP", reimages, ""),
        ("  against the bare boot of the same machine", ratios(reimages, boots), "1.15"),
        ("reboot: no answer at the VIP", reboots, ""),
        ("the guest's own `reboot`: no answer at the VIP", own, ""),
        ("  reboot against the guest's own", ratios(reboots, own), ""),
    ]


def powered_on(log):
    """When the machine was powered on, in Unix seconds: the step's end in the log, less the time that it took."""
    stamp, millis = re.search(r"^(\S+ \S+) INFO .* StartDomain, (\d+) ms$", log, re.MULTILINE).groups()
    return datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp() - int(millis) / 1000


def rebooted_from_inside(lab, home):
    boot = lab.instance("acts", "web-0")["boot"]
    lab.run("exec", "acts/web-0", "--", "reboot")
    deadline = time.time() + 120
    while lab.instance("acts", "web-0")["boot"] == boot and time.time() < deadline:
        lab.ok("up", str(home / "acts.yaml"))
        time.sleep(0.5)


def ratios(some, others):
    return [one / other for one, other in zip(some, others, strict=True)]


def gap(vip, act):
    """The longest time without an answer at the VIP while ``act`` goes on, in seconds."""
    answers, over = [time.time()], threading.Event()
    asker = threading.Thread(target=ask, args=(f"http://{vip}/", answers, over), daemon=True)
    asker.start()
    act()
    time.sleep(0.5)
    over.set()
    asker.join(timeout=10)
    return max(after - before for before, after in itertools.pairwise(answers))


def ask(url, answers, over):
    while not over.is_set():
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=1):
            answers.append(time.time())
        time.sleep(0.01)


def no_op(lab, home):
    lab.ok("up", write(home / "noop.yaml", service("noop", instances=2)))
    return [
        ("`up` that changes nothing", [timed(lab.env, "up", str(home / "noop.yaml")) for _ in range(NOOPS)], "0.5"),
        ("`status --json`", [timed(lab.env, "status", "noop", "--json") for _ in range(NOOPS)], ""),
    ]


def help_time():
    return "`vmrole --help`", [timed(os.environ, "--help") for _ in range(NOOPS)], "0.3"


def timed(env, *args):
    begun = time.perf_counter()
    subprocess.run([str(VMROLE), *args], env=env, check=True, capture_output=True)
    return time.perf_counter() - begun


def print_head(lab):
    nodes = json.loads(lab.ok("lab", "ls", "--json").out)
    accelerator = next(node["accelerator"] for node in nodes if node.get("accelerator"))
    versions = lab.inside(
        "sh", "-c", "qemu-system-x86_64 --version | head -n 1; libvirtd --version; haproxy -v | head -n 1"
    )
    print("; ".join(versions.out.split("\n")).strip("; "))
    print(f"accelerator {accelerator}, {os.cpu_count()} cores, image tiny, 1 vCPU, 128 MiB")
    print(f"{'':50}  {'median s':>9}  {'min':>7}  {'max':>7}  {'n':>3}  aim", flush=True)


def print_rows(rows):
    for name, values, aim in rows:
        cells = (statistics.median(values), min(values), max(values))
        print(f"{name:50}  {cells[0]:9.3f}  {cells[1]:7.3f}  {cells[2]:7.3f}  {len(values):3}  {aim}", flush=True)


GROUPS = {  # by the lab and its home; a host with nothing of ours on it comes first
    "scale": lambda _lab, _home: scale_rows(),
    "one": one_by_one,
    "two": two_at_once,
    "no-op": no_op,
    "help": lambda _lab, _home: [help_time()],
    "overlays": overlays,
    "acts": acts,
    "swap": swap_rows,
    "seed": lambda _lab, _home: [seed_row()],
    "events": event_rows,
    "images": lambda _lab, home: image_rows(home),
    "agent": agent_rows,
    "upgrade": upgrade_rows,
}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, and print the table.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"only these of: {', '.join(GROUPS)}")
    groups = parser.parse_args().groups or [*GROUPS]
    unknown = [name for name in groups if name not in GROUPS]
    if unknown:
        parser.error(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    home = CACHE / "test-homes" / f"bench-{os.getpid()}"
    home.mkdir(parents=True)
    lab = Lab(home)
    try:
        lab.ok("lab", "up")
        lab.ok("image", "build", "tiny", timeout=600)
        print_head(lab)
        failed = [name for name in groups if not measured(name, lab, home)]
    finally:
        lab.ok("lab", "down")
        shutil.rmtree(home)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def measured(name, lab, home):
    """Print a group's rows as soon as they are there; an error costs the others nothing."""
    try:
        print_rows(GROUPS[name](lab, home))
    except Exception:  # noqa: BLE001 - whatever it was, the other groups are measured
        traceback.print_exc()
        lab.forget_all()
        return False
    return True


if __name__ == "__main__":
    main()
