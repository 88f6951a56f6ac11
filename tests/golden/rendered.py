"""Everything that is rendered, from one service of every kind of endpoint: file name → its text."""

import json
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv4Network

from orchestrator.cli.forecast import forecast_text
from orchestrator.cli.view import status_json, status_text
from orchestrator.engine import runtime, template
from orchestrator.engine.plan import plan
from orchestrator.engine.rotation import frontends, servers
from orchestrator.model.making import MachineSpec
from orchestrator.model.record import Intent
from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Certificate, Command, File, Setup, User, When
from orchestrator.model.spec import Disk, DiskKind, Endpoint, Platform, Protocol, Ready, Size, Tls, Traffic
from orchestrator.model.traffic import Balance, Check, Sticky
from orchestrator.model.vicinity import Vicinity
from orchestrator.model.world import HostName, HostSeen, Lease, World
from orchestrator.render import cloudinit, commands, haproxy, winpe
from orchestrator.render.domain import Surroundings, domain_xml
from orchestrator.render.network import NetworkWish, network_xml
from orchestrator.render.unattend import seed as windows_seed
from orchestrator.render.volume import base_volume_xml, overlay_xml, pool_path, pool_xml, raw_volume_xml
from tests.fakes.build import DIGEST, GOSSIP, HELLO, HTTP, NOW, OWNER, SSH, deployment, record, role, service, web
from tests.fakes.guests import Script
from tests.fakes.world import FakeWorld
from tests.unit.test_unattend import FULL as WINDOWS_SETUP
from tests.unit.test_unattend import INSTALL, SUBNET, reveal

SETUP = Setup(
    ("ssh-ed25519 AAAA me",),
    (File("/etc/motd", 'Grüße, "you" 😀\n', "0600"),),
    (Command("echo hello"), Command(("touch", "/tmp/a b"))),
    user_data=json.dumps({"packages": ["vim"], "runcmd": ["echo theirs"]}),
)
FULL = Setup(
    hostname="{{instance}}.example.org",
    timezone="Europe/Berlin",
    locale="de_DE.UTF-8",
    keyboard="de",
    users=(
        User("app", ("adm",), SecretRef("file:/pw"), "", ("ssh-ed25519 AAAA app",), is_admin=True, shell="/bin/bash"),
        User("old", password_hash="$6$salt$hash"),
    ),
    administrator_password=SecretRef("file:/pw"),
    files=(File("/etc/{{role}}", "{{dip}} {{role.web.dips}}\n", "0640", "app:app"), File("/k", SecretRef("file:/pw"))),
    packages=("vim",),
    commands=(
        Command("echo {{ordinal}}; exit 0", name="first"),
        Command(("touch", "/tmp/a b"), When.EVERY_BOOT),
        Command("#!/usr/bin/python3\nprint(1)", When.START_UP, name="migrate", timeout_s=60.0),
    ),
    certificates=(Certificate("ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", is_root=True),),
    ntp_servers=("192.0.2.7",),
    dns_search=("example.org",),
    is_static=True,
    user_data=json.dumps({"bootcmd": ["echo theirs"], "write_files": [{"path": "/x", "content": "{{vip}}"}]}),
)
PARTS = replace(FULL, user_parts=(("text/x-shellscript", "#!/bin/sh\necho {{instance}}\n"),))
NEIGHBOURS = ((web(0).instance, "198.18.0.10"), (web(1).instance, "198.18.0.11"))
AROUND = Vicinity(
    "198.51.100.1",
    (("local", IPv4Network("198.18.0.0/24")),),
    NEIGHBOURS[1:],
    (("KEY", "value"), ("WHO", "{{instance}}")),
    5,
    runtime.peers((role(endpoints=(HTTP, SSH, GOSSIP)),), NEIGHBOURS, {web(1).instance}),
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


def _network(forward: str = "nat", *, upstream: bool = True) -> str:
    leases = frozenset(Lease(r.id.mac, r.dip, r.id.name) for r in MEMBERS)
    names = frozenset(HostName(r.dip, r.id.name) for r in MEMBERS)
    names |= {HostName(r.dip, name, 1 + r.id.ordinal) for r in MEMBERS for name in ("web", f"web.{HELLO.domain}")}
    return network_xml(NetworkWish(HELLO, OWNER, forward, IPv4Network("198.18.0.0/24"), leases, names, upstream))


def _haproxy() -> str:
    members = [server for each in MEMBERS for server in servers(each, ROLE)]
    return haproxy.config_text(frontends([WANTED]), members)


def _every_option() -> str:
    tls = Tls(SecretRef("store:site", "5eed"))
    wanted = (
        replace(HTTP, traffic=Traffic(Check(1.0, 0.5), Balance.LEASTCONN, Sticky.COOKIE, False, 1000, 50, 90.0, tls)),
        Endpoint("shop", (443, 443), 8443, Protocol.HTTPS, check_path="/healthz"),
        Endpoint("mail", (25, 25), 2525, traffic=Traffic(balance=Balance.SOURCE, proxy_protocol=True)),
        Endpoint("chat", (6667, 6667), 6667, traffic=Traffic(Check(port=8081), sticky=Sticky.SOURCE)),
    )
    some = role(endpoints=wanted)
    members = [server for each in MEMBERS for server in servers(each, some)]
    return haproxy.config_text(frontends([deployment(service(some))]), members)


def _seed(name: str, setup: Setup = SETUP) -> str:
    known = record(machine=MachineSpec(DIGEST, Size(), setup, DISKS[:1] if setup is FULL else ()))
    return cloudinit.seed(known, AROUND, lambda _secret: b"s3cret\n").files()[name].decode()


def _runner() -> str:
    """What the boothook puts in place."""
    return commands.script(web(0), template.filled(FULL, template.values(record(), AROUND)), DISKS[:1])


def _unattend(name: str) -> str:
    disks = (replace(DISKS[0], mount="D:\\"), replace(DISKS[1], mode="0700"))
    asked = MachineSpec(DIGEST, Size(), WINDOWS_SETUP, disks, Platform("windows"), (80, 3389))
    return windows_seed(record(machine=asked), runtime.document(record(machine=asked), AROUND), reveal, SUBNET)[
        name
    ].decode("utf-8-sig")


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
    hosts = {"local": HostSeen("local")}
    return forecast_text(empty, wanted, plan(future, World(hosts), NOW), hosts) + "\n"


def _changed() -> str:
    """The same service, to be changed in every way that costs something else."""
    intent = Intent(OWNER, (deployment(service(role(instances=2))),))
    later = role(instances=3, size=Size(2, 1024), ready=Ready(timeout_s=60.0))
    wanted = deployment(service(later, role("db", endpoints=())), revision=2)
    future = replace(intent, deployments=(wanted,))
    hosts = {"local": HostSeen("local")}
    return forecast_text(intent, wanted, plan(future, World(hosts), NOW), hosts) + "\n"


RENDERED: dict[str, Callable[[], str]] = {
    "domain-kvm.xml": lambda: _domain("kvm"),
    "domain-tcg.xml": lambda: _domain("tcg"),
    "domain-uefi.xml": lambda: _on_platform("tcg", Platform(firmware="uefi")),
    "domain-windows.xml": lambda: _on_platform("kvm", Platform("windows", "uefi", secure_boot=True, tpm=True)),
    "domain-windows-sata.xml": lambda: _on_platform("tcg", Platform("windows", "bios", virtio=False)),
    "network.xml": _network,
    "network-lab.xml": lambda: _network("open", upstream=False),
    "pool.xml": lambda: pool_xml(OWNER) + "\n",
    "volume-base.xml": lambda: base_volume_xml(DIGEST, 5_000_000) + "\n",
    "volume-overlay.xml": lambda: overlay_xml(web(0), DIGEST, 2 * 1024**3, OWNER) + "\n",
    "volume-seed.xml": lambda: raw_volume_xml(web(0).seed, 4096, "0600") + "\n",
    "haproxy.cfg": _haproxy,
    "haproxy-options.cfg": _every_option,
    "meta-data": lambda: _seed("meta-data") + "\n",
    "user-data": lambda: _seed("user-data"),
    "unattend.xml": lambda: _unattend("unattend.xml"),
    "vmrole.json": lambda: _unattend("vmrole.json") + "\n",
    "vmrole.ps1": lambda: _unattend("vmrole.ps1"),
    "autounattend-uefi.xml": lambda: winpe.answer_file(INSTALL).decode(),
    "autounattend-bios.xml": lambda: winpe.answer_file(replace(INSTALL, firmware="bios")).decode(),
    "network-config": lambda: _seed("network-config") + "\n",
    "user-data-full": lambda: _seed("user-data", FULL),
    "user-data-parts": lambda: _seed("user-data", PARTS),
    "vendor-data": lambda: _seed("vendor-data", replace(FULL, commands=())),
    "network-config-static": lambda: _seed("network-config", FULL) + "\n",
    "runner.sh": _runner,
    "runtime.json": lambda: runtime.document(record(machine=MachineSpec(DIGEST, Size(), FULL, DISKS)), AROUND),
    "status.json": lambda: _status(lambda p, d, _now: json.dumps(status_json(p, d), indent=2) + "\n"),
    "status.txt": lambda: _status(lambda p, d, now: status_text(p, d, now) + "\n"),
    "plan.txt": _forecast,
    "plan-change.txt": _changed,
}
