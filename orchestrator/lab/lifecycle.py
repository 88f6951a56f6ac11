"""Brings a lab up, takes it down, and tells what is there: the functions behind `vmrole lab`.

Every step looks first and does only what is missing, so it does not matter where an earlier one was cut off. `report`
gets one line for each step that takes time.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers.accelerator import proven_accelerator
from orchestrator.errors import Missing, NotFound, Refused, UserError
from orchestrator.lab import files, making, nodes, plan, wiring
from orchestrator.lab.rules import node_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.config.site import Accelerator, Site

    Report = Callable[[str], None]

# Inside a node these are its own, so a home there would not be seen from within.
HIDDEN = ("/run", "/dev", "/proc", "/sys", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
PROGRAMS = {  # what a lab needs -> Debian's package
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "virsh": "libvirt-clients",
    "libvirtd": "libvirt-daemon-system",
    "virtlogd": "libvirt-daemon-system",
    "qemu-system-x86_64": "qemu-system-x86",
    "dnsmasq": "dnsmasq-base",
    "haproxy": "haproxy",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One line of `lab ls`. ``state``: up, starting (libvirt does not answer, or not wired yet) or down."""

    node: str
    role: str
    pid: int | None
    state: str
    uri: str
    dip_pool: str
    underlay: str
    accelerator: str
    vip_pool: str


def up(home: Path, *, hosts: int | None, cache_dir: Path, report: Report) -> Site:
    """Bring the lab in ``home`` up with ``hosts`` libvirt hosts (None: as many as it has, or one).

    Raises UserError when it cannot be meant, Missing without a program, Refused when the kernel or the address space
    does not allow it, HostAway when a libvirt daemon does not answer, Busy beside another `lab up`.
    """
    require_root()
    require_programs()
    home = _usable(home)
    home.mkdir(parents=True, exist_ok=True)
    with wiring.locked(home, wait=False):
        record = _wanted(home, hosts)
        site = _running_site(home, record)
        if site is not None:
            report(f"the lab is up already: {record.hosts} host(s), VIPs in {site.vip_pool}; nothing to do")
            return site
        nodes.end(home, unfinished_only=True)
        record = replace(record, accelerator=_accelerator(home, record, cache_dir, report))
        return making.make(home, record, report)


def down(home: Path, *, report: Report) -> bool:
    """End the lab and remove it with the state of what ran in it. False when there was none.

    Raises Refused with what is left if something could not be removed.
    """
    require_root()
    home = home.resolve()
    if not leftovers(home):
        report(f"there is no lab in {home}")
        return False
    home.mkdir(parents=True, exist_ok=True)
    with wiring.locked(home, wait=False):
        count = nodes.end(home)
        wiring.take_away(plan.link_name(home))
        files.remove(home)
    report(f"ended {count} node(s)")
    if left := leftovers(home):
        raise Refused("of the lab is left: " + "; ".join(left), "end what holds it, then `vmrole lab down` again")
    return True


def leftovers(home: Path) -> tuple[str, ...]:
    """All that the machine still has of the lab in ``home``: processes, the link, mounts, files. Empty: no trace."""
    home = home.resolve()
    keepers = tuple(f"process {one.pid}, keeper of {one.node}" for one in nodes.find(home))
    strays = tuple(f"process {stray}" for stray in nodes.strays(home))
    link = plan.link_name(home)
    links = (f"link {link}",) if wiring.machine_has(link) else ()
    inside = f"{files.lab_folder(home)}/"
    mounts = tuple(
        f"mount {line.split()[4]}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if line.split()[4].startswith(inside)
    )
    return (*keepers, *strays, *links, *mounts, *(f"file {path}" for path in files.of_lab(home)))


def listing(home: Path) -> tuple[Node, ...]:
    """The lab's nodes and how they are; empty without a lab."""
    require_root()
    home = home.resolve()
    record = files.read_record(home)
    if record is None or record.slot is None:
        return ()
    lab = plan.Lab(home, record.slot, record.hosts)
    pids = nodes.ready(home)
    missing = wiring.missing(lab, pids) if pids else frozenset(lab.nodes)
    return tuple(_node(lab, name, pids.get(name), name in missing, record) for name in lab.nodes)


def entering(home: Path, node: str) -> tuple[str, ...]:
    """The argv prefix that runs a program inside ``node``, with libvirt's tools set to the daemon there."""
    require_root()
    home = home.resolve()
    pids = nodes.ready(home)
    if not pids:
        raise NotFound(f"no lab is running in {home}", "start one with `vmrole lab up`")
    if node not in pids:
        raise NotFound(f"the lab has no running node {node!r}", f"its nodes: {', '.join(sorted(pids))}")
    return (*plan.enter(pids[node]), "env", "LIBVIRT_DEFAULT_URI=qemu:///system")


def require_root() -> None:
    if os.geteuid() != 0:
        raise UserError("a lab makes network and mount namespaces: only root may", "run it with sudo")


def require_programs() -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        packages = " ".join(sorted({PROGRAMS[name] for name in absent}))
        raise Missing(f"not installed: {', '.join(absent)}", f"apt-get install --no-install-recommends {packages}")


def _usable(home: Path) -> Path:
    home = home.resolve()
    if any(home == Path(hidden) or Path(hidden) in home.parents for hidden in HIDDEN):
        raise UserError(f"a lab's home cannot be {home}: each node has its own folder there", "choose another --home")
    return home


def _wanted(home: Path, hosts: int | None) -> files.Record:
    """The lab that is to be. Taking hosts away is refused: guests may run there."""
    known = files.read_record(home)
    count = hosts if hosts is not None else (known.hosts if known else 1)
    if not 1 <= count <= plan.MAX_HOSTS:
        raise UserError(f"a lab has 1 to {plan.MAX_HOSTS} hosts, not {count}")
    if known and count < known.hosts:
        hint = "`vmrole lab down` first, then up again; it removes the guests"
        raise UserError(f"the lab has {known.hosts} hosts; {count} would take some away", hint)
    return replace(known, hosts=count) if known else files.Record(None, count, "tcg")


def _running_site(home: Path, record: files.Record) -> Site | None:
    """The site of a lab that lacks nothing, else None."""
    if record.slot is None:
        return None
    lab, pids = plan.Lab(home, record.slot, record.hosts), nodes.ready(home)
    if set(pids) != set(lab.nodes) or wiring.missing(lab, pids):
        return None
    site = plan.site(lab, pids, record.accelerator, node_rules)
    return site if files.has_site(home, site) else None


def _accelerator(home: Path, record: files.Record, cache_dir: Path, report: Report) -> Accelerator:
    """A running lab keeps what its hosts were started with: their /dev has KVM or has not."""
    if any(plan.host_number(node) is not None for node in nodes.ready(home)):
        return record.accelerator
    started_s = time.monotonic()
    accelerator = proven_accelerator(cache_dir)
    report(f"guests run with {accelerator} ({making.since(started_s)})")
    return accelerator


def _node(lab: plan.Lab, name: str, pid: int | None, is_missing: bool, record: files.Record) -> Node:
    number = plan.host_number(name)
    is_host = number is not None
    state = "down" if pid is None else "up"
    if pid is not None and (is_missing or (is_host and not making.answers(pid, "hostname", 2))):
        state = "starting"
    return Node(
        name,
        "host" if is_host else name,
        pid,
        state,
        plan.socket_uri(pid) if is_host and pid is not None else "",
        str(plan.dip_pool(number)) if number is not None else "",
        str(plan.underlay_address(name) or ""),
        record.accelerator if is_host else "",
        str(lab.vip_pool) if name == plan.EDGE else "",
    )
