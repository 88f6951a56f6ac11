"""Faults of real guests, each told by its own signal, and what repair does about them while the command line ticks."""

import json
import time

import pytest

from tests.e2e.conftest import eventually, fetch, service, write

pytestmark = pytest.mark.vm

QUICK = {"grace": "1s", "restart": {"wait": "20s"}, "reboot": {"wait": "5s"}, "reimage": {"tries": 2, "wait": "1s"}}
DISKS = {"volumes": {"data": {"size": "16MiB", "mount": "/srv"}}}


@pytest.fixture(scope="module")
def both(shared_lab, tmp_path_factory):
    """Two instances for all of these: each test leaves them ready."""
    # What setup finds on the volume is what it does: so it can be made to fail later.
    setup = {"run": ["if [ -e /srv/broken ]; then echo the database is not there >&2; exit 4; fi"]}
    value = service("pair", instances=2, repair=QUICK, setup=setup, stop={"drain": "2s", "timeout": "5s"}, **DISKS)
    file = write(tmp_path_factory.mktemp("pair") / "pair.yaml", value)
    shared_lab.ok("up", file)
    yield shared_lab, file
    shared_lab.ok("down", "pair", "--volumes", "--yes")
    assert shared_lab.remains() == []


@pytest.fixture
def pair(both):
    """The lab, the file, and when the test began: what happened before is another's."""
    return *both, time.time()


def inside(lab, name, script):
    """A shell line in a guest that nobody waits for: it may well end the guest."""
    lab.run("exec", f"pair/{name}", "--", "sh", "-c", f"(sleep 1; {script}) >/dev/null 2>&1 &")
    time.sleep(1.5)


def events(lab, after):
    rows = [json.loads(row) for row in lab.ok("events", "pair", "--json").out.splitlines()]
    return [row for row in rows if row["at"] > after]


def mended(pair, capsys, *, timeout="150s"):
    """Run `up` until all is well again, and print how long it took; the events since the test began."""
    lab, file, since = pair
    begun = time.time()
    lab.ok("up", file, "--timeout", timeout)
    status = lab.status("pair")
    assert {i["name"]: (i["state"], i["in_rotation"]) for i in status["instances"]} == {
        "web-0": ("ready", True), "web-1": ("ready", True),
    }  # fmt: skip
    assert fetch(f"http://{status['vip']}/").startswith("web-")
    with capsys.disabled():
        told = [
            f"{e['what']}: {e['cause']}" for e in events(lab, since) if e["actor"] == "repair" or "back" in e["what"]
        ]
        print(f"\n  well again after {time.time() - begun:.1f} s; " + " | ".join(told))
    return events(lab, since)


def whats(found, name):
    return [event["what"] for event in found if event["subject"].endswith(name)]


def qemu(lab, name):
    return lab.inside("cat", f"/run/libvirt/qemu/{lab.instance('pair', name)['domain']}.pid").out.strip()


def test_a_service_that_is_killed_is_restarted_by_the_first_rung(pair, capsys):
    lab, _file, _since = pair
    boot = lab.instance("pair", "web-0")["boot"]
    lab.ok("exec", "pair/web-0", "--", "sv", "down", "/etc/service/httpd")
    eventually(lambda: lab.instance("pair", "web-0")["state"] == "unhealthy", "HAProxy sees it")
    found = mended(pair, capsys)
    assert "repair: restarts httpd" in whats(found, "web-0")
    assert "repair: well again" in whats(found, "web-0")
    assert lab.instance("pair", "web-0")["boot"] == boot


def test_qemu_killed_is_replaced_at_once(pair, capsys):
    lab, _file, _since = pair
    lab.inside("kill", "-9", qemu(lab, "web-0"))
    found = mended(pair, capsys)
    assert "fault: its QEMU process died; it is started again" in whats(found, "web-0")
    *_before, back = (event for event in found if event["what"] == "back in rotation")
    assert back["cause"].endswith("s after it went out by itself")


def test_a_kernel_panic_is_told_with_its_last_line(pair, capsys):
    lab, _file, _since = pair
    inside(lab, "web-0", "echo c > /proc/sysrq-trigger")
    found = mended(pair, capsys)
    (fault,) = (event for event in found if event["what"].startswith("fault"))
    assert fault["what"] == "fault: the guest's kernel panicked; it is started again"
    assert "last console line" in fault["cause"]


def test_an_agent_that_is_stopped_while_the_page_is_served_costs_nobody_the_machine(pair, capsys):
    lab, _file, _since = pair
    before, pid = lab.instance("pair", "web-0"), qemu(lab, "web-0")
    inside(lab, "web-0", "p=$(pidof qemu-ga); kill -STOP $p; sleep 35; kill -CONT $p")
    found = mended(pair, capsys)
    after = lab.instance("pair", "web-0")
    assert (after["boot"], after["generation"], qemu(lab, "web-0")) == (before["boot"], before["generation"], pid)
    assert [event["what"].partition(",")[0] for event in found] == ["repair: out of rotation", "repair: well again"]
    out, _back = found
    assert not [event for event in found if event["subject"].endswith("web-1")]
    assert "the guest agent does not answer for" in out["cause"]
    assert "the network does" in out["cause"]


def test_all_that_hang_at_once_are_power_cycled_one_after_the_other(pair, capsys):
    lab, _file, _since = pair
    # One of them hangs as a whole: its QEMU ends in the middle of a question to the agent, which answers all the same
    # afterwards.
    lab.inside("kill", "-STOP", qemu(lab, "web-1"))
    inside(lab, "web-0", "kill -STOP $(pidof httpd) $(pidof qemu-ga)")
    found = mended(pair, capsys)
    order = [
        (e["subject"].rpartition(".")[2], e["what"])
        for e in found
        if e["what"] in {"repair: reboot", "repair: well again"}
    ]
    one, other = order[0][0], order[-1][0]  # which of them is noticed first is not said
    assert {one, other} == {"web-0", "web-1"}
    assert order == [
        (one, "repair: reboot"), (one, "repair: well again"),
        (other, "repair: reboot"), (other, "repair: well again"),
    ]  # fmt: skip
    (first, _second) = (event for event in found if event["what"] == "repair: reboot")
    assert first["cause"].startswith("hung: the guest agent is silent for")
    assert not [event for event in found if "asked the guest to shut down" in event["what"]]


def test_a_paused_service_is_left_as_it_is(pair, capsys):
    lab, file, _since = pair
    lab.ok("pause", "pair", "--reason", "new disks")
    lab.inside("kill", "-9", qemu(lab, "web-1"))
    done = lab.ok("up", file, "--timeout", "20s")
    assert "pair is paused; 1 of 2 instances in rotation" in done.out
    assert "new disks" in lab.ok("status", "pair").out
    assert lab.instance("pair", "web-1")["reason"].endswith("the service is paused")
    assert fetch(f"http://{lab.status('pair')['vip']}/").startswith("web-0")
    lab.ok("resume", "pair")
    assert "fault: its QEMU process died; it is started again" in whats(mended(pair, capsys), "web-1")


def test_repair_that_does_not_help_stops_and_says_why(pair, capsys):
    lab, _file, _since = pair
    lab.ok("exec", "pair/web-1", "--", "sh", "-c", "touch /srv/broken; sync")
    done = lab.run("reimage", "pair/web-1", "--timeout", "150s")
    assert done.code == 1
    stopped = "repair has stopped: 2 of 2 reimages failed at setup: setup failed:"
    assert stopped in done.err
    assert "the database is not there" in done.err
    status = lab.status("pair")
    assert status["state"] == "failed"
    (event,) = (e for e in events(lab, 0) if e["what"] == "repair: stops")
    assert (event["actor"], event["subject"]) == ("repair", "pair.production.web-1")
    assert fetch(f"http://{status['vip']}/").startswith("web-0")
    with capsys.disabled():
        print(f"\n  {lab.instance('pair', 'web-1')['reason']}")
    # Its old overlay is still there to go back to, and what was wrong can be mended in it.
    lab.ok("undo-reimage", "pair/web-1", "--timeout", "60s")
    lab.ok("exec", "pair/web-1", "--", "rm", "/srv/broken")
    assert lab.instance("pair", "web-1")["state"] == "ready"
