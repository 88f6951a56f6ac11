"""`down` of real deployments that somebody has broken by hand, or whose `up` was killed: nothing is left."""

import signal
import time

import pytest

from tests.e2e import standing
from tests.e2e.conftest import service, write

pytestmark = pytest.mark.vm
DISKS = {"volumes": {"data": {"size": "16MiB", "mount": "/srv"}}}


def no_network(lab, domain, network):
    lab.virsh("net-destroy", network)
    lab.virsh("net-undefine", network)
    lab.virsh("suspend", domain)


def no_domain_no_overlay_no_haproxy(lab, domain, _network):
    lab.virsh("destroy", domain)
    lab.virsh("undefine", domain)
    (pool,) = lab.virsh("pool-list", "--name").split()
    lab.virsh("vol-delete", f"{domain}.overlay.qcow2", pool)
    standing.kill_haproxy(lab)


def no_pool(lab, domain, _network):
    """The folder of all disks goes under a machine that runs, and libvirt forgets the pool."""
    (pool,) = lab.virsh("pool-list", "--name").split()
    lab.virsh("destroy", domain)
    lab.inside("rm", "-r", f"/var/lib/libvirt/images/{pool}")
    lab.virsh("pool-destroy", pool)
    lab.virsh("pool-undefine", pool)


BREAKS = [no_network, no_domain_no_overlay_no_haproxy, no_pool]


def test_what_was_broken_is_taken_down(lab, tmp_path):
    file = write(tmp_path / "frail.yaml", service("frail", **DISKS))
    for number, wreck in enumerate(BREAKS):
        slot = "staging" if number == 0 else "production"
        lab.ok("up", file, "--slot", slot, "--no-wait")
        wreck(lab, f"frail.{slot}.web-0.g1", f"frail.{slot}")
        lab.ok("down", "frail", "--slot", slot, "--yes", timeout=120)
        kept = [] if wreck is no_pool else [f"frail.{slot}.web-0.data.volume.raw"]
        assert [name for name in lab.volumes() if name.startswith(f"frail.{slot}.")] == kept, wreck
        assert [name for name in lab.remains() if "vmrole" not in name] == [], wreck


@pytest.mark.parametrize("seconds", [0.7, 1.5])
def test_an_up_that_was_killed_is_taken_down(lab, tmp_path, seconds):
    file = write(tmp_path / "cut.yaml", service("cut", **DISKS))
    child = lab.start("up", file, "--slot", "staging")
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    done = lab.run("down", "cut", "--slot", "staging", "--volumes", "--yes")
    assert done.code == 0 or "there is no service cut (staging)" in done.err
    assert lab.remains() == []
