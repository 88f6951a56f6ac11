"""The answer file for cloud-init's NoCloud source: texts on a disc labelled ``cidata``.

What the user asks for is user-data (cloudconfig.py). What is ours (disks, settings, the runner of commands) is
vendor-data, so that no key of theirs can stand in its place: of a list that both have, cloud-init takes the user's and
drops the vendor's. That is why it is a boothook: a script of its own, run at every boot before anything of the user's
modules, whatever keys there are (docs/adr/0009).

All but that script is JSON, which is YAML too: any reader of either takes it, and no quoting of ours can go wrong.
"""

from __future__ import annotations

import base64
import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.engine import runtime, template
from orchestrator.errors import Refused
from orchestrator.model.names import MachineId
from orchestrator.render import commands
from orchestrator.render.cloudconfig import user_data
from orchestrator.render.disks import mount_argv
from orchestrator.render.keeping import keep_argv

if TYPE_CHECKING:
    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.setup import Setup
    from orchestrator.model.spec import Disk
    from orchestrator.model.vicinity import Vicinity
    from orchestrator.render.cloudconfig import Reveal

LABEL = "cidata"
# cloud-init makes one script of them: that one of ours failed is told after the user's own commands have run.
NOTED = "[ $? -eq 0 ] || trap 'exit 1' EXIT"
SETTINGS_PATH = "/etc/vmrole/settings.json"
RUNNER_PATH = "/var/lib/cloud/scripts/per-boot/vmrole"
# The values of what is put come as base64.
PUT = r"""
umask 077
put() { # PATH MODE CONTENT
    mkdir -p -m 755 "${1%/*}" && printf %s "$3" | base64 -d >"$1.new" && chmod "$2" "$1.new" && mv -f "$1.new" "$1"
}
is_told() { # MACHINE: what a later boot finds is newer than this; what comes from another machine, in an image, is not
    head -n 3 /etc/vmrole/runtime.json 2>/dev/null | grep -qF "\"machine\": \"$1\""
}
"""


@dataclass(frozen=True, slots=True)
class Seed:
    """The texts of a NoCloud disc, named as their files are; ``vendor_data`` may be none ("")."""

    meta_data: str
    user_data: str
    network_config: str
    vendor_data: str = ""

    def files(self) -> dict[str, bytes]:
        texts = {
            "meta-data": self.meta_data,
            "user-data": self.user_data,
            "network-config": self.network_config,
            "vendor-data": self.vendor_data,
        }
        return {name: text.encode() for name, text in texts.items() if text}


def seed(record: InstanceRecord, around: Vicinity, reveal: Reveal) -> Seed:
    """The answer file of an instance's current machine; a new generation is a new instance-id, so setup runs anew.

    ``reveal`` is asked only for the secrets that setup uses. Raises Refused for what cannot be said in a seed.
    """
    setup = template.filled(record.machine.setup, template.values(record, around))
    machine = MachineId(record.id, record.generation)
    return Seed(
        _meta_data(record, setup),
        user_data(setup, reveal),
        _network_config(record, setup, around),
        _vendor_data(machine, setup, record.machine.disks, runtime.document(record, around)),
    )


def _meta_data(record: InstanceRecord, setup: Setup) -> str:
    machine, deployment = MachineId(record.id, record.generation), record.id.deployment
    about = {
        "service": deployment.service,
        "slot": deployment.slot,
        "role": record.id.role,
        "instance": record.id.name,
        "ordinal": record.id.ordinal,
        "generation": record.generation,
    }
    name = setup.hostname or record.id.name
    return json.dumps({"instance-id": str(machine), "local-hostname": name, "vmrole": about}, indent=1)


def _network_config(record: InstanceRecord, setup: Setup, around: Vicinity) -> str:
    nic: dict[str, object] = {"match": {"macaddress": record.id.mac}, "set-name": "eth0"}
    nic |= _static(record, setup, around) if setup.is_static else _dhcp(setup)
    return json.dumps({"version": 2, "ethernets": {"nic0": nic}})


def _dhcp(setup: Setup) -> dict[str, object]:
    # The search domain comes by DHCP, but systemd-networkd takes none from there unless told to.
    overrides: dict[str, object] = {"use-domains": True}
    if setup.dns_servers:
        overrides["use-dns"] = False
    names = {"addresses": list(setup.dns_servers), "search": list(setup.dns_search)}
    given = {key: value for key, value in names.items() if value}
    return {"dhcp4": True, "dhcp4-overrides": overrides} | ({"nameservers": given} if given else {})


def _static(record: InstanceRecord, setup: Setup, around: Vicinity) -> dict[str, object]:
    """The DIP, and what DHCP would have said with it.

    Router advertisements are not waited for, which takes networkd 12 s at each boot: these networks have no IPv6 but
    link-local addresses, and what another guest says of itself as a router is not to be believed.
    """
    subnet = around.subnet(record.host)
    if subnet is None:
        raise Refused(f"{record.id} has no network on host {record.host}", "`vmrole status` tells what it waits for")
    gateway = str(subnet[1])
    return {
        "accept-ra": False,
        "addresses": [f"{record.dip}/{subnet.prefixlen}"],
        "routes": [{"to": "0.0.0.0/0", "via": gateway}],
        "nameservers": {
            "addresses": list(setup.dns_servers) or [gateway],
            "search": list(setup.dns_search) or [record.id.deployment.domain],
        },
    }


def _vendor_data(machine: MachineId, setup: Setup, disks: tuple[Disk, ...], told: str) -> str:
    """The boothook. It holds no secret: it is needed at every boot. ``told``: the runtime file of the first one."""
    runner = commands.script(machine, setup, disks)
    lines = [shlex.join(keep_argv())]
    lines += [shlex.join(mount_argv(disks))] if disks else []
    files = _put(SETTINGS_PATH, "600", runtime.settings(told)), _put(runtime.LINUX_PATH, "644", told)
    lines += [f"{shlex.join(['is_told', str(machine)])} || {{ {' && '.join(files)}; }}"]
    lines += [_put(RUNNER_PATH, "700", runner)] if runner else []
    return "#cloud-boothook\n#!/bin/sh" + PUT + "\n".join(lines) + "\n"


def _put(path: str, mode: str, content: str) -> str:
    return shlex.join(["put", path, mode, base64.b64encode(content.encode()).decode()])
