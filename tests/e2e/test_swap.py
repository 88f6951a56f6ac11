"""Two deployments of one service exchange their VIPs, and back, under a load that counts every failure."""

import contextlib
import socket

import pytest

from tests.e2e import standing
from tests.e2e.conftest import eventually, fetch, service, write
from tests.e2e.test_controller import controller
from tests.e2e.test_traffic import Hey

pytestmark = [pytest.mark.vm, pytest.mark.alone]


def file(folder, page, **http):
    """The same service with another page. At port 81 HAProxy hands bytes on: such a connection lasts."""
    web = {"port": 80, "protocol": "http", "check": {"path": "/healthz"}, **http}
    endpoints = {"http": web, "raw": {"port": 81, "target": 80}}
    setup = {"files": [{"path": "/var/www/index.html", "content": f"{page}\n"}]}
    return write(folder / f"{page}.yaml", service("shop", endpoints=endpoints, setup=setup))


@pytest.fixture
def shop(lab, tmp_path):
    """A service in both slots, which say "one" and "two"; their VIPs."""
    one, two = file(tmp_path, "one"), file(tmp_path, "two")
    lab.ok("up", one, "--no-wait")
    lab.ok("up", two, "--slot", "staging")
    lab.ok("up", one)
    vips = [lab.status("shop")["vip"], slot(lab, "staging")["vip"]]
    assert pages(vips) == ["one", "two"]
    return vips


def slot(lab, name):
    return lab.status("shop", name)


def pages(vips):
    return [fetch(f"http://{vip}/").strip() for vip in vips]


@contextlib.contextmanager
def half_a_request(vip):
    """A connection that has begun before, and asks for the page only when it is told to."""
    with socket.create_connection((vip, 81), timeout=10) as link:
        link.sendall(b"GET / HTTP/1.0\r\n")

        def rest():
            link.sendall(b"\r\n")
            return b"".join(iter(lambda: link.recv(65536), b"")).decode().rpartition("\r\n\r\n")[2].strip()

        yield rest


def test_a_swap_there_and_back(lab, shop, tmp_path):
    load = Hey(f"http://{shop[0]}/")
    with half_a_request(shop[0]) as old:
        said = lab.ok("swap", "shop").out
        assert f"{shop[0]} leads to staging" in said
        assert pages(shop) == ["two", "one"]
        assert old() == "one"
    assert [slot(lab, s)["vip"] for s in ("staging", "production")] == shop
    assert [slot(lab, s)["live"] for s in ("staging", "production")] == [True, False]
    lab.ok("up", str(tmp_path / "one.yaml"))  # takes nothing back
    assert pages(shop) == ["two", "one"]
    lab.ok("swap", "shop", "--yes")
    assert pages(shop) == ["one", "two"]
    found = load.stop()
    assert (found.failed, found.errors) == (0, "")
    assert found.asked > 20
    told = lab.ok("events", "shop").out
    assert told.count("swapped: has the VIP") == 4
    assert all(told.count(f"shop.{s}  swapped") == 2 for s in ("production", "staging"))
    # HAProxy dies while the VIPs are exchanged: what was, is.
    lab.ok("swap", "shop")
    standing.kill_haproxy(lab)
    lab.ok("up", str(tmp_path / "one.yaml"))
    eventually(lambda: pages(shop) == ["two", "one"], "the pages are as they were", 10)
    check_a_lost_store(lab, shop, tmp_path)
    with controller(lab, tmp_path):  # which does it, while the command watches
        lab.ok("swap", "shop")
        assert pages(shop) == ["one", "two"]
    refused(lab, shop, tmp_path)


def check_a_lost_store(lab, shop, folder):
    """What is rebuilt from the hosts has the VIPs as they were exchanged last."""
    domains = lab.domains()
    for file in lab.home.glob("vmrole.db*"):
        file.unlink()
    lab.ok("recover")
    assert [slot(lab, s)["vip"] for s in ("staging", "production")] == shop
    assert [slot(lab, s)["live"] for s in ("staging", "production")] == [True, False]
    lab.ok("up", str(folder / "one.yaml"))
    assert (pages(shop), lab.domains()) == (["two", "one"], domains)


def refused(lab, shop, folder):
    """What is no match, not ready or not there; and nothing is changed by asking."""
    lab.ok("stop", "shop/web-0", "--slot", "staging")
    lab.ok("up", file(folder, "two", idle_timeout="5s"), "--slot", "staging")
    done = lab.run("swap", "shop")
    assert done.code == 1
    assert "port 80: idle_timeout is 60 s in production, 5 s in staging" in done.err
    assert "web-0 of shop (staging) is stopped" in done.err
    assert pages(shop)[0] == "one"
    lab.ok("down", "shop", "--slot", "staging", "--yes")
    done = lab.run("swap", "shop")
    assert (done.code, "there is no service shop (staging)" in done.err) == (2, True)
    assert pages(shop) == ["one", ""]
