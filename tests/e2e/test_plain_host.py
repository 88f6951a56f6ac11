"""Without a lab: vmrole on a machine with a libvirtd of its own. A lab's host plays that machine."""

import pytest

from tests.e2e.conftest import CACHE, VMROLE, service, write

pytestmark = pytest.mark.vm


def test_a_service_on_the_machines_own_libvirt(lab, tmp_path):
    def vmrole(*args):
        done = lab.inside(
            "env", f"VMROLE_CACHE={CACHE}", str(VMROLE), "--home", str(tmp_path / "home"), *args, timeout=120
        )
        assert done.code == 0, done.out + done.err
        return done.out

    vmrole("image", "build", "tiny")
    try:
        said = vmrole("up", write(tmp_path / "plain.yaml", service("plain")))
        assert "plain is ready" in said
        url = said.split()[-1]
        assert "host local: libvirt" in vmrole("doctor")
        assert lab.inside("curl", "--silent", "--fail", url).out.startswith("web-0 generation 1 of plain")
        # The network is of the kind that lets guests out and nobody in.
        assert "<forward mode='nat'>" in lab.virsh("net-dumpxml", "plain.production")
        check_flushed_rules_come_back(lab, vmrole, tmp_path)
    finally:
        vmrole("down", "plain", "--yes")


def check_flushed_rules_come_back(lab, vmrole, folder):
    """Somebody takes away what libvirt has for the network, without which it would change nothing in it any more."""

    def rules():
        rows = lab.inside("iptables-save").out + lab.inside("ip6tables-save").out
        return sorted(row for row in rows.splitlines() if "LIBVIRT" in row)

    before = rules()
    assert any("MASQUERADE" in row for row in before)
    for table in ("filter", "nat", "mangle"):
        for family in ("ip", "ip6"):
            lab.inside("nft", "delete", "table", family, table)
    assert rules() == []
    vmrole("up", str(folder / "plain.yaml"))
    assert rules() == before
    assert "its host's rules for its network were gone; they are made again" in vmrole("events", "plain")
