"""Real labs in homes of their own: that they come up, keep apart what must be apart, survive harm, and leave nothing.

Other labs may run on the machine meanwhile, so a test looks only at what carries its own lab's name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import libvirt
import pytest

import orchestrator
from orchestrator.config.site import load_site
from orchestrator.drivers import accelerator
from orchestrator.drivers.process import run
from orchestrator.errors import Refused, UserError
from orchestrator.lab import keeper, lifecycle, nodes, plan

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a lab")
pytestmark = [pytest.mark.vm, pytest.mark.alone, needs_root]

ENV = {**os.environ, "PYTHONPATH": str(Path(orchestrator.__file__).parents[1])}
VMROLE = (sys.executable, "-m", "orchestrator")
PING = """
import os, socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
s.settimeout(1)
s.connect((sys.argv[1], 0))
head = struct.pack(">BBHHH", 8, 0, 0, os.getpid() & 0xffff, 1)
total = sum(struct.unpack(">4H", head))
total = (total & 0xffff) + (total >> 16)
s.send(head[:2] + struct.pack(">H", ~total & 0xffff) + head[4:])
while s.recv(2048)[20] != 0:
    pass
"""
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=0.6)"
LISTEN = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listening", flush=True)
sys.stdin.read()
"""
DOMAIN = """<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"""


class LabAtHome:
    """A lab in a home of its own, and what it said."""

    def __init__(self, home: Path):
        self.home = home.resolve()
        self.said: list[str] = []

    def up(self, hosts=None):
        return lifecycle.up(self.home, hosts=hosts, cache_dir=self.home.parent / "cache", report=self.said.append)

    def down(self):
        return lifecycle.down(self.home, report=self.said.append)

    def cli(self, *arguments, check=True):
        return subprocess.run(
            [*VMROLE, "--home", str(self.home), "lab", *arguments],
            env=ENV, capture_output=True, text=True, timeout=60, check=check,
        )  # fmt: skip

    def inside(self, node, *argv, check=True, stdin=""):
        return run([*lifecycle.entering(self.home, node), *argv], check=check, stdin=stdin, timeout_s=20)

    def reaches(self, node, address, port, *, within=()):
        argv = [*within, sys.executable, "-c", REACH, address, str(port)]
        return self.inside(node, *argv, check=False).code == 0

    def states(self):
        return {node.node: node.state for node in lifecycle.listing(self.home)}

    def pids(self):
        return nodes.ready(self.home)

    def open(self, number=0):
        return libvirt.open(load_site(self.home).hosts[number].uri)


@contextmanager
def lab_at(folder: Path):
    """A lab, and at the end the proof that the machine is as before."""
    lab = LabAtHome(folder / "home")
    before = machine_state()
    try:
        yield lab
    finally:
        lab.down()
        shutil.rmtree(lab.home, ignore_errors=True)
    assert lifecycle.leftovers(lab.home) == ()
    assert machine_state() == before
    assert not Path("/sys/class/net", plan.link_name(lab.home)).exists()


def machine_state():
    """The machine's links, routes, rules and mounts, without those of other labs."""
    links = [path.name for path in Path("/sys/class/net").iterdir() if not plan.LINK.fullmatch(path.name)]
    routes = run(["ip", "route"]).stdout.splitlines()
    own = [line for line in routes if not re.search(plan.LINK.pattern, line)]
    return sorted(links), own, run(["nft", "list", "ruleset"]).stdout, run(["ip", "netns", "list"]).stdout


def eventually(condition, timeout_s=5.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Two hosts that the tests below share; none changes what another one needs."""
    with lab_at(tmp_path_factory.mktemp("shared")) as lab:
        lab.up(2)
        yield lab


# --- what a lab is ---------------------------------------------------------------------------------------------------


def test_up_says_where_everything_is(lab):
    site = load_site(lab.home)
    assert [host.name for host in site.hosts] == ["h0", "h1"]
    assert {lab.open(n).getHostname() for n in (0, 1)} == {"h0", "h1"}
    uuids = {re.search("<uuid>(.*?)<", lab.open(n).getCapabilities())[1] for n in (0, 1)}
    assert len(uuids) == 2
    assert lab.states() == {"edge": "up", "outside": "up", "h0": "up", "h1": "up"}


def test_hosts_start_empty(lab):
    host = lab.open()
    assert (host.listAllDomains(), host.listAllNetworks(), host.listAllStoragePools()) == ([], [], [])


def test_up_again_changes_nothing(lab):
    before, started = (lab.pids(), (lab.home / "site.json").stat().st_mtime_ns), time.monotonic()
    lab.up()
    assert time.monotonic() - started < 1
    assert "already" in lab.said[-1]
    assert (lab.pids(), (lab.home / "site.json").stat().st_mtime_ns) == before


def test_fewer_hosts_are_refused(lab):
    with pytest.raises(UserError, match="take some away"):
        lab.up(1)


def test_a_guest_starts_and_ends_fast(lab):
    domain = lab.open().defineXML(DOMAIN.format(name="quick"))
    started = time.monotonic()
    domain.create()
    middle = time.monotonic()
    domain.destroy()
    ended = time.monotonic()
    domain.undefine()
    print(f"start {middle - started:.2f} s, destroy {ended - middle:.2f} s")
    assert ended - middle < 1.0  # 2 s under a parent that reaps late


def test_the_keeper_is_small(lab):
    for pid in lab.pids().values():
        resident_kib = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
        assert resident_kib < 20_000


def test_kvm_is_seen_only_where_it_is_proven(lab):
    seen = lab.inside("h0", "test", "-e", "/dev/kvm", check=False).code == 0
    assert seen == (load_site(lab.home).hosts[0].accelerator == "kvm")


def test_orphans_are_reaped_at_once(lab):
    """What a daemon leaves behind in the edge (HAProxy does) must not stay a zombie."""
    pid = int(lab.inside("edge", "sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!").stdout)
    lab.inside("edge", "kill", "-9", str(pid))
    eventually(lambda: lab.inside("edge", "test", "-e", f"/proc/{pid}", check=False).code != 0, 1.0)


def test_a_killed_libvirtd_is_back_within_two_seconds(lab):
    guest = lab.open(1).defineXML(DOMAIN.format(name="survivor"))
    guest.create()
    lab.inside("h1", "sh", "-c", "kill -9 $(cat /run/libvirtd.pid)")
    eventually(lambda: lab.states()["h1"] == "up", 2.0)
    again = lab.open(1).lookupByName("survivor")
    # Needs the domain, so it waits until the new daemon has found its QEMU again; `destroy` does not (see libvirt's
    # qemuProcessBeginStopJob): it would kill the guest under the reconnection and then say "domain is not running".
    again.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "back", None, None, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert again.isActive()
    again.destroy()
    again.undefine()


# --- the command line ------------------------------------------------------------------------------------------------


def test_exec_passes_the_exit_code_through(lab):
    assert lab.cli("exec", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert lab.cli("exec", "--host", "h1", "hostname").stdout == "h1\n"
    assert lab.cli("exec", "--", "virsh", "uri").stdout.strip() == "qemu:///system"


def test_exec_in_a_node_that_is_none_names_those_that_are(lab):
    failed = lab.cli("exec", "--host", "h9", "true", check=False)
    assert failed.returncode != 0
    assert "h9" in failed.stderr


def test_ls_json(lab):
    found = {node["node"]: node for node in json.loads(lab.cli("ls", "--json").stdout)}
    assert found["h1"]["dip_pool"] == "198.18.32.0/19"
    assert found["edge"]["vip_pool"] == str(load_site(lab.home).vip_pool)
    assert "qemu+unix" in lab.cli("ls").stdout


# --- who reaches whom ------------------------------------------------------------------------------------------------


def test_hosts_reach_each_other_over_the_underlay_by_icmp_only(lab):
    lab.inside("h0", sys.executable, "-c", PING, "198.19.255.11")
    with listener(lab, "h1", "198.19.255.11"):
        assert lab.reaches("h1", "198.19.255.11", 8000)
        assert not lab.reaches("h0", "198.19.255.11", 8000)


def test_a_vip_is_reached_from_the_machine_and_from_outside_and_nothing_else_is(lab):
    vip = str(load_site(lab.home).vip_pool[1])
    lab.inside("edge", "ip", "addr", "add", f"{vip}/32", "dev", "lo")
    with listener(lab, "edge", "0.0.0.0"):
        run([sys.executable, "-c", REACH, vip, "8000"])
        assert lab.reaches("outside", vip, 8000)
        assert not lab.reaches("outside", "198.19.254.1", 8000)
        assert not lab.reaches("outside", "198.19.255.1", 8000)
        assert not lab.reaches("h0", "198.19.255.1", 8000)
    lab.inside("outside", sys.executable, "-c", PING, "198.19.254.1")


def test_guests_are_reached_only_by_whom_they_should(lab):
    """Namespaces on bridges stand for guests: a (h0) and b (h1) are of deployment 3, c (h0) is of deployment 4."""
    a = guest(lab, "h0", "a", "198.18.3")
    b = guest(lab, "h1", "b", "198.18.35")
    guest(lab, "h0", "c", "198.18.4")
    with listener(lab, "h0", "0.0.0.0", within="a"), listener(lab, "h1", "0.0.0.0", within="b"):
        assert lab.reaches("edge", a, 8000)
        assert lab.reaches("edge", b, 8000)
        assert lab.reaches("h0", b, 8000, within=netns("a"))  # one deployment, two hosts
        assert not lab.reaches("h0", b, 8000, within=netns("c"))
        assert not lab.reaches("h0", a, 8000, within=netns("c"))
        assert not lab.reaches("outside", a, 8000)
    with listener(lab, "h0", "0.0.0.0"):
        assert not lab.reaches("h0", "198.18.3.1", 8000, within=netns("a"))
        lab.inside("h0", *netns("a"), sys.executable, "-c", PING, "198.18.3.1")
    with listener(lab, "h0", "0.0.0.0", port=53):
        assert lab.reaches("h0", "198.18.3.1", 53, within=netns("a"))


def netns(name):
    return ("ip", "netns", "exec", name)


def guest(lab, node, name, prefix):
    """A namespace inside a node, on a bridge `vmr…` as libvirt would make it; its address."""
    lab.inside(node, "ip", "netns", "add", name)
    lab.inside(
        node,
        "ip",
        "-batch",
        "-",
        stdin=f"""\
link add vmr{name} type bridge
addr add {prefix}.1/24 dev vmr{name}
link set vmr{name} up
link add tap{name} type veth peer name eth0 netns {name}
link set tap{name} master vmr{name} up
""",
    )
    lab.inside(
        node,
        *netns(name),
        "ip",
        "-batch",
        "-",
        stdin=f"""\
link set lo up
addr add {prefix}.2/24 dev eth0
link set eth0 up
route add default via {prefix}.1
""",
    )
    return f"{prefix}.2"


@contextmanager
def listener(lab, node, address, *, within="", port=8000):
    """A TCP server in a node, or in a guest of it, for as long as the block runs."""
    prefix = [*lifecycle.entering(lab.home, node), *(netns(within) if within else ())]
    argv = [*prefix, sys.executable, "-c", LISTEN, address, str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "listening\n"
        yield
        server.stdin.close()


# --- harm ------------------------------------------------------------------------------------------------------------


def test_a_power_cut_loses_nothing_that_was_on_disk(tmp_path):
    with lab_at(tmp_path) as lab:
        lab.up()
        host = lab.open()
        host.defineXML(DOMAIN.format(name="kept")).create()
        pool = host.storagePoolDefineXML(
            "<pool type='dir'><name>p</name><target><path>/var/lib/libvirt/images</path></target></pool>"
        )
        pool.create()
        pool.createXML("<volume><name>v</name><capacity unit='KiB'>64</capacity></volume>")
        host.networkDefineXML("<network><name>n</name><forward mode='open'/><bridge name='vmrn'/>"
                              "<ip address='198.18.1.1' prefix='24'/></network>").create()  # fmt: skip
        for pid in lab.pids().values():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not nodes.find(lab.home) and not nodes.strays(lab.home))
        assert set(lab.states().values()) == {"down"}

        lab.up()
        host = lab.open()
        assert [(d.name(), d.isActive()) for d in host.listAllDomains()] == [("kept", 0)]
        assert [(n.name(), n.isActive()) for n in host.listAllNetworks()] == [("n", 0)]
        # libvirt takes a `dir` pool whose folder is there for started
        assert host.storagePoolLookupByName("p").listVolumes() == ["v"]


@pytest.mark.parametrize("after_s", [0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 1.0])
def test_up_killed_at_any_point_leaves_a_lab_that_up_completes_and_down_removes(tmp_path, after_s):
    with lab_at(tmp_path) as lab:
        argv = [*VMROLE, "--home", str(lab.home), "lab", "up"]
        with subprocess.Popen(argv, env=ENV, stderr=subprocess.DEVNULL, start_new_session=True) as started:
            time.sleep(after_s)
            started.kill()
        if int(after_s * 100) % 2:  # else `down` in `lab_at` finds it as it is
            lab.up()
            assert set(lab.states().values()) == {"up"}
            assert len(nodes.find(lab.home)) == 3


def test_an_unfinished_keeper_is_replaced(tmp_path):
    """One whose starter was killed never says that it is ready; `up` must not take it for a node."""
    with lab_at(tmp_path) as lab:
        lab.up()
        (lab.home / "lab/h0/sysctls").unlink()
        os.kill(lab.pids()["h0"], signal.SIGKILL)
        with pytest.raises(Refused, match="h0"):
            nodes.start(lab.home, "h0")
        lab.up()
        assert lab.states()["h0"] == "up"


def test_a_lost_edge_comes_back_without_a_restart_of_the_hosts(tmp_path):
    with lab_at(tmp_path) as lab:
        lab.up()
        before = lab.pids()
        os.kill(before["edge"], signal.SIGKILL)
        eventually(lambda: "edge" not in lab.pids())
        lab.up()
        assert lab.pids()["h0"] == before["h0"]
        lab.inside("edge", sys.executable, "-c", PING, "198.19.255.10")
        assert load_site(lab.home).balancer[2] == str(lab.pids()["edge"])


def test_a_lab_grows(tmp_path):
    with lab_at(tmp_path) as lab:
        lab.up()
        before = lab.pids()
        lab.up(2)
        after = lab.pids()
        assert {node: after[node] for node in before} == before
        lab.inside("h1", sys.executable, "-c", PING, "198.19.255.10")


def test_two_labs_live_side_by_side(tmp_path, lab):
    with lab_at(tmp_path) as other:
        site = other.up()
        assert not site.vip_pool.overlaps(load_site(lab.home).vip_pool)
        other.open().defineXML(DOMAIN.format(name="mine"))
        assert not lab.open().listAllDomains()
        for one in (lab, other):
            vip = str(load_site(one.home).vip_pool[2])
            one.inside("edge", "ip", "addr", "add", f"{vip}/32", "dev", "lo")
            run([sys.executable, "-c", PING, vip])
    assert set(lab.states().values()) == {"up"}


def test_down_ends_what_a_shell_runs_there_and_spares_the_images(tmp_path):
    with lab_at(tmp_path) as lab:
        lab.up()
        (lab.home / "images").mkdir()
        argv = [*lifecycle.entering(lab.home, "h0"), "sleep", "60"]
        with subprocess.Popen(argv) as shell:
            assert lab.down()
            shell.wait(timeout=2)
        assert [path.name for path in lab.home.iterdir()] == ["images"]
        assert lab.down() is False
        assert "there is no lab" in lab.said[-1]


# --- the accelerator -------------------------------------------------------------------------------------------------


def test_the_payload_passes_where_guests_run():
    assert accelerator.runs_payload("tcg", timeout_s=20)


def test_a_payload_that_is_cut_short_proves_nothing(monkeypatch):
    whole = accelerator.payload()
    monkeypatch.setattr(accelerator, "payload", lambda: whole[:64])
    assert not accelerator.runs_payload("tcg", timeout_s=2)


def test_an_answer_is_given_at_once_the_second_time(tmp_path):
    first = accelerator.proven_accelerator(tmp_path)
    started = time.monotonic()
    assert accelerator.proven_accelerator(tmp_path) == first
    assert time.monotonic() - started < 0.5


@pytest.mark.skipif(shutil.which("as") is None, reason="binutils are not installed")
def test_the_payload_is_what_its_source_says(tmp_path):
    source = Path(accelerator.__file__).with_name("accelerator_proof.S")
    run(["as", "--64", "-o", str(tmp_path / "o"), str(source)])
    run(["objcopy", "-O", "binary", "-j", ".text", str(tmp_path / "o"), str(tmp_path / "bin")])
    assert (tmp_path / "bin").read_bytes() == accelerator.payload()


def test_a_mark_is_of_one_home():
    assert keeper.mark("/a") != keeper.mark("/b")
