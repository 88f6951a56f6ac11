"""A real lab, shared by the tests of a session: real libvirtd, real guests under whatever accelerator was proven."""

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("VMROLE_CACHE", ROOT / ".cache"))
VMROLE = ROOT / ".venv/bin/vmrole"
# A slow machine needs longer for the same: one factor for every deadline.
PATIENCE = float(os.environ.get("TIMEOUT_MULTIPLIER", "1"))
# Whole files go to two workers: were one of these the last, the other worker would have nothing to do beside it.
LONGEST = (
    "test_debian", "test_instance_life", "test_repair", "test_behind_our_back", "test_bad_luck", "test_rollout",
    "test_scaling", "test_upgrade", "test_cuts", "test_images", "test_secrets", "test_ready", "test_setup",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    ranks = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Lab:
    """A lab in a home of its own, driven as a user drives it: by the command line."""

    home: Path
    program = VMROLE

    @property
    def env(self):
        return {**os.environ, "VMROLE_HOME": str(self.home), "VMROLE_CACHE": str(CACHE)}

    def start(self, *args, **options):
        return subprocess.Popen(
            [str(VMROLE), *args], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )

    def run(self, *args, timeout=300, env=None):
        done = subprocess.run(
            [str(VMROLE), *args], env={**self.env, **(env or {})}, capture_output=True, text=True,
            timeout=timeout * PATIENCE, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return Ran(done.returncode, done.stdout, done.stderr)

    def ok(self, *args, timeout=300):
        done = self.run(*args, timeout=timeout)
        assert done.code == 0, f"vmrole {' '.join(args)} ended with {done.code}\n{done.out}\n{done.err}"
        return done

    def status(self, service, slot="production"):
        return json.loads(self.ok("status", service, "--slot", slot, "--json").out)

    def instance(self, service, name):
        return next(found for found in self.status(service)["instances"] if found["name"] == name)

    def inside(self, *argv, host="h0", timeout=30):
        return self.run("lab", "exec", "--host", host, "--", *argv, timeout=timeout)

    def virsh(self, *args):
        return self.inside("virsh", "-q", *args).out

    def domains(self):
        return sorted(self.virsh("list", "--all", "--name").split())

    def volumes(self):
        pools = self.virsh("pool-list", "--all", "--name").split()
        return sorted(
            row.split()[0] for pool in pools for row in self.virsh("vol-list", pool).splitlines() if row.split()
        )

    def remains(self):
        """Everything of a service that libvirt or HAProxy still has."""
        networks = self.virsh("net-list", "--all", "--name").split()
        pools = self.virsh("pool-list", "--all", "--name").split()
        haproxy = [p for p in self.processes() if Path(p).name == "haproxy"]
        vips = [a for a in addresses(self.inside("ip", "-json", "address", "show", host="edge").out) if is_vip(a)]
        return [*self.domains(), *networks, *pools, *haproxy, *vips]

    def processes(self):
        """The programs that run in the lab's edge, where HAProxy is."""
        rows = self.inside("ps", "-e", "-o", "comm=", host="edge").out.split()
        return [row for row in rows if row not in {"ps", "python3", "python"}]

    def forget_all(self):
        """Leave an empty lab to the next test."""
        for deployment in json.loads(self.ok("ls", "--json").out):
            self.ok("down", deployment["service"], "--slot", deployment["slot"], "--volumes", "--yes")


def addresses(text):
    return [info["local"] for link in json.loads(text) for info in link.get("addr_info", [])]


def is_vip(address):
    return address.startswith("198.51.100.")


def service(name, *, image="tiny", instances=1, **role):
    """A service file's value for small guests: one role ``web`` with HTTP on port 80."""
    web = {
        "image": image,
        "instances": instances,
        "size": {"vcpus": 1, "memory": "128MiB"},
        "endpoints": {"http": {"port": 80, "protocol": "http", "check": {"path": "/healthz"}}},
        **role,
    }
    return {"service": name, "roles": {"web": web}}


def write(path, value):
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return str(path)


def fetch(url, timeout=5):
    """The body of a page, or "" when there is none to be had."""
    done = subprocess.run(
        ["curl", "--silent", "--fail", "--max-time", str(timeout), "--noproxy", "*", url],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout


def eventually(look, what, seconds=30):
    """Wait until ``look`` gives something true, and return that."""
    deadline = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"did not come true within {seconds} s: {what}")


@pytest.fixture(scope="session")
def homes():
    """Where labs of this run live: `make clean` looks there too, should the run be killed."""
    folder = CACHE / "test-homes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def shared_lab(homes):
    assert VMROLE.exists(), "run `make setup` first"
    assert os.geteuid() == 0, "a lab needs root"
    home = homes / f"shared home {os.getpid()}"  # a path with spaces is a path
    lab = Lab(home)
    lab.ok("lab", "up")
    lab.ok("image", "build", "tiny", timeout=600)
    yield lab
    lab.ok("lab", "down")
    leftovers = lab.run("lab", "ls", "--json").out
    shutil.rmtree(home)
    assert json.loads(leftovers or "[]") == [], leftovers


@pytest.fixture
def lab(shared_lab):
    """The shared lab, empty before and after each test: what a test leaves is its failure."""
    yield shared_lab
    shared_lab.forget_all()
    assert shared_lab.remains() == []
