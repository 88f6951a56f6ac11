"""The answer file: what the user asked for and nothing else, whatever characters are in it."""

import base64
import json
import subprocess
from dataclasses import replace

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.spec import Command, Disk, DiskKind, File, MachineSpec, SecretRef, Setup, Size
from orchestrator.render.cloudinit import NOTED, SETTINGS_PATH, merged
from orchestrator.render.cloudinit import seed as rendered
from orchestrator.render.disks import mount_argv, own_argv
from orchestrator.render.keeping import keep_argv
from tests.fakes.build import DIGEST, record

KEEP = [keep_argv(), NOTED]
DATA = Disk("data", DiskKind.VOLUME, 64, "/srv/data", "app:app", "0750")


def seed(of, secrets=None):
    return rendered(of, lambda ref: (secrets or {})[ref.key])


def config(setup: Setup, *disks: Disk) -> dict:
    text = seed(record(machine=MachineSpec(DIGEST, Size(), setup, disks))).user_data
    assert text.startswith("#cloud-config\n")
    found = yaml.safe_load(text)
    assert found == json.loads(text.split("\n", 1)[1])
    return found


def test_a_new_generation_is_a_new_instance_to_cloud_init():
    one, two = (json.loads(seed(record(generation=n)).meta_data)["instance-id"] for n in (1, 2))
    assert one != two


def test_the_guest_is_named_and_its_one_card_is_found_by_its_address():
    made = seed(record())
    assert json.loads(made.meta_data)["local-hostname"] == "web-0"
    (nic,) = json.loads(made.network_config)["ethernets"].values()
    assert (nic["match"]["macaddress"], nic["dhcp4"]) == (record().id.mac, True)


def test_an_empty_setup_asks_for_nothing():
    assert config(Setup()) == {"bootcmd": KEEP}


def test_the_three_files_of_a_nocloud_disc():
    assert set(seed(record()).files()) == {"meta-data", "user-data", "network-config"}


@given(st.text(), st.text(max_size=20))
def test_a_files_content_arrives_byte_for_byte(content, line):
    found = config(Setup(files=(File("/etc/x", content),), commands=(Command(line), Command((line, line)))))
    (entry,) = found["write_files"]
    assert base64.b64decode(entry["content"]).decode() == content
    assert found["runcmd"] == ["set -e", line, [line, line]]  # a line that fails is setup's failure


def test_a_secret_is_revealed_into_the_disc_and_nowhere_else():
    setup = Setup(files=(File("/etc/x", SecretRef("env:X", "k1"), "0600"),))
    of = record(machine=MachineSpec(DIGEST, Size(), setup))
    (entry,) = yaml.safe_load(seed(of, {"k1": b"\xffcanary"}).user_data)["write_files"]
    assert (base64.b64decode(entry["content"]), entry["permissions"]) == (b"\xffcanary", "0600")
    assert "canary" not in repr(of)


def test_settings_are_a_file_that_only_root_reads():
    (entry,) = config(Setup(settings=(("KEY", "s3cret: {}"),)))["write_files"]
    assert (entry["path"], entry["permissions"], entry["owner"]) == (SETTINGS_PATH, "0600", "root:root")
    assert json.loads(base64.b64decode(entry["content"])) == {"KEY": "s3cret: {}"}


def test_disks_are_there_before_anything_of_the_users_runs():
    theirs = json.dumps({"bootcmd": ["their boot"], "runcmd": ["their run"]})
    found = config(Setup(commands=(Command("ours"),), user_data=theirs), DATA)
    assert found["bootcmd"] == [*KEEP, mount_argv((DATA,)), NOTED, "their boot"]
    assert found["runcmd"] == ["set -e", own_argv((DATA,)), "ours", "their run"]


@pytest.mark.real
@pytest.mark.parametrize(("code", "told"), [(0, 0), (1, 1)])
@pytest.mark.parametrize("theirs", ["true", "false || true", "exit 0"])
def test_a_failed_disk_is_told_whatever_the_users_own_commands_do(code, told, theirs):
    """As cloud-init runs bootcmd: all as one script, of which only the exit code counts."""
    *_first, verdict = config(Setup(), DATA)["bootcmd"]
    script = "\n".join([f"(exit {code})", verdict, theirs])
    assert subprocess.run(["sh", "-c", script], check=False, timeout=10).returncode == told


def test_a_larger_disk_needs_no_other_answer_file():
    assert config(Setup(), DATA) == config(Setup(), replace(DATA, size_mib=128))


@pytest.mark.parametrize(
    ("ours", "theirs", "both"),
    [
        ({"a": [1]}, {"a": [2]}, {"a": [1, 2]}),
        ({"a": [1]}, {"a": "x"}, {"a": "x"}),
        ({"a": [1]}, {"b": 2}, {"a": [1], "b": 2}),
        ({"a": []}, {}, {}),
        ({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_the_users_own_cloud_config_is_merged(ours, theirs, both):
    assert merged(ours, json.dumps(theirs)) == both


def test_nothing_of_ours_is_changed_by_a_merge():
    ours = {"a": [1]}
    merged(ours, '{"a": [2]}')
    assert ours == {"a": [1]}
