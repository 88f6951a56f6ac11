"""kill -9 of vmrole after every external effect of every change: whoever comes next converges.

The effects are found by instrumenting the ports (``cut.py``), not by hand. A change is carried out by a chain of
processes: each gets a little further than the one before, dies at the first point where none has died yet, and the
last one gets through. `make soak` has one die just before every effect, too: what it leaves then is what is left
after the effect before that one.
"""

import os
import signal
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT, fetch, service, write

pytestmark = pytest.mark.vm

MOST = 200  # processes in one chain
SIDES = os.environ.get("VMROLE_CUTS", "after")  # `make soak` asks for both


def chain(lab, tmp_path, *argv, sides=SIDES):
    """Run a command again and again, each time killed at the next point; the points at which it died."""
    points = tmp_path / "points"
    points.write_text("")
    for _process in range(MOST):
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.cut", str(points), sides, "--", *argv],
            env={**lab.env, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        if done.returncode != -signal.SIGKILL:
            # Killed just after the very last effect of a `down` there is nothing left to be taken down.
            assert done.returncode == 0 or "there is no service" in done.stderr, done.stderr
            return points.read_text().splitlines()
    raise AssertionError(f"no end after {MOST} processes: {points.read_text()}")


@pytest.fixture
def cut(lab, tmp_path, capsys):
    counts = {}

    def run(what, *argv):
        counts[what] = chain(lab, tmp_path, *argv)
        return len(counts[what])

    yield run
    for points in counts.values():
        print("".join(f"{point}\n" for point in points))
    with capsys.disabled():  # for whoever reads the run: how many there were
        told = ", ".join(f"{what} {len(points)}" for what, points in counts.items())
        print(f"\nkilled at ({SIDES}) every effect: {told}; {sum(map(len, counts.values()))} points in all")


def check(lab, *, instances, generations):
    """Exactly one machine for each instance, its files and nothing else, and the VIP answers from each."""
    status = lab.status("cut")
    names = [f"web-{n}" for n in range(instances)]
    assert [(i["name"], i["state"]) for i in status["instances"]] == [(name, "ready") for name in names]
    assert [i["generation"] for i in status["instances"]] == generations
    machines = [i["domain"] for i in status["instances"]]
    assert lab.domains() == sorted(machines)
    kinds = ("overlay.qcow2", "console.log")
    needed = {f"{machine}.{kind}" for machine in machines for kind in kinds}
    needed |= {f"cut.production.{name}.{disk}" for name in names for disk in ("cache.p1.local.raw", "data.volume.raw")}
    known = {v for v in lab.volumes() if not v.startswith("base.") and not v.endswith((".json", ".ok"))}
    kept = {f"{i['domain'].rpartition('.g')[0]}.g{i['generation'] - 1}.overlay.qcow2" for i in status["instances"]}
    assert needed <= known
    assert known - needed - kept <= {f"cut.production.web-{n}.data.volume.raw" for n in range(3)}
    pages = {fetch(f"http://{status['vip']}/").split()[0] for _ in range(3 * instances)}
    assert pages == set(names)


def test_killed_at_every_effect_of_every_change(lab, tmp_path, cut):
    disks = {
        "local_storage": {"cache": {"size": "16MiB", "mount": "/var/cache/app"}},
        "volumes": {"data": {"size": "16MiB", "mount": "/srv"}},
    }
    one, two = (write(tmp_path / f"{n}.yaml", service("cut", instances=n, **disks)) for n in (1, 2))
    assert cut("up", "up", one) > 15
    check(lab, instances=1, generations=[1])
    lab.ok("exec", "cut/web-0", "--", "sh", "-c", "echo mine > /srv/whose; sync")
    lab.ok("reimage", "cut/web-0", "--no-wait")
    assert cut("reimage", "up", one) > 10
    check(lab, instances=1, generations=[2])
    lab.ok("reboot", "cut/web-0", "--no-wait")
    assert cut("reboot", "up", one) > 5
    lab.ok("relocate", "cut/web-0", "--same-host", "--yes", "--no-wait")
    assert cut("relocate", "up", one) > 10
    assert lab.ok("exec", "cut/web-0", "--", "cat", "/srv/whose").out == "mine\n"
    assert cut("scale out", "up", two) > 10
    assert cut("scale in", "up", one) > 5
    assert cut("down", "down", "cut", "--volumes", "--yes") > 10
    assert lab.remains() == []
