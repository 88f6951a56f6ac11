"""Measures how long an event takes to become a change of rotation, under a loop that stands by. For `make bench`."""

import contextlib
import http.client
import time

from orchestrator.drivers._runtime import talk
from tests.e2e import standing
from tests.e2e.conftest import eventually, service, write

ROUNDS = 5


def event_rows(lab, home):
    """Rows for the table: QEMU killed until its server is out of rotation; HAProxy killed until a page is served."""
    lab.ok("up", write(home / "struck.yaml", service("struck", instances=2)))
    vip = lab.status("struck")["vip"]
    with standing.loop(lab):
        rounds = [(out_of_rotation(lab), served_again(lab, vip)) for _round in range(ROUNDS)]
        busy = [busy_and_out(lab) for _round in range(ROUNDS)]
    lab.ok("down", "struck", "--yes")
    out, again = zip(*rounds, strict=True)
    return [
        ("QEMU killed -> out of rotation", out, "1.0"),
        ("busy, by its own word -> out of rotation", busy, ""),
        ("HAProxy killed -> a page at the VIP", again, "2.0"),
    ]


def out_of_rotation(lab):
    eventually(lambda: in_rotation(lab) == {"web-0.g1", "web-1.g1"}, "both are in rotation", 60)
    time.sleep(2)  # at rest: the loop sleeps until something wakes it
    standing.kill_qemu("struck.production.web-0.g1")
    begun = time.monotonic()
    while "web-0.g1" in in_rotation(lab):
        assert time.monotonic() - begun < 30
        time.sleep(0.005)
    took = time.monotonic() - begun
    eventually(lambda: in_rotation(lab) == {"web-0.g1", "web-1.g1"}, "it is started again", 60)
    return took


def busy_and_out(lab):
    """From the moment before the file is written, so the agent's own slowness counts."""
    eventually(lambda: in_rotation(lab) == {"web-0.g1", "web-1.g1"}, "both are in rotation", 60)
    time.sleep(2)
    begun = time.monotonic()
    lab.ok("exec", "struck/web-0", "--", "sh", "-c", "echo counting >/run/vmrole/busy")
    while "web-0.g1" in in_rotation(lab):
        assert time.monotonic() - begun < 30
        time.sleep(0.005)
    took = time.monotonic() - begun
    lab.ok("exec", "struck/web-0", "--", "rm", "/run/vmrole/busy")
    return took


def in_rotation(lab):
    """The servers that take new connections, as HAProxy says: the seventh column is 0 when nobody has taken it out."""
    rows = [row.split() for row in talk(lab.home / "run/haproxy.sock", "show servers state").splitlines()]
    return {row[3] for row in rows if len(row) > 6 and row[1].startswith("struck.") and row[6] == "0"}


def served_again(lab, vip):
    time.sleep(2)
    standing.kill_haproxy(lab)
    begun = time.monotonic()
    while not is_served(vip):
        assert time.monotonic() - begun < 30
        time.sleep(0.005)
    return time.monotonic() - begun


def is_served(vip):
    link = http.client.HTTPConnection(vip, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(link):
        link.request("GET", "/")
        return link.getresponse().status == 200
    return False
