"""The files beside the package: clean shell scripts, a Vagrantfile that vagrant accepts, pins without a host name."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tracked():
    argv = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def shell_scripts():
    heads = ((path, path.read_bytes()[:40]) for path in tracked())
    return sorted(path for path, head in heads if re.match(rb"#!\s*/\S*(bin/sh|bash|env bash)", head))


@pytest.mark.real
def test_shell_scripts_are_clean():
    scripts = shell_scripts()
    assert len(scripts) > 5
    done = subprocess.run(["shellcheck", "--severity=warning", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.real
def test_the_vagrantfile_is_valid(tmp_path):
    env = {**os.environ, "VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot")}
    argv = ["vagrant", "validate", "--ignore-provider"]
    done = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout


def test_pins_name_no_host_and_have_hashes():
    text = (ROOT / "requirements.txt").read_text()
    assert "//" not in text
    assert re.findall(r"^[a-z0-9.-]+==", text, re.MULTILINE)
    assert text.count("==") <= text.count("--hash=sha256:")
