"""Two commands that store what they want at the same moment do so one after the other."""

import pytest

from orchestrator.drivers.lease import kept
from orchestrator.errors import Busy
from tests.fakes.clock import FakeClock


def test_one_after_the_other(tmp_path):
    clock, path = FakeClock(), tmp_path / "intent.lock"
    with kept(path, clock, 1.0, "another `vmrole up`"):
        begun = clock.now()
        with pytest.raises(Busy, match="another `vmrole up` is at work"), kept(path, clock, 1.0, "another `vmrole up`"):
            raise AssertionError
        assert clock.now() - begun >= 1.0
    with kept(path, clock, 1.0, "another"):
        assert path.exists()


def test_it_is_free_when_its_holder_fails(tmp_path):
    clock, path = FakeClock(), tmp_path / "intent.lock"
    with pytest.raises(ValueError, match="mine"), kept(path, clock, 1.0, "another"):
        raise ValueError("mine")
    with kept(path, clock, 0.0, "another"):
        assert path.exists()
