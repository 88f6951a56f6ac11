"""Everything that is rendered, from one service of every kind of endpoint: file name → its text."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

from orchestrator.cli.forecast import forecast_text
from orchestrator.cli.view import status_json, status_text
from orchestrator.engine.plan import plan
from orchestrator.engine.rotation import frontends, servers
from orchestrator.model.record import Intent
from orchestrator.model.spec import Command, Disk, DiskKind, File, MachineSpec, Platform, Setup, Size
from orchestrator.model.world import HostName, HostSeen, Lease, World
from orchestrator.render import cloudinit, haproxy, winpe
from orchestrator.render.domain import Surroundings, domain_xml
from orchestrator.render.network import NetworkWish, network_xml
from orchestrator.render.unattend import seed as windows_seed
from orchestrator.render.volume import base_volume_xml, overlay_xml, pool_path, pool_xml, raw_volume_xml
from tests.fakes.build import DIGEST, GOSSIP, HELLO, HTTP, NOW, OWNER, SSH, deployment, record, role, service, web
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld
from tests.unit.test_unattend import FULL, INSTALL, SUBNET, reveal

SETUP = Setup(
    ("ssh-ed25519 AAAA me",),
    (File("/etc/motd", 'Grüße, "you" 😀\n', "0600"),),
    (Command("echo hello"), Command(("touch", "/tmp/a b"))),
    user_data=json.dumps({"packages": ["vim"], "runcmd": ["echo theirs"]}),
    settings=(("KEY", "value"),),
)
DISKS = (
    Disk("data", DiskKind.VOLUME, 1024, "/srv/data"),
    Disk("cache", DiskKind.LOCAL, 512, "/var/cache"),
    Disk("scratch", DiskKind.LOCAL, 256, "/scratch", is_clean=True),
)
ROLE = role(endpoints=(HTTP, replace(SSH, ports=(9100, 9101)), GOSSIP))
WANTED = deployment(service(ROLE))
MEMBERS = [record(web(n).instance, generation=1 + n) for n in range(2)]


def _domain(accelerator: str) -> str:
    spec = MachineSpec(DIGEST, Size(2, 768), SETUP, DISKS)
    return domain_xml(web(0), spec, 2, Surroundings(OWNER, pool_path(OWNER), accelerator))


def _on_platform(accelerator: str, platform: Platform) -> str:
    spec = MachineSpec(DIGEST, Size(2, 4096), Setup(), DISKS, platform)
    return domain_xml(web(0), spec, 2, Surroundings(OWNER, pool_path(OWNER), accelerator))


def _network() -> str:
    leases = frozenset(Lease(r.id.mac, r.dip, r.id.name) for r in MEMBERS)
    names = frozenset(HostName(r.dip, r.id.name) for r in MEMBERS)
    return network_xml(NetworkWish(HELLO, OWNER, "nat", IPv4Network("198.18.0.0/24"), leases, names))


def _haproxy() -> str:
    members = [server for each in MEMBERS for server in servers(each, ROLE)]
    return haproxy.config_text(frontends([WANTED]), members)


def _seed(name: str) -> str:
    return cloudinit.seed(record(machine=MachineSpec(DIGEST, Size(), SETUP))).files()[name].decode()


def _unattend(name: str) -> str:
    asked = MachineSpec(DIGEST, Size(), FULL, platform=Platform("windows"), ports=(80, 3389))
    return windows_seed(record(machine=asked), reveal, SUBNET)[name].decode("utf-8-sig")


def _status(show: Callable) -> str:
    """Two instances at rest: one serves, one has failed."""
    world = FakeWorld()
    world.scripts["hello.production.web-1"] = Script(setup_errors=("user nobody: no such group",))
    key = world.up(service(role(instances=2)))
    made = world.settle()
    known = world.store.intent().deployment(key)
    assert known is not None
    return show(made, known, world.clock.now())


def _forecast() -> str:
    wanted = deployment(service(role(instances=2)))
    empty = Intent(OWNER)
    future = replace(empty, deployments=(wanted,))
    return forecast_text(empty, wanted, plan(future, World({"local": HostSeen("local")}), NOW), frozenset()) + "\n"


RENDERED: dict[str, Callable[[], str]] = {
    "domain-kvm.xml": lambda: _domain("kvm"),
    "domain-tcg.xml": lambda: _domain("tcg"),
    "domain-uefi.xml": lambda: _on_platform("tcg", Platform(firmware="uefi")),
    "domain-windows.xml": lambda: _on_platform("kvm", Platform("windows", "uefi", secure_boot=True, tpm=True)),
    "domain-windows-sata.xml": lambda: _on_platform("tcg", Platform("windows", "bios", virtio=False)),
    "network.xml": _network,
    "pool.xml": lambda: pool_xml(OWNER) + "\n",
    "volume-base.xml": lambda: base_volume_xml(DIGEST, 5_000_000) + "\n",
    "volume-overlay.xml": lambda: overlay_xml(web(0), DIGEST, 2 * 1024**3, OWNER) + "\n",
    "volume-seed.xml": lambda: raw_volume_xml(web(0).seed, 4096, "0600") + "\n",
    "haproxy.cfg": _haproxy,
    "meta-data": lambda: _seed("meta-data") + "\n",
    "user-data": lambda: _seed("user-data"),
    "unattend.xml": lambda: _unattend("unattend.xml"),
    "vmrole.json": lambda: _unattend("vmrole.json") + "\n",
    "vmrole.ps1": lambda: _unattend("vmrole.ps1"),
    "autounattend-uefi.xml": lambda: winpe.answer_file(INSTALL).decode(),
    "autounattend-bios.xml": lambda: winpe.answer_file(replace(INSTALL, firmware="bios")).decode(),
    "network-config": lambda: _seed("network-config") + "\n",
    "status.json": lambda: _status(lambda p, d, _now: json.dumps(status_json(p, d), indent=2) + "\n"),
    "status.txt": lambda: _status(lambda p, d, now: status_text(p, d, now) + "\n"),
    "plan.txt": _forecast,
}
