"""kill -9 of vmrole at every external effect of every change: whoever comes next converges, with nothing twice.

The effects are found by instrumenting the ports (``cut.py``), not by hand. Each process of a chain is killed at its
first effect, so that every effect of a change has a death just before and just after it.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, fetch, service, write

pytestmark = pytest.mark.vm

MOST = 200  # processes in one chain


def chain(lab, tmp_path, *argv):
    """Run a command again and again, each time killed at its first effect, before and after it by turns.

    Ends when it gets through; the names of the effects at which it died.
    """
    counter = tmp_path / "points"
    counter.write_text("")
    for number in range(MOST):
        side = "after" if number % 2 == 0 else "before"
        # Killed before its first effect it would never get on; before its second one it has had one.
        place = "1" if side == "after" else "2"
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.cut", side, place, str(counter), "--", *argv],
            env={**lab.env, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, timeout=300,
            check=False,
        )  # fmt: skip
        if done.returncode != -signal.SIGKILL:
            assert done.returncode == 0, done.stderr
            return counter.read_text().splitlines()
    raise AssertionError(f"no end after {MOST} processes: {counter.read_text()}")


@pytest.fixture
def cut(lab, tmp_path):
    found = {}

    def run(*argv):
        points = chain(lab, tmp_path, *argv)
        found[" ".join(Path(a).name for a in argv)] = points
        return points

    yield run
    for what, points in found.items():
        print(f"{len(points)} deaths in `{what}`: {', '.join(points)}")
    print(f"{sum(map(len, found.values()))} points in all")


def check(lab, *, instances, generations):
    """Exactly one machine for each instance, its files and nothing else, and the VIP answers from each."""
    status = lab.status("cut")
    names = [f"web-{n}" for n in range(instances)]
    assert [(i["name"], i["state"]) for i in status["instances"]] == [(name, "ready") for name in names]
    assert [i["generation"] for i in status["instances"]] == generations
    machines = [i["domain"] for i in status["instances"]]
    assert lab.domains() == sorted(machines)
    kinds = ("overlay.qcow2", "seed.iso", "console.log")
    needed = {f"{machine}.{kind}" for machine in machines for kind in kinds}
    needed |= {f"cut.production.{name}.{disk}" for name in names for disk in ("cache.p1.local.raw", "data.volume.raw")}
    known = {v for v in lab.volumes() if not v.startswith("base.") and ".r" not in v}
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
    assert len(cut("up", one)) > 10
    check(lab, instances=1, generations=[1])
    lab.ok("exec", "cut/web-0", "--", "sh", "-c", "echo mine > /srv/whose; sync")
    lab.ok("reimage", "cut/web-0", "--no-wait")
    assert len(cut("up", one)) > 8
    check(lab, instances=1, generations=[2])
    lab.ok("reboot", "cut/web-0", "--no-wait")
    assert len(cut("up", one)) > 4
    lab.ok("relocate", "cut/web-0", "--same-host", "--yes", "--no-wait")
    assert len(cut("up", one)) > 8
    assert lab.ok("exec", "cut/web-0", "--", "cat", "/srv/whose").out == "mine\n"
    assert len(cut("up", two)) > 8
    assert len(cut("up", one)) > 4
    assert len(cut("down", "cut", "--volumes", "--yes")) > 8
    assert lab.remains() == []
