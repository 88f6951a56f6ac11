"""Names are computed and read back without doubt; no other text is taken for one of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.names import (
    DeploymentId,
    InstanceId,
    MachineId,
    base_marker,
    base_volume,
    digest_of_volume,
    is_name,
    machine_of_volume,
    parse_instance_name,
    parse_machine,
)
from tests.fakes.build import DIGEST, WEB, web

LETTER = "abcdefghijklmnopqrstuvwxyz0123456789"
NAMES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
MACHINES = st.builds(
    lambda service, slot, role, ordinal, generation: MachineId(
        InstanceId(DeploymentId(service, slot), role, ordinal), generation
    ),
    NAMES,
    st.sampled_from(["production", "staging"]),
    NAMES,
    st.integers(0, 999_999),
    st.integers(1, 10**6),
)


@pytest.mark.parametrize("text", ["a", "0", "web", "web-0", "a--b", "a" * 40, "9-9"])
def test_a_name(text):
    assert is_name(text)


@pytest.mark.parametrize(
    "text",
    ["", "-", "-a", "a-", "A", "a.b", "a_b", "a b", "a" * 41, "ä", "a\n", "\na", "../x", "a;b", "a/b", "٣", "a\0"],
)
def test_not_a_name(text):
    assert not is_name(text)


@given(MACHINES)
def test_a_machine_reads_back_from_all_its_names(machine):
    assert parse_machine(machine.domain) == machine
    assert parse_instance_name(machine.instance.name) == (machine.instance.role, machine.instance.ordinal)
    assert {machine_of_volume(volume) for volume in machine.volumes} == {machine}
    assert machine_of_volume(f"{machine.console}.0") == machine


@given(st.text(max_size=60))
def test_what_reads_back_is_what_was_said(text):
    machine = parse_machine(text)
    assert machine is None or machine.domain == text


@given(MACHINES, MACHINES)
def test_different_machines_have_different_names(one, other):
    assert (one.domain == other.domain) == (one == other)
    assert one == other or not set(one.volumes) & set(other.volumes)


@given(MACHINES)
def test_names_are_short_enough_for_what_they_name(machine):
    assert len(machine.instance.name) <= 63  # a host name's label: RFC 1035
    assert len(machine.instance.deployment.bridge) <= 15  # IFNAMSIZ
    assert all(len(volume) + len(".0") <= 255 for volume in machine.volumes)
    assert int(machine.instance.mac[:2], 16) & 0b11 == 0b10  # locally administered, unicast


@pytest.mark.parametrize(
    "text",
    [
        "hello", "hello.production", "hello.production.web-0", "hello.production.web-0.g0",
        "hello.production.web-0.g01",
        "hello.production.web.g1", "hello.production.web-00.g1", "hello.test.web-0.g1", "Hello.production.web-0.g1",
        "x.hello.production.web-0.g1", "hello.production.web-0.g1.", "hello.production.web-0.g1\n",
        "hello.production.-0.g1", "hello.production.web-0.g1.overlay.qcow2", "hello.production.web-0.g-1",
    ],
)  # fmt: skip
def test_no_machine(text):
    assert parse_machine(text) is None


@pytest.mark.parametrize(
    "volume", ["", "x", "base.qcow2", base_volume(DIGEST), f"{web(0)}.other", "x.overlay.qcow2", ".console.log"]
)
def test_no_machines_volume(volume):
    assert machine_of_volume(volume) is None


def test_a_base_and_its_marker_stand_for_their_digest():
    assert digest_of_volume(base_volume(DIGEST)) == DIGEST
    assert digest_of_volume(base_marker(DIGEST)) == DIGEST
    assert digest_of_volume(web(0).overlay) is None


def test_the_mac_is_the_instances_not_the_machines():
    assert web(0, 1).instance.mac == web(0, 2).instance.mac == WEB.mac
    assert web(0).instance.mac != web(1).instance.mac
