"""`vmrole ssh` calls the client of this machine: for the right address and user, held to the host key of the guest."""

import os
import subprocess
import sys

import pytest

from orchestrator.drivers.sqlite import SqliteStore
from orchestrator.model.spec import Ready, Via
from orchestrator.wiring import make_home, owner_of
from tests.fakes.build import deployment, record, role, service

pytestmark = pytest.mark.real

CLIENT = '#!/bin/sh\nfor word in "$@"; do echo "$word"; done\nexit 7\n'


def called(tmp_path, *words, ready=Ready()):  # noqa: B008 - frozen
    home = make_home(tmp_path / "50% home")
    store = SqliteStore(home / "vmrole.db", owner_of(home))
    store.save_deployment(deployment(service(role(ready=ready))))
    store.save_instance(record(dip="198.18.0.10", generation=3, version=0))
    store.close()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/ssh").write_text(CLIENT)
    (tmp_path / "bin/ssh").chmod(0o755)
    argv = [sys.executable, "-m", "orchestrator", "--home", str(home), "ssh", *words]
    env = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=False)


def test_the_client_is_called_for_the_machine_of_now(tmp_path):
    done = called(tmp_path, "hello/web-0", "--", "uptime", "-p")
    told = done.stdout.splitlines()
    assert done.returncode == 7, done.stderr
    assert "HostKeyAlias=hello.production.web-0.g3" in told
    assert f'UserKnownHostsFile="{tmp_path}/50%% home/ssh_known_hosts"' in told
    assert told[-6:] == ["-l", "root", "--", "198.18.0.10", "uptime", "-p"]


def test_who_logs_in_and_with_what(tmp_path):
    (tmp_path / "key").write_text("")
    ready = Ready(via=Via.SSH, ssh_user="admin")
    told = called(tmp_path, "hello/web-0", "-i", str(tmp_path / "key"), ready=ready).stdout.splitlines()
    assert (
        told[-7:] == ["-i", str(tmp_path / "key"), "-o", "IdentitiesOnly=yes", "-l", "admin", "--", "198.18.0.10"][-7:]
    )


def test_what_is_no_user_is_refused(tmp_path):
    done = called(tmp_path, "hello/web-0", "--login=-oProxyCommand=x")
    assert (done.returncode, done.stdout) == (2, "")
