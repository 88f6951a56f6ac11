"""A HAProxy of a test's own, in a network namespace of its own."""

import contextlib
import os
import shutil
import signal
import tempfile
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from orchestrator.config.site import Site
from orchestrator.drivers.haproxy import HaproxyBalancer
from orchestrator.errors import Refused
from orchestrator.model.secret import Secret, SecretRef

from .netns import Namespace, eventually, namespace, processes_naming


def site(space: Namespace) -> Site:
    return Site((), IPv4Network("198.51.100.0/24"), space.prefix, "lo")


def no_certificate(ref: SecretRef) -> Secret:
    raise Refused(f"there is no {ref.source}")


@pytest.fixture
def space():
    with namespace() as made:
        yield made


@pytest.fixture
def folder():
    made = Path(tempfile.mkdtemp(prefix="vmr", dir="/tmp"))  # a socket's path is short
    yield made
    for pid in processes_naming(str(made)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(made)


@pytest.fixture
def certificates():
    """What a reference's source stands for: the tests fill it."""
    return {}


@pytest.fixture
def haproxy(space: Namespace, folder: Path, certificates: dict[str, str]):
    def reveal(ref: SecretRef) -> Secret:
        return Secret(certificates[ref.source].encode()) if ref.source in certificates else no_certificate(ref)

    made = HaproxyBalancer(site(space), folder / "run", reveal)
    yield made
    made.close()


@pytest.fixture
def kill_haproxy(folder: Path):
    def at_once() -> None:
        pids = processes_naming(str(folder))
        assert pids
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not processes_naming(str(folder)))

    return at_once
