"""What is remembered of the accelerator's proof. That the payload runs is shown in tests/e2e/test_lab.py."""

import json
import struct

import pytest

from orchestrator.drivers import accelerator


def test_the_payload_is_a_multiboot_kernel():
    magic, flags, checksum = struct.unpack_from("<III", accelerator.payload())
    assert (magic, (magic + flags + checksum) % 2**32) == (0x1BADB002, 0)
    assert len(accelerator.payload()) < 4096


def test_an_answer_is_remembered_for_its_key_only(tmp_path):
    path = tmp_path / "deep" / "accelerator.json"
    accelerator._remember(path, "this boot", "kvm")
    assert accelerator._remembered(path, "this boot") == "kvm"
    assert accelerator._remembered(path, "next boot") is None
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("text", ["", "{}", "[]", json.dumps({"key": "k", "accelerator": "xen"})])
def test_a_damaged_answer_is_none(tmp_path, text):
    path = tmp_path / "accelerator.json"
    path.write_text(text)
    assert accelerator._remembered(path, "k") is None
