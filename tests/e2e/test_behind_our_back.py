"""Things done to a service behind our back, by virsh and rm: each is noticed in the next pass, and put right."""

import json
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import fetch, service, write

pytestmark = pytest.mark.vm

INTRUDER = """<domain type='qemu'><name>intruder</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>"""


@pytest.fixture(scope="module")
def back(shared_lab, tmp_path_factory):
    """One service for all of these: each test leaves it ready."""
    disks = {
        "local_storage": {"cache": {"size": "16MiB", "mount": "/var/cache/app"}},
        "volumes": {"data": {"size": "16MiB", "mount": "/srv"}},
    }
    file = write(tmp_path_factory.mktemp("back") / "back.yaml", service("back", **disks))
    shared_lab.ok("up", file)
    shared_lab.ok("exec", "back/web-0", "--", "sh", "-c", "echo mine > /srv/whose; sync")
    yield shared_lab, file
    shared_lab.ok("down", "back", "--volumes", "--yes")
    assert shared_lab.remains() == []


def pool_folder(lab):
    (pool,) = lab.virsh("pool-list", "--name").split()
    return f"/var/lib/libvirt/images/{pool}"


def current(lab):
    return lab.instance("back", "web-0")


def put_right(back, was, *, generation=None):
    """`up` puts all of it right: one machine, in rotation, with its volume, as ``was``. What was told of it."""
    lab, file = back
    lab.ok("up", file)
    status = lab.status("back")
    (now,) = status["instances"]
    assert (now["state"], now["in_rotation"]) == ("ready", True)
    assert now["generation"] == (generation or was["generation"])
    assert lab.domains() == [now["domain"]]
    assert lab.ok("exec", "back/web-0", "--", "cat", "/srv/whose").out == "mine\n"
    assert fetch(f"http://{status['vip']}/").startswith("web-0")
    events = [json.loads(row) for row in lab.ok("events", "back", "--json").out.splitlines()]
    return Told(now, events, [event["what"] for event in events if event["what"].startswith("fault")])


@dataclass(frozen=True)
class Told:
    now: dict
    events: list
    faults: list


def test_destroyed(back):
    lab, _file = back
    was = current(lab)
    lab.virsh("destroy", was["domain"])
    assert current(lab)["state"] != "ready"  # noticed by the very next look
    assert "somebody switched the machine off" in put_right(back, was).faults[-1]


def test_shut_down_from_inside(back):
    lab, _file = back
    was = current(lab)
    lab.run("exec", "back/web-0", "--", "poweroff")
    assert "the guest shut itself down" in put_right(back, was).faults[-1]


def test_undefined_while_it_runs(back):
    lab, _file = back
    was = current(lab)
    lab.virsh("undefine", was["domain"])
    told = put_right(back, was)
    assert told.now["boot"] == was["boot"]  # it ran on
    assert "defined again" in told.faults[-1]
    assert was["domain"] in lab.virsh("list", "--persistent", "--name").split()


def test_destroyed_and_undefined(back):
    lab, _file = back
    was = current(lab)
    lab.virsh("destroy", was["domain"])
    lab.virsh("undefine", was["domain"])
    assert "gone from its host" in put_right(back, was).faults[-1]


def test_paused(back):
    lab, _file = back
    was = current(lab)
    lab.virsh("suspend", was["domain"])
    told = put_right(back, was)
    assert told.now["boot"] == was["boot"]
    assert "paused" in told.faults[-1]


def test_renamed_and_started_under_the_other_name(back):
    lab, _file = back
    was = current(lab)
    lab.virsh("destroy", was["domain"])
    lab.virsh("domrename", was["domain"], "mine-now")
    lab.virsh("start", "mine-now")
    assert any("mine-now" in what for what in put_right(back, was).faults)


def test_its_disks_in_a_machine_of_somebody_else(back):
    lab, file = back
    was, folder = current(lab), pool_folder(lab)
    lab.virsh("destroy", was["domain"])
    xml = INTRUDER.format(file=f"{folder}/back.production.web-0.data.volume.raw")
    script = 'printf %s "$1" > /tmp/intruder.xml && virsh -q create /tmp/intruder.xml; rm /tmp/intruder.xml'
    assert lab.inside("sh", "-c", script, "sh", xml).code == 0
    done = lab.run("up", file, "--timeout", "5s")
    assert done.code != 0
    assert "intruder" in done.err
    assert "not ours" in done.err
    assert was["domain"] not in lab.virsh("list", "--name").split()
    lab.virsh("destroy", "intruder")
    put_right(back, was)


def test_the_network_destroyed(back):
    lab, _file = back
    was = current(lab)
    lab.virsh("destroy", was["domain"])
    lab.virsh("net-destroy", "back.production")
    put_right(back, was)


def test_the_base_taken_away_and_replaced(back):
    lab, _file = back
    was, folder = current(lab), pool_folder(lab)
    (base,) = (v for v in lab.volumes() if v.startswith("base.") and v.endswith(".qcow2"))
    digest = lab.inside("sha256sum", f"{folder}/{base}").out.split()[0]
    for harm in ("rm -f", "truncate -s 1M"):
        lab.inside("sh", "-c", f'chmod 600 "$1"; {harm} "$1"', "sh", f"{folder}/{base}")
        assert "its base was altered or gone" in put_right(back, was).faults[-1]
        assert lab.inside("sha256sum", f"{folder}/{base}").out.split()[0] == digest


def test_the_overlay_deleted_under_a_machine_that_runs(back):
    lab, _file = back
    was = current(lab)
    lab.inside("rm", f"{pool_folder(lab)}/{was['domain']}.overlay.qcow2")
    told = put_right(back, was, generation=was["generation"] + 1)
    assert any(event["cause"] == "its overlay is gone" for event in told.events)


def test_the_volume_deleted_is_refused_until_somebody_decides(back):
    lab, _file = back
    lab.ok("stop", "back/web-0")
    volume = f"{pool_folder(lab)}/back.production.web-0.data.volume.raw"
    lab.inside("mv", volume, f"{volume}.elsewhere")
    lab.run("start", "back/web-0", "--timeout", "3s")
    was = current(lab)
    assert "back/web-0/data" in was["reason"]
    assert "vmrole volume rm" in was["reason"]
    lab.inside("mv", f"{volume}.elsewhere", volume)
    put_right(back, was)


def test_the_network_deleted_under_a_machine_that_runs(back):
    lab, _file = back
    was = current(lab)
    lab.virsh("net-destroy", "back.production")
    lab.virsh("net-undefine", "back.production")
    assert "its network was gone" in put_right(back, was).faults[-1]


def test_local_storage_deleted_is_made_anew_and_told(back):
    lab, _file = back
    lab.ok("stop", "back/web-0")
    (local,) = (v for v in lab.volumes() if v.endswith(".local.raw"))
    lab.inside("rm", f"{pool_folder(lab)}/{local}")
    was = current(lab)
    lab.ok("start", "back/web-0")
    assert "made anew and empty" in put_right(back, was).faults[-1]
