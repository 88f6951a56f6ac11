"""Runs the loop for a while over 50 domains at rest, and prints the share of a core and the MiB that this took.

    python -m tests.bench.idle SECONDS

The host is libvirt's test driver, in this process: what it costs is counted in. The agents are fakes, as that driver
has none, but every look at one is answered at once by as much JSON as the real one sends; so are filters, which it does
not know. The store is SQLite.
"""

import base64
import json
import sys
import tempfile
import time
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from orchestrator.config.site import HostSite
from orchestrator.control.apply import Effects
from orchestrator.control.loop import Loop
from orchestrator.control.observe import Observer
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.guest import AgentGuests
from orchestrator.drivers.host import LibvirtHost
from orchestrator.drivers.looks import BUSY
from orchestrator.drivers.sqlite import SqliteStore
from orchestrator.errors import AgentRefused
from orchestrator.model.making import machine_spec
from orchestrator.model.names import DeploymentCopy, InstanceId, MachineId, base_marker, base_volume
from orchestrator.model.spec import Platform
from tests.fakes.balancer import FakeBalancer
from tests.fakes.build import DIGEST, HELLO, OWNER, READY, deployment, record, role, service
from tests.fakes.faults import Faults
from tests.fakes.small import FakeBoard, FakeImages, FakeSecrets, FakeSeeds

INSTANCES = 50
BOOT = "8c3f2d0e-0000-4000-8000-000000000000\n"


class Host(LibvirtHost):
    """The test driver's host, with agents, and filters that are kept here."""

    def __init__(self, site, owner):
        super().__init__(site, owner)
        self.guards = {}

    def observe(self):
        seen = super().observe()
        domains = {name: replace(domain, is_guarded=True) for name, domain in seen.domains.items()}
        return replace(seen, domains=domains, filters={name: g.fingerprint for name, g in self.guards.items()})

    def define_filter(self, guard):
        self.guards[guard.name] = guard

    def agent(self, domain, command, arguments, _timeout_s):
        self._connection.get().lookupByName(domain)
        if arguments.get("path") == BUSY:
            raise AgentRefused("no such file")
        answers = {
            "guest-file-open": 1000,
            "guest-file-read": {"buf-b64": base64.b64encode(BOOT.encode()).decode(), "count": 37},
        }
        return json.loads(json.dumps({"return": answers.get(command, {})}))["return"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "node.xml").write_text("<node/>")
        host = Host(HostSite("local", f"test://{folder}/node.xml", IPv4Network("198.18.0.0/15"), "nat", "kvm"), OWNER)
        store = SqliteStore(Path(folder) / "vmrole.db", OWNER)
        make(host, store)
        balancer, clock = FakeBalancer(Faults()), SystemClock()
        guests = AgentGuests()
        effects = Effects(
            {"local": host},
            guests,
            balancer,
            FakeImages("debian-12"),
            FakeSeeds(),
            store,
            print,
            FakeSecrets(),
            FakeBoard(),
        )
        loop = Loop(Observer({"local": host}, guests, balancer), effects, clock)
        begin = time.monotonic()
        while loop.tick().steps and time.monotonic() - begin < 20:
            clock.wait(0.1)
        loop.stand_by()
        changes, begun, used = store._db.total_changes, time.monotonic(), time.process_time()
        turns = 0
        while time.monotonic() - begun < float(sys.argv[1]):
            made = loop.tick()
            assert made.steps == ()
            clock.wait(made.requeue_s)
            turns += 1
        share = (time.process_time() - used) / (time.monotonic() - begun)
        rss = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith("VmRSS"))
        written = store._db.total_changes - changes
        print(f"{share:.4f} of a core, {int(rss.split()[1]) / 1024:.1f} MiB, {turns} turns, {written} rows written")
        assert written == 0
        loop.close()
        store.close()


def make(host, store):
    """Everything as it is when all have become ready."""
    web = role(instances=INSTANCES)
    wanted = deployment(service(web))
    store.save_deployment(wanted)
    host.create_pool()
    host.create_network(HELLO, wanted.subnets["local"], frozenset(), frozenset())
    copy = DeploymentCopy(wanted.id, wanted.revision)
    for volume in (base_volume(DIGEST), base_marker(DIGEST), copy.file, copy.marker):
        host._pool.put(volume, b"", "0444")  # the test driver takes no uploads: an empty file needs none
    spec = machine_spec(web, DIGEST, Platform())
    for ordinal in range(INSTANCES):
        key = InstanceId(HELLO, "web", ordinal)
        machine = MachineId(key, 1)
        host.create_overlay(machine, DIGEST, 0)
        for file in (machine.seed, machine.console):
            host._pool.put(file, b"", "0600")
        host.define_domain(machine, spec, 1)
        host._connection.get().lookupByName(machine.domain).create()
        store.save_instance(record(key, timeline=READY, machine=spec, boot_id=BOOT.strip(), has_run=True, version=0))


if __name__ == "__main__":
    main()
