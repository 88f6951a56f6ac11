"""Lays a lab's links, addresses and rules: `plan` and `rules` say which, this runs `ip` and `nft` in the namespaces.

Each piece is made anew unless it carries the ready mark, which is set last: half a piece, left by a `lab up` that
was killed, is taken away and made again. A link goes with either of its ends, so a restarted node needs no cleaning.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers.process import ProgramFailed, run
from orchestrator.errors import Busy, Refused
from orchestrator.lab import plan, rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MACHINE: tuple[str, ...] = ()  # the argv prefix for the machine's own network namespace


@contextmanager
def locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Hold the kernel's lock on a folder: it needs no file, a killed holder lets go. Raises Busy unless ``wait``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    except BlockingIOError as error:
        raise Busy(f"another `vmrole lab` works on {folder}", "wait for it to end") from error
    finally:
        os.close(descriptor)


def marked_links(prefix: Sequence[str]) -> frozenset[str]:
    """The links of a namespace that carry the ready mark."""
    links = json.loads(run([*prefix, "ip", "-json", "link", "show"]).stdout)
    return frozenset(link["ifname"] for link in links if link.get("ifalias") == plan.READY)


def routed_networks() -> tuple[IPv4Network, ...]:
    """What the machine has routes for, the default route left out."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout)
    names = (route["dst"] for route in routes if route.get("type", "unicast") in {"unicast", "local"})
    return tuple(IPv4Network(name, strict=False) for name in names if name != "default")


def missing(lab: plan.Lab, pids: Mapping[str, int]) -> frozenset[str]:
    """The pieces that are not wired: names of nodes, and of the machine's link. Without an edge that is all of them."""
    wired = set(marked_links(MACHINE))
    if plan.EDGE in pids:
        inside = marked_links(plan.enter(pids[plan.EDGE], wholly=False))
        wired |= inside | ({plan.EDGE} if plan.BRIDGE in inside else set())
    return frozenset({*lab.nodes, lab.link}) - wired


def lay_edge(pid: int) -> None:
    inside = plan.enter(pid, wholly=False)
    _delete(inside, plan.BRIDGE)
    _ip(inside, plan.edge_links())


def lay_machine(lab: plan.Lab, pid: int) -> None:
    """Load the edge's rules, then join the machine to it. To be called before anything else is joined to the edge."""
    inside = plan.enter(pid, wholly=False)
    _delete(MACHINE, lab.link)
    _nft(inside, rules.edge_rules(lab.vip_pool))
    _ip(MACHINE, plan.machine_port(lab, pid))
    _ip(inside, plan.machine_links(lab))
    _ip(MACHINE, plan.ready_mark(lab.link))


def lay_outside(pid: int, edge_pid: int) -> None:
    edge = plan.enter(edge_pid, wholly=False)
    _delete(edge, plan.OUTSIDE)
    _ip(edge, plan.outside_port(pid))
    _ip(plan.enter(pid, wholly=False), plan.outside_links())
    _ip(edge, plan.ready_mark(plan.OUTSIDE))


def lay_host(number: int, pid: int, edge_pid: int) -> None:
    node, edge = plan.host_name(number), plan.enter(edge_pid, wholly=False)
    inside = plan.enter(pid, wholly=False)
    _delete(edge, node)
    _nft(inside, rules.host_rules(number))
    _ip(edge, plan.host_port(node, pid))
    _ip(inside, plan.host_links(number))
    _ip(edge, plan.ready_mark(node))


def take_away(link: str) -> None:
    """Remove the lab's link from the machine; its routes and its other end go with it."""
    _delete(MACHINE, link)


def machine_has(link: str) -> bool:
    return Path("/sys/class/net", link).exists()


def _ip(prefix: Sequence[str], batch: str) -> None:
    _tool([*prefix, "ip", "-batch", "-"], batch, "the kernel must have veth and bridge links")


def _nft(prefix: Sequence[str], text: str) -> None:
    _tool([*prefix, "nft", "-f", "-"], text, "the kernel must have nftables (nf_tables, nft_ct)")


def _tool(argv: Sequence[str], text: str, hint: str) -> None:
    try:
        run(argv, stdin=text)
    except ProgramFailed as error:
        raise Refused(f"the lab's network could not be made: {error.message}", hint) from error


def _delete(prefix: Sequence[str], link: str) -> None:
    run([*prefix, "ip", "link", "delete", link], check=False)  # none there is as good
