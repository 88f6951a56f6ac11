"""The answer file for cloud-init's NoCloud source: three texts on a disc labelled ``cidata``.

All three are JSON, which is YAML too: any reader of either takes them, and no quoting of ours can go wrong.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model.names import MachineId
from orchestrator.model.spec import SecretRef
from orchestrator.render.disks import mount_argv, own_argv
from orchestrator.render.keeping import keep_argv

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.spec import File, MachineSpec

_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
LABEL = "cidata"
# cloud-init makes one script of them: that one of ours failed is told after the user's own commands have run.
NOTED = "[ $? -eq 0 ] || trap 'exit 1' EXIT"
SETTINGS_PATH = "/etc/vmrole/settings.json"


@dataclass(frozen=True, slots=True)
class Seed:
    """The texts of a NoCloud disc, named as their files are."""

    meta_data: str
    user_data: str
    network_config: str

    def files(self) -> dict[str, bytes]:
        return {
            "meta-data": self.meta_data.encode(),
            "user-data": self.user_data.encode(),
            "network-config": self.network_config.encode(),
        }


def seed(record: InstanceRecord, reveal: Callable[[SecretRef], bytes]) -> Seed:
    """The answer file of an instance's current machine; a new generation is a new instance-id, so setup runs anew.

    ``reveal`` is asked only for the secrets that setup uses.
    """
    return Seed(_meta_data(record), _user_data(record.machine, reveal), _network_config(record.id.mac))


def _meta_data(record: InstanceRecord) -> str:
    machine, deployment = MachineId(record.id, record.generation), record.id.deployment
    about = {
        "service": deployment.service,
        "slot": deployment.slot,
        "role": record.id.role,
        "instance": record.id.name,
        "ordinal": record.id.ordinal,
        "generation": record.generation,
    }
    return json.dumps({"instance-id": str(machine), "local-hostname": record.id.name, "vmrole": about}, indent=1)


def _network_config(mac: str) -> str:
    # The search domain comes by DHCP, but systemd-networkd takes none from there unless told to.
    nic = {
        "match": {"macaddress": mac},
        "set-name": "eth0",
        "dhcp4": True,
        "dhcp4-overrides": {"use-domains": True},
    }
    return json.dumps({"version": 2, "ethernets": {"nic0": nic}})


def _user_data(machine: MachineSpec, reveal: Callable[[SecretRef], bytes]) -> str:
    setup, disks = machine.setup, machine.disks
    files = [_file(file, reveal) for file in setup.files]
    config: dict[str, object] = {"write_files": files, "bootcmd": [keep_argv(), NOTED]}
    if setup.settings:
        settings = json.dumps(dict(setup.settings), indent=1)
        config["write_files"] = [
            *files,
            _entry(SETTINGS_PATH, settings.encode(), "0600", "root:root"),
        ]
    if setup.ssh_authorized_keys:
        config["ssh_authorized_keys"] = list(setup.ssh_authorized_keys)
    if disks:
        config["bootcmd"] = [keep_argv(), NOTED, mount_argv(disks), NOTED]
    if setup.commands or disks:
        # One script too, of which only the last exit code would count.
        owned = [own_argv(disks)] if disks else []
        lines = [words if isinstance(words := command.words, str) else list(words) for command in setup.commands]
        config["runcmd"] = ["set -e", *owned, *lines]
    return "#cloud-config\n" + _json_in_yaml(merged(config, setup.user_data)) + "\n"


def _json_in_yaml(value: object) -> str:
    """JSON that a YAML reader takes for the same.

    JSON writes a character beyond U+FFFF as two escapes, which YAML reads as two characters; so those stand as they
    are, and what YAML does not allow as it is (YAML 1.1, "printable characters") is escaped.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def merged(ours: dict[str, object], user_data: str) -> dict[str, object]:
    """Our cloud-config with the user's (a JSON object's text or ""): lists are joined, ours first; else theirs wins."""
    result = dict(ours)
    for key, value in (json.loads(user_data) if user_data else {}).items():
        mine = result.get(key)
        result[key] = [*mine, *value] if isinstance(mine, list) and isinstance(value, list) else value
    return {key: value for key, value in result.items() if value != []}


def _file(file: File, reveal: Callable[[SecretRef], bytes]) -> dict[str, str]:
    content = reveal(file.content) if isinstance(file.content, SecretRef) else file.content.encode()
    return _entry(file.path, content, file.mode, file.owner)


def _entry(path: str, content: bytes, mode: str, owner: str) -> dict[str, str]:
    """A write_files entry. The content goes as base64: YAML has no way to say every byte."""
    encoded = base64.b64encode(content).decode()
    return {"path": path, "content": encoded, "encoding": "b64", "permissions": mode, "owner": owner}
