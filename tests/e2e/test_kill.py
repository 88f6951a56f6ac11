"""kill -9 of the command line at random: the next one ends the same, with nothing left over or twice."""

import os
import random
import signal
import time

import pytest

from tests.e2e.conftest import fetch, service, write

pytestmark = pytest.mark.vm

KILLS = int(os.environ.get("VMROLE_KILLS", "20"))  # `make soak` asks for more
DISKS = {"volumes": {"data": {"size": "16MiB", "mount": "/srv"}}}


def test_random_kills(lab, tmp_path, capsys):
    seed = random.randrange(2**32)
    with capsys.disabled():
        print(f"\n{KILLS} random kills, seed {seed}")
    chance = random.Random(seed)
    files = [write(tmp_path / f"{n}.yaml", service("kill", instances=n, **DISKS)) for n in (1, 2)]
    lab.ok("up", files[0])
    lab.ok("exec", "kill/web-0", "--", "sh", "-c", "echo mine > /srv/whose; sync")
    commands = [
        ("up", files[0]), ("up", files[1]), ("reboot", "kill/web-0"), ("reimage", "kill", "--all"),
        ("undo-reimage", "kill/web-0"), ("relocate", "kill/web-0", "--same-host", "--yes"), ("stop", "kill/web-0"),
        ("start", "kill/web-0"),
    ]  # fmt: skip
    for number in range(KILLS):
        command = chance.choice(commands)
        after_s = chance.choice([0.3, 0.6, 1.0, 2.5]) + chance.random() * 0.3
        print(f"kill {number}: vmrole {' '.join(command)}, after {after_s:.2f} s")
        child = lab.start(*command)
        time.sleep(after_s)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if number % 10 == 9:
            converge(lab, files[1])
    lab.ok("down", "kill", "--volumes", "--yes")
    assert lab.remains() == []


def converge(lab, file):
    """The next commands end as if nobody had been killed: one machine an instance, its own volume, in rotation."""
    lab.ok("up", file)
    lab.ok("start", "kill", "--all")
    lab.ok("up", file)
    assert "nothing to change" in lab.ok("up", file).out
    status = lab.status("kill")
    assert lab.domains() == sorted(i["domain"] for i in status["instances"])
    assert {i["name"] for i in status["instances"]} == {"web-0", "web-1"}
    machines = {v.rsplit(".", 2)[0] for v in lab.volumes() if v.endswith(("seed.iso", "console.log"))}
    assert machines == set(lab.domains())
    assert lab.ok("exec", "kill/web-0", "--", "cat", "/srv/whose").out == "mine\n"
    pages = {fetch(f"http://{status['vip']}/").split()[0] for _ in range(4)}
    assert pages == {"web-0", "web-1"}
