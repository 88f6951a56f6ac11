"""The steps of `lab up`: nodes, addresses, links, and the wait for libvirt. Each does only what is not done yet.

Their order is a matter of safety: the edge's rules are loaded before anything is joined to it, and `site.json` is
written last, so whoever finds that file finds hosts that answer.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.site import VIP_POOL
from orchestrator.drivers.process import run
from orchestrator.errors import HostAway, Refused, TransientError
from orchestrator.lab import files, nodes, plan, wiring
from orchestrator.lab.rules import node_rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.config.site import Site

    Report = Callable[[str], None]

LIBVIRT_TIMEOUT_S = 20.0
LOOK_EVERY_S = 0.05
MACHINE_LOCK = Path("/run")


def make(home: Path, record: files.Record, report: Report) -> Site:
    files.write_record(home, record)
    lab = plan.Lab(home, record.slot or 0, record.hosts)  # the slot plays no part before `_claim`
    started_s = time.monotonic()
    for node in [node for node in lab.nodes if node not in nodes.ready(home)]:
        files.write_node(home, node, record.accelerator)
        nodes.start(home, node)
    pids = nodes.ready(home)
    lab = _claim(home, record, pids)
    _lay(lab, pids)
    report(f"nodes and network: {', '.join(lab.nodes)} ({since(started_s)})")
    _await_hosts(lab, pids)
    report(f"libvirt answers on {lab.hosts} host(s) ({since(started_s)})")
    site = plan.site(lab, pids, record.accelerator, node_rules)
    files.write_site(home, site)
    report(f"the lab is up: VIPs in {lab.vip_pool}")
    return site


def _claim(home: Path, record: files.Record, pids: dict[str, int]) -> plan.Lab:
    """Make the edge and take a share of the machine's addresses; its link and route show other labs that it is taken.

    Under a lock of the whole machine, and written down before it is taken.
    """
    if record.slot is not None:
        lab = plan.Lab(home, record.slot, record.hosts)
        if not wiring.missing(lab, pids) & {plan.EDGE, lab.link}:
            return lab
    with wiring.locked(MACHINE_LOCK, wait=True):
        wiring.lay_edge(pids[plan.EDGE])
        wiring.take_away(plan.link_name(home))
        slot = plan.free_slot(wiring.routed_networks(), record.slot)
        if slot is None:
            raise Refused(f"all {plan.MAX_SLOTS} shares of {VIP_POOL} are taken on this machine", "end another lab")
        files.write_record(home, replace(record, slot=slot))
        lab = plan.Lab(home, slot, record.hosts)
        wiring.lay_machine(lab, pids[plan.EDGE])
    return lab


def _lay(lab: plan.Lab, pids: dict[str, int]) -> None:
    edge = pids[plan.EDGE]
    for node in sorted(wiring.missing(lab, pids) & set(lab.nodes)):
        number = plan.host_number(node)
        if number is not None:
            wiring.lay_host(number, pids[node], edge)
        elif node == plan.OUTSIDE:
            wiring.lay_outside(pids[node], edge)


def _await_hosts(lab: plan.Lab, pids: dict[str, int]) -> None:
    """Wait until every host's libvirt has looked at its QEMU, which the first question makes it do."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        waits = [
            pool.submit(_await_host, lab.home, plan.host_name(n), pids[plan.host_name(n)]) for n in range(lab.hosts)
        ]
    for wait in waits:
        wait.result()


def _await_host(home: Path, node: str, pid: int) -> None:
    deadline_s = time.monotonic() + LIBVIRT_TIMEOUT_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        if answers(pid, "version", left_s):
            return
        nodes.wait_or_end(pid, LOOK_EVERY_S)
    hint = f"the last lines of its log: {files.last_log_lines(home, node)}"
    raise HostAway(f"libvirtd on the lab's {node} did not answer within {LIBVIRT_TIMEOUT_S:.0f} s", hint)


def answers(pid: int, question: str, timeout_s: float) -> bool:
    # virsh, not the library: a daemon that hangs would take this thread with it.
    try:
        argv = ["virsh", "--quiet", "--connect", plan.socket_uri(pid), question]
        return run(argv, timeout_s=timeout_s, check=False).code == 0
    except TransientError:
        return False


def since(started_s: float) -> str:
    return f"{time.monotonic() - started_s:.1f} s"
