"""The composition root: from a state folder to a loop with real drivers. The only module that names both sides."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.config.site import Site, load_site, machine_site
from orchestrator.config.siteform import as_set
from orchestrator.control.apply import Effects
from orchestrator.control.loop import Loop
from orchestrator.control.observe import Observer
from orchestrator.drivers.accelerator import proven_accelerator
from orchestrator.drivers.board import FileBoard
from orchestrator.drivers.clock import SystemClock
from orchestrator.drivers.guest import AgentGuests
from orchestrator.drivers.haproxy import HaproxyBalancer
from orchestrator.drivers.host import LibvirtHost
from orchestrator.drivers.images import Repository
from orchestrator.drivers.lease import FileLease, kept
from orchestrator.drivers.place import Place
from orchestrator.drivers.secrets import SecretStore
from orchestrator.drivers.seed import IsoSeeds
from orchestrator.drivers.sqlite import SqliteStore
from orchestrator.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from orchestrator.ports import Progress

WRITE_S = 60.0  # an `up` looks at every host before it stores what it wants
TURN_S = 60.0  # a controller's turn may be long: it may be uploading an image


@dataclass(frozen=True, slots=True)
class Wiring:
    """Everything that a command may need, made of one state folder."""

    home: Path
    site: Site
    clock: SystemClock
    store: SqliteStore
    hosts: Mapping[str, LibvirtHost]
    balancer: HaproxyBalancer
    images: Repository
    lease: FileLease
    loop: Loop
    secrets: SecretStore

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While it lasts no loop of this home changes anything. Raises Busy if a command runs one."""
        with self.lease.turn(self.clock, TURN_S):
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """While it lasts no other `up` of this home stores what it wants. Raises Busy when one does for too long."""
        with kept(self.home / "intent.lock", self.clock, WRITE_S, "another `vmrole up`"):
            yield


def make_home(home: Path) -> Path:
    """Make the state folder, for its owner alone. Raises Refused when it cannot be made."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(
            f"the state folder {home} cannot be made: {error.strerror}", "name another with --home"
        ) from error
    return home


def owner_of(home: Path) -> str:
    """The mark on everything of this home on a host: the same for ever for the same folder."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:8]


def site_of(home: Path, connect: str | None, cache_dir: Path) -> Site:
    """The lab in the home folder if there is one, else this machine's libvirt (or ``connect``)."""
    lab = None if connect else load_site(home)
    return as_set(lab or machine_site(connect or "qemu:///system", proven_accelerator(cache_dir)), home)


def repository(home: Path, clock: SystemClock) -> Repository:
    return Repository(make_home(home) / "images", clock)


@contextlib.contextmanager
def wired(home: Path, connect: str | None, cache_dir: Path, report: Progress) -> Iterator[Wiring]:
    """Everything, connected; closed at the end. ``report`` is told of steps that take long."""
    owner = owner_of(make_home(home))
    site = site_of(home, connect, cache_dir)
    clock, store = SystemClock(), SqliteStore(home / "vmrole.db", owner)
    hosts = {host.name: LibvirtHost(host, owner, site.vip_pool) for host in site.hosts}
    secrets = SecretStore(home)
    balancer, images = HaproxyBalancer(site, home / "run", secrets.reveal, owner), repository(home, clock)
    guests = AgentGuests(place=Place(site.balancer), reveal=secrets.reveal)
    observer = Observer(hosts, guests, balancer)
    effects = Effects(
        hosts, guests, balancer, images, IsoSeeds(), store, report, secrets, FileBoard(home / "trouble.json")
    )
    loop = Loop(observer, effects, clock)
    try:
        yield Wiring(home, site, clock, store, hosts, balancer, images, FileLease(home / "loop.lock"), loop, secrets)
    finally:
        loop.close()
        guests.close()
        balancer.close()
        store.close()
