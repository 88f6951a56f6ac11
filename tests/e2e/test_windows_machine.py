"""What can be run of Windows without Windows.

That is its machine up to the firmware's boot attempt, and the conversation with a guest's agent behind which is a
stand-in for PowerShell.
"""

import base64
import json
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from orchestrator.config.site import load_site
from orchestrator.drivers.guest import AgentGuests
from orchestrator.drivers.host import LibvirtHost
from orchestrator.drivers.seed import IsoSeeds
from orchestrator.drivers.winguest import POWERSHELL
from orchestrator.model.guard import Guard, guard_name
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import DeploymentId, InstanceId, MachineId
from orchestrator.model.spec import Platform, Ready, Size
from orchestrator.model.world import HostName, Lease
from orchestrator.render import unattend
from orchestrator.wiring import owner_of
from tests.e2e.conftest import eventually, service, write
from tests.fakes.build import record
from tests.unit.test_unattend import FULL, SUBNET, TOLD, reveal
from tests.unit.test_winready import BOOT, answer
from tests.unit.test_winready import service as told_service

pytestmark = pytest.mark.vm
MACHINE = MachineId(InstanceId(DeploymentId("boxes"), "win", 0), 1)
DIGEST = "sha256:" + "5e" * 32
PLATFORMS = {
    "secure boot and TPM": Platform("windows", "uefi", secure_boot=True, tpm=True),
    "UEFI without virtio": Platform("windows", "uefi", virtio=False),
    "BIOS without virtio": Platform("windows", "bios", virtio=False),
    "Linux under UEFI": Platform("linux", "uefi"),
}


@pytest.fixture
def host(lab):
    """The lab's first host, as the loop has it."""
    site = load_site(lab.home)
    assert site is not None
    return LibvirtHost(site.hosts[0], owner_of(lab.home))


@pytest.fixture
def ground(lab, host, tmp_path):
    """A network, a filter that lets everything pass, and a base with nothing on it."""
    guard = Guard(guard_name(owner_of(lab.home), MACHINE.instance), ())
    key, instance = MACHINE.instance.deployment, MACHINE.instance
    subnet = IPv4Network("198.18.77.0/24")
    lease = Lease(instance.mac, "198.18.77.10", instance.name)
    blank = tmp_path / "blank.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(blank), "64M"], check=True)
    host.create_network(key, subnet, frozenset({lease}), frozenset({HostName(lease.ip, lease.name)}))
    host.define_filter(guard)
    host.create_pool()
    host.place_image(DIGEST, blank, lambda _text: None)
    yield host
    host.destroy_domain(MACHINE.domain)
    host.undefine_domain(MACHINE.domain)
    host.delete_filter(guard.name)
    host.delete_network(key.network)
    host.delete_pool()


def left_by_firmware(lab):
    """Variables and TPMs that the host keeps for the machine."""
    found = lab.inside("sh", "-c", "ls -R /var/lib/libvirt/qemu/nvram /var/lib/libvirt/swtpm 2>/dev/null").out
    uuid = lab.virsh("domuuid", MACHINE.domain).strip() or "no such domain"
    return [row for row in found.splitlines() if MACHINE.domain in row or uuid in row]


@pytest.mark.parametrize("platform", PLATFORMS.values(), ids=PLATFORMS)
def test_a_machine_starts_as_its_image_asks_for_up_to_the_firmwares_boot_attempt(lab, ground, platform):
    spec = MachineSpec(DIGEST, Size(1, 256), replace(FULL), platform=platform, ports=(3389,))
    asked = record(MACHINE.instance, machine=spec)
    ground.create_overlay(MACHINE, DIGEST, 0)
    ground.create_seed(MACHINE, IsoSeeds().disc(unattend.LABEL, unattend.seed(asked, TOLD, reveal, SUBNET)))
    ground.define_domain(MACHINE, spec, 1)
    ground.start_domain(MACHINE)
    wanted = "BdsDxe:" if platform.firmware == "uefi" else "No bootable device"
    try:
        said = eventually(lambda: [row for row in ground.console(MACHINE) if wanted in row], wanted, 60)
    except AssertionError:
        raise AssertionError(f"no {wanted!r} on the console: {ground.console(MACHINE)}") from None
    xml = lab.virsh("dumpxml", MACHINE.domain)
    assert ("secure='yes'" in xml, "<tpm " in xml) == (platform.secure_boot, platform.tpm), said
    assert ("<model type='e1000e'/>" in xml) is not platform.virtio
    is_kept = [*left_by_firmware(lab)]
    assert bool(is_kept) is (platform.firmware == "uefi" or platform.tpm)
    ground.destroy_domain(MACHINE.domain)
    ground.undefine_domain(MACHINE.domain)
    assert left_by_firmware(lab) == []


# No Windows: a guest of ours, in which a program by PowerShell's path prints an answer of its shape.
STAND_IN = r"""#!/bin/sh
[ "$5" = -EncodedCommand ] || { echo "not the words that were agreed" >&2; exit 2; }
echo "$6" | base64 -d | tr -d '\0' | grep -q Win32_Service || exit 3
cat /tmp/answer.json
"""


def test_the_agents_conversation_with_a_stand_in_for_powershell(lab, host, tmp_path):
    lab.ok("up", write(tmp_path / "talk.yaml", service("talk")))
    found = lab.instance("talk", "web-0")
    machine = MachineId(InstanceId(DeploymentId("talk"), "web", 0), found["generation"])

    def put(path, text, mode):
        # Its path has no "/", so the agent looks for it as for any program's name.
        encoded = base64.b64encode(text.encode()).decode()
        script = 'echo "$1" | base64 -d >"$2" && chmod "$3" "$2"'
        lab.ok("exec", "talk/web-0", "--", "sh", "-c", script, "put", encoded, path, mode)

    guests = AgentGuests()

    def look():
        return guests.look(host, machine, dip="", ready=Ready(), known_boot=None, system="windows")

    put(f"/usr/bin/{POWERSHELL}", STAND_IN, "755")
    put("/tmp/answer.json", json.dumps(answer(busy=True, image="IMAGE_STATE_SPECIALIZE_RESEAL_TO_OOBE")), "644")
    seen = eventually(lambda: (s := look()).boot_id and s, "the first answer")
    assert (seen.boot_id, seen.setup_done) == (BOOT, False)
    put("/tmp/answer.json", json.dumps(answer(told_service("Spooler", "Stopped"), uptime=500.0)), "644")
    seen = eventually(lambda: (s := look()).failed and s, "a service that failed")
    assert "Spooler" in seen.failed[0]
    put("/tmp/answer.json", json.dumps(answer(told_service("Spooler"))), "644")
    eventually(lambda: (s := look()).settled and not s.failed, "everything runs")
    put("/tmp/answer.json", "PS C:\\>", "644")
    eventually(lambda: "something else" in "".join(look().waiting), "nonsense is told")
