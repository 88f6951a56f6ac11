"""One death at each single point of `up`, reimage and `down`, each from a fresh start; then one ordinary command."""

import signal
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT, fetch, service, write
from tests.e2e.test_cuts import chain

pytestmark = pytest.mark.vm

DISKS = {
    "local_storage": {"cache": {"size": "16MiB", "mount": "/var/cache/app"}},
    "volumes": {"data": {"size": "16MiB", "mount": "/srv"}},
}


def test_each_point_alone(lab, tmp_path):
    file = write(tmp_path / "cut.yaml", service("cut", **DISKS))
    campaigns = {
        "up": (lambda: None, ("up", file), lambda: ready(lab, file, 1)),
        "reimage": (lambda: asked(lab, file), ("up", file), lambda: ready(lab, file, 2)),
        "down": (lambda: lab.ok("up", file), ("down", "cut", "--volumes", "--yes"), lambda: gone(lab)),
    }
    for name, (prepare, argv, check) in campaigns.items():
        prepare()
        points = chain(lab, tmp_path, *argv, sides="both")
        check()
        forget(lab)
        for number in range(len(points)):
            prepare()
            die_at(lab, tmp_path, points[:number], points[number], argv)
            lab.run(*argv)
            check()
            forget(lab)
        print(f"{name}: {len(points)} points, each alone")


def die_at(lab, tmp_path, before, point, argv):
    """Run the command so that it dies at this one point, of which all earlier ones are let pass."""
    known = tmp_path / "known"
    known.write_text("".join(f"{each}\n" for each in before))
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.cut", str(known), "both", "--", *argv],
        env={**lab.env, "PYTHONPATH": str(ROOT)}, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode in {-signal.SIGKILL, 0}, f"{point}: {done.stderr}"


def asked(lab, file):
    lab.ok("up", file)
    lab.ok("reimage", "cut/web-0", "--no-wait")


def ready(lab, file, generation):
    assert "nothing to change" in lab.ok("up", file).out
    (found,) = lab.status("cut")["instances"]
    assert (found["state"], found["generation"]) == ("ready", generation)
    assert lab.domains() == [found["domain"]]
    assert fetch(f"http://{lab.status('cut')['vip']}/").startswith("web-0")


def gone(lab):
    assert lab.run("status", "cut").code == 2
    assert lab.remains() == []


def forget(lab):
    lab.forget_all()
    assert lab.remains() == []
