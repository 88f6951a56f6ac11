"""An upgrade that is led by hand under a controller: a canary, extra instances, a pause, domain by domain."""

import json
import time

import pytest

from tests.e2e.conftest import eventually, fetch, service, write
from tests.e2e.test_controller import controller
from tests.e2e.test_upgrade import Asking

pytestmark = pytest.mark.vm


def file(folder, page, **upgrade):
    """The same service with another page, for which it needs another machine."""
    setup = {"files": [{"path": "/var/www/index.html", "content": f"{page}\n"}]}
    wanted = {"domains": 2, "min_ready": "1s", **upgrade}
    http = {"port": 80, "protocol": "http", "check": {"path": "/healthz", "interval": "1s", "rise": 1}}
    role = {"endpoints": {"http": http}, "stop": {"drain": "1s", "timeout": "20s"}, "upgrade": wanted, "setup": setup}
    return write(folder / f"{page}.yaml", service("led", instances=2, **role))


def told(lab):
    """What the upgrade waits for, each instance's step, and their generations."""
    found = json.loads(lab.ok("upgrade", "status", "led", "--json").out)
    waits = found["upgrade"] and (found["upgrade"]["waits_for"] or found["upgrade"]["state"])
    rows = found["instances"]
    return waits, [row["upgrade"] for row in rows], [row["generation"] for row in rows]


def pages(vip):
    return {fetch(f"http://{vip}/").strip() for _ in range(4)}


def test_an_upgrade_led_by_hand_under_a_controller(lab, tmp_path):
    with controller(lab, tmp_path):
        lab.ok("up", file(tmp_path, "one"))
        vip = lab.status("led")["vip"]
        with Asking(f"http://{vip}/") as asking:
            timed(a_canary_is_promoted_and_an_extra_instance_stands_in, lab, tmp_path, vip)
        assert asking.failures == []
        for act in (a_canary_is_taken_back, paused_and_domain_by_domain):
            timed(act, lab, tmp_path, vip)


def timed(act, *args):
    begun = time.monotonic()
    act(*args)
    print(f"{act.__name__}: {time.monotonic() - begun:.1f} s")


def a_canary_is_promoted_and_an_extra_instance_stands_in(lab, folder, vip):
    done = lab.ok("up", file(folder, "two", max_surge=1, max_unavailable=0), "--canary", "1")
    assert "web-0 healthy, waits for promote or rollback; `vmrole upgrade promote led` goes on" in done.out
    assert told(lab) == ("promote", ["healthy", "waits"], [2, 1])
    assert pages(vip) == {"one", "two"}
    refused = lab.run("upgrade", "resume", "led")
    assert (refused.code, "waits for a word about its canary" in refused.err) == (2, True)
    lab.ok("upgrade", "promote", "led")
    assert told(lab) == (None, ["unchanged", "unchanged"], [2, 2])
    assert pages(vip) == {"two"}
    events = [json.loads(row) for row in lab.ok("events", "led", "--json").out.splitlines()]
    at = {(event["subject"].rpartition(".")[2], event["what"].split(" on ")[0]): event["at"] for event in events}
    out, back = at["web-1", "upgrade: out of rotation"], at["web-1", "reached rotation"]
    assert at["web-2", "reached rotation"] <= out < back <= at["web-2", "deleted"]


def a_canary_is_taken_back(lab, folder, vip):
    lab.ok("up", file(folder, "three"), "--canary", "1")
    assert pages(vip) == {"two", "three"}
    lab.ok("upgrade", "rollback", "led")
    # The canary has its overlay from before again.
    assert told(lab) == (None, ["unchanged", "unchanged"], [2, 2])
    assert pages(vip) == {"two"}


def paused_and_domain_by_domain(lab, folder, vip):
    lab.ok("up", file(folder, "four", automatic=False), "--no-wait")
    eventually(lambda: told(lab)[1][0] != "waits", "the first domain has begun")
    assert "is paused" in lab.ok("upgrade", "pause", "led").out
    # What has begun comes to its end, and nothing else is begun.
    eventually(lambda: told(lab)[1][0] == "healthy", "the first domain is healthy", 60)
    time.sleep(2)
    assert told(lab)[:2] == ("paused", ["healthy", "waits"])
    done = lab.ok("upgrade", "resume", "led").out
    assert "waits for resume before the next domain; `vmrole upgrade resume led` goes on" in done
    assert pages(vip) == {"two", "four"}
    lab.ok("upgrade", "resume", "led")
    assert pages(vip) == {"four"}
