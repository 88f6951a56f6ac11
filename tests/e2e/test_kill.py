"""kill -9 of the command line, anywhere in `up`: the same command again ends the same, with nothing left over."""

import random
import signal
import time

import pytest

from tests.e2e.conftest import fetch, service, write

pytestmark = pytest.mark.vm

POINTS = 10
SPAN_S = 8.0  # what `up` of one tiny instance takes; the points are spread over it, most of them early


def test_up_killed_at_ten_points_converges(lab, tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    file = write(tmp_path / "kill.yaml", service("kill", instances=2))
    for point in range(POINTS):
        child = lab.start("up", file)
        time.sleep(SPAN_S * (point / POINTS) ** 2 + chance.random() * 0.3)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if point % 3 == 2:
            converge(lab, file)
            lab.ok("down", "kill", "--yes")
            assert lab.remains() == []
    converge(lab, file)


def converge(lab, file):
    lab.ok("up", file)
    assert "nothing to change" in lab.ok("up", file).out
    assert lab.domains() == ["kill.production.web-0.g1", "kill.production.web-1.g1"]
    machines = sorted(v for v in lab.volumes() if not v.startswith("base."))
    kinds = ("overlay.qcow2", "seed.iso", "console.log")
    assert machines == sorted(f"kill.production.web-{n}.g1.{kind}" for n in range(2) for kind in kinds)
    pages = {fetch(f"http://{lab.status('kill')['vip']}/").split()[0] for _ in range(4)}
    assert pages == {"web-0", "web-1"}
