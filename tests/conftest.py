"""Options, and the guard that keeps unit and golden tests away from processes and the network."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("vmrole", deadline=None)  # how long an example takes is the machine's business
settings.load_profile("vmrole")

GUARDED = ("unit", "golden")
FORBIDDEN = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect", "socket.bind",
    "socket.getaddrinfo",
)  # fmt: skip
_guard = {"is_on": False}


def _refuse(event: str, details: tuple) -> None:
    if _guard["is_on"] and event in FORBIDDEN:
        raise AssertionError(f"a test without the mark `real` did {event}{details}")


sys.addaudithook(_refuse)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="Write the golden files anew; review them as a diff.")


@pytest.fixture(autouse=True)
def no_processes_and_no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    tier = Path(str(request.node.path)).parent.name
    _guard["is_on"] = tier in GUARDED and request.node.get_closest_marker("real") is None
    yield
    _guard["is_on"] = False
