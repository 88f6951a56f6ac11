"""Who reaches whom, tried from real guests and real network namespaces; the table is printed. And who can forge what.

A cell is open if anybody answers there. What a guest receives is seen on its own interface's end at the host: behind
everything that may drop a frame.
"""

import contextlib
import json
import subprocess
import sys
import textwrap
import time

import pytest

from orchestrator.model.guard import link_local
from orchestrator.model.names import libvirt_uuid
from orchestrator.wiring import owner_of
from tests.e2e.conftest import PATIENCE, service, write

pytestmark = pytest.mark.vm

WAIT_S = 3
PORT = 8099  # of a service that the host, the edge and the outside have on every address
OUTSIDE = "198.19.254.2"
UDP = range(33434, 33500)  # what traceroute sends to; who gets it and does not listen says so
FORGED_MAC, FORGED_IPV6 = "52:54:de:ad:be:ef", "fe80::dead"
OPEN, SHUT = "open", "-"

# In a guest: every target at once; something has to come back.
KNOCK = r"""
knock() {
    printf 'GET / HTTP/1.0\r\n\r\n' | timeout SECONDS nc -w SECONDS "$2" "$3" 2>/dev/null | head -c 1 | grep -q . &&
        echo "$1"
}
"""
PROBE = "traceroute -n -q 1 -m {hops} -w 2 {dip} | tail -n +2 | grep -qw {dip}"
CALL = textwrap.dedent("""
    import concurrent.futures, json, socket, sys
    def knock(target):
        name, host, port = target
        try:
            with socket.create_connection((host, port), timeout=SECONDS) as link:
                link.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
                return name if link.recv(1) else ""
        except OSError:
            return ""
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        print(json.dumps([name for name in pool.map(knock, json.loads(sys.argv[1])) if name]))
""").replace("SECONDS", str(WAIT_S))
SERVE = textwrap.dedent("""
    import http.server, sys, threading
    server = http.server.ThreadingHTTPServer(("0.0.0.0", PORT), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
""").replace("PORT", str(PORT))
# On the host: what is sent to a guest's interface, counted by what is forged in it.
CAPTURE = textwrap.dedent("""
    import collections, json, socket, sys, threading
    device, wanted = sys.argv[1], json.loads(sys.argv[2])
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.bind((device, 0))
    link.settimeout(0.2)
    seen, end = collections.Counter(), threading.Thread(target=sys.stdin.read, daemon=True)
    end.start()
    print("ready", flush=True)
    while end.is_alive():
        try:
            frame = link.recv(2000)
        except TimeoutError:
            continue
        kind = frame[12:14]
        at = {b"\\x08\\x00": slice(26, 30), b"\\x86\\xdd": slice(22, 38), b"\\x08\\x06": slice(28, 32)}
        said = {"mac": frame[6:12].hex(), kind.hex(): frame[at[kind]].hex() if kind in at else ""}
        seen.update(name for name, (field, value) in wanted.items() if said.get(field) == value)
    print(json.dumps(seen))
""")


@contextlib.contextmanager
def running(lab, node, program, *arguments):
    """A Python program in a node of the lab, from when it says that it is ready until its input ends."""
    argv = ("lab", "exec", "--host", node, "--", sys.executable, "-c", program, *arguments)
    child = lab.start(*argv, stdin=subprocess.PIPE)
    try:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        yield child
    finally:
        child.communicate(timeout=20)


def wanted(*, sources=("web",), egress=True):
    """web may reach db.pg (a ruled endpoint, a range of ports), ops may not; web alone is let out."""
    base = service("iso")["roles"]["web"]
    quiet = {key: value for key, value in base.items() if key != "endpoints"}
    internal = {"pg": {"target": "79-80", "visibility": "internal"}, "ssh": {"target": 22, "visibility": "internal"}}
    internal["told"] = {"target": f"{UDP[0]}-{UDP[-1]}", "protocol": "udp", "visibility": "internal"}
    roles = {"web": {**base, "egress": egress}, "db": {**quiet, "endpoints": internal}, "ops": dict(quiet)}
    traffic = [{"to": to, "from": list(sources)} for to in ("db.pg", "db.told")]
    return {"service": "iso", "roles": roles, "traffic": traffic}


def targets(iso, other):
    """Column → (address, port); an IPv6 address gets the interface of who calls."""
    of = {i["name"]: i for i in iso["instances"]}
    own = link_local(of["db-0"]["mac"])
    return {
        "VIP": (iso["vip"], 80),
        "VIP, other port": (iso["vip"], PORT),
        "VIP of other": (other["vip"], 80),
        "DIP web": (of["web-0"]["dip"], 80),
        "db.pg (ruled)": (of["db-0"]["dip"], 80),
        "db.pg IPv6": (own, 80),
        "db.told UDP": (of["db-0"]["dip"], UDP[0]),
        "db.ssh": (of["db-0"]["dip"], 22),
        "db.ssh IPv6": (own, 22),
        "host, bridge": (of["db-0"]["dip"].rpartition(".")[0] + ".1", PORT),
        "host, other": ("198.19.255.10", PORT),
        "outside": (OUTSIDE, PORT),
    }


def scoped(address, device):
    return f"{address}%{device}" if address.startswith("fe80:") else address


def from_guest(lab, instance, places):
    calls = "\n".join(f"knock '{name}' {scoped(host, 'eth0')} {port} &" for name, (host, port) in places.items())
    calls += f"\n{PROBE.format(hops=1, dip=places['db.told UDP'][0])} && echo 'db.told UDP'"
    script = KNOCK.replace("SECONDS", str(WAIT_S)) + calls + "\nwait"
    return set(lab.ok("exec", instance, "--", "sh", "-c", script).out.splitlines())


def from_node(lab, node, device, places):
    told = json.dumps([[name, scoped(host, device), port] for name, (host, port) in places.items()])
    done = lab.inside(sys.executable, "-c", CALL, told, host=node)
    assert done.code == 0, done.err
    return set(json.loads(done.out))


def matrix(lab, places):
    return {
        "the outside": from_node(lab, "outside", "world", places),
        "HAProxy's place": from_node(lab, "edge", "vmr-under", places),
        "iso/web (in the rule)": from_guest(lab, "iso/web-0", places),
        "iso/ops (not in it)": from_guest(lab, "iso/ops-0", places),
        "other/web": from_guest(lab, "other/web-0", places),
    }


def shown(found, places):
    wide = max(map(len, found))
    head = [" " * wide, *places]
    rows = [[who.ljust(wide), *(cell(name, what) for name in places)] for who, what in found.items()]
    return "\n".join(" | ".join(row) for row in [head, *rows])


def cell(name, what):
    return (OPEN if name in what else SHUT).ljust(len(name))


EVERYWHERE = {"VIP", "VIP of other"}
OWN = EVERYWHERE | {"DIP web", "db.ssh", "db.ssh IPv6"}
RULED = {"db.pg (ruled)", "db.pg IPv6", "db.told UDP"}
EXPECTED = {
    "the outside": EVERYWHERE | {"outside"},
    # Its own firewall does not keep a host from its own addresses.
    "HAProxy's place": EVERYWHERE | {"VIP, other port", "DIP web", "db.pg (ruled)", "db.ssh", "outside"},
    "iso/web (in the rule)": OWN | RULED | {"outside"},
    "iso/ops (not in it)": OWN,
    "other/web": EVERYWHERE,
}


def test_who_reaches_whom_and_who_can_forge_what(lab, tmp_path, capsys):
    file = tmp_path / "iso.yaml"
    first_ups(lab, write(tmp_path / "other.yaml", service("other")), write(file, wanted()))
    before = lab.status("iso")
    places = targets(before, lab.status("other"))

    with contextlib.ExitStack() as stack:
        for node in ("h0", "edge", "outside"):
            stack.enter_context(running(lab, node, SERVE))
        found = matrix(lab, places)
        with capsys.disabled():
            print(f"\n{shown(found, places)}")
        assert found == EXPECTED
        check_a_change_of_rules(lab, file, before, places, capsys)

    check_forged_frames(lab, file, before, capsys)
    assert "vmrole-" in lab.virsh("nwfilter-list")
    lab.forget_all()
    assert "vmrole-" not in lab.virsh("nwfilter-list")
    assert "vmrole_" not in lab.inside("nft", "list", "tables", host="edge").out


def first_ups(lab, *files):
    """Two services that are new, by two commands at one moment, where nothing is yet: neither is in the other's way."""
    for child in [lab.start("up", file) for file in files]:
        out, err = child.communicate(timeout=300 * PATIENCE)
        assert child.returncode == 0, out + err
    services = [lab.status(name) for name in ("iso", "other")]
    assert {found["state"] for found in services} == {"ready"}
    dips = [i["dip"] for found in services for i in found["instances"]]
    assert len({found["vip"] for found in services}) == 2
    assert len({dip.rpartition(".")[0] for dip in dips}) == 2, "each has a network of its own"
    assert all(i["generation"] == 1 for found in services for i in found["instances"])


def check_a_change_of_rules(lab, file, before, places, capsys):
    """ops comes in, and nobody gets out any more: no machine notices, and a connection that stays allowed goes on."""
    db = next(i["dip"] for i in before["instances"] if i["name"] == "db-0")
    slow = f"(sleep 15; printf 'GET / HTTP/1.0\\r\\n\\r\\n') | nc {db} 80 >/tmp/held 2>&1 &"
    begun = time.monotonic()
    lab.ok("exec", "iso/web-0", "--", "sh", "-c", slow)
    changed_at = time.monotonic()
    lab.ok("up", write(file, wanted(sources=("web", "ops"), egress=False)))
    with capsys.disabled():
        print(f"\nrules changed in {time.monotonic() - changed_at:.1f} s")
    assert from_guest(lab, "iso/ops-0", places) == OWN | RULED
    assert from_guest(lab, "iso/web-0", places) == OWN | RULED
    after = lab.status("iso")
    for one, other in zip(before["instances"], after["instances"], strict=True):
        assert (one["domain"], one["boot"], one["timeline"]) == (other["domain"], other["boot"], other["timeline"])
    time.sleep(max(0.0, 17 - (time.monotonic() - begun)))
    assert "200" in lab.ok("exec", "iso/web-0", "--", "cat", "/tmp/held").out, "the connection of before has gone on"


def check_forged_frames(lab, file, before, capsys):
    of = {i["name"]: i for i in before["instances"]}
    victim, attacker = of["web-0"], of["ops-0"]
    tap = lab.virsh("domiflist", victim["domain"]).split()[0]
    guarded = forge(lab, tap, attacker, victim)
    loosen(lab, attacker)
    bare = forge(lab, tap, attacker, victim)
    lab.ok("up", str(file))  # every look compares what libvirt has: the filter is put right
    again = forge(lab, tap, attacker, victim)
    # Somebody flushes the kernel's rules, of which libvirt takes no notice.
    entries = ("ebtables", "-t", "nat", "-L", "PREROUTING")
    before = lab.inside(*entries).out
    assert tap in before
    own = ("nft", "list", "table", "inet", "vmrole")
    laid = lab.inside(*own).out
    assert lab.inside("nft", "flush", "ruleset").code == 0
    assert tap not in lab.inside(*entries).out
    lab.ok("up", str(file))
    assert sorted(lab.inside(*entries).out.split()) == sorted(before.split())
    assert lab.inside(*own).out == laid
    told = lab.ok("events", "iso").out
    assert "its filter was gone" in told
    assert "its host's rules for its network were gone" in told
    flushed = forge(lab, tap, attacker, victim)
    with capsys.disabled():
        print(f"\nframes at the victim: guarded {guarded}, without a filter {bare}, guarded again {again}, {flushed}")
    forged = {"forged MAC", "forged IPv4", "forged ARP", "forged IPv6"}
    assert set(bare) == {"honest", *forged}, "the test would see what arrives"
    assert set(guarded) == set(again) == set(flushed) == {"honest"}


def forge(lab, tap, attacker, victim):
    """What of the attacker's frames arrives at the victim's interface, counted."""
    dip, own = victim["dip"], link_local(attacker["mac"])
    other = dip.rpartition(".")[0] + ".99"  # of the same deployment, so that the victim itself has nothing against it
    signs = {
        "honest": ("0800", address(attacker["dip"])),
        "forged MAC": ("mac", FORGED_MAC.replace(":", "")),
        "forged IPv4": ("0800", address(other)),
        "forged ARP": ("0806", address(other)),
        "forged IPv6": ("86dd", "fe80" + "0" * 24 + "dead"),
    }
    acts = [
        f"ping -c 1 -W 1 {dip}",
        f"ip addr add {other}/32 dev eth0; ping -c 1 -W 1 -I {other} {dip}",
        f"arping -c 1 -w 1 -U -I eth0 -s {other} {other}; ip addr del {other}/32 dev eth0",
        "echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad",
        f"ip -6 addr add {FORGED_IPV6}/64 dev eth0; ip -6 addr del {own}/64 dev eth0; ping6 -c 1 -W 1 ff02::1%eth0",
        f"ip -6 addr add {own}/64 dev eth0; ip -6 addr del {FORGED_IPV6}/64 dev eth0",
        f"ip link set eth0 address {FORGED_MAC}; ping -c 1 -W 1 {dip}; ip link set eth0 address {attacker['mac']}",
    ]
    with running(lab, "h0", CAPTURE, tap, json.dumps(signs)) as capture:
        lab.run("exec", "iso/ops-0", "--", "sh", "-c", f"exec 2>&1; {'; '.join(acts)}", timeout=60)
        capture.stdin.close()
        capture.stdin = None
        return json.loads(capture.stdout.readline())


def address(text):
    return "".join(f"{int(part):02x}" for part in text.split("."))


def loosen(lab, attacker):
    """Somebody takes every rule out of the attacker's filter."""
    name = next(row.split()[1] for row in lab.virsh("nwfilter-list").splitlines() if row.endswith(attacker["name"]))
    path = lab.home / "lab" / "loose.xml"
    uuid = libvirt_uuid(owner_of(lab.home), name)
    path.write_text(f"<filter name='{name}' chain='root'><uuid>{uuid}</uuid></filter>")
    assert lab.inside("virsh", "nwfilter-define", str(path)).code == 0
