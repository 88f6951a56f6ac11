"""A command that stores beside a loop that stores: it looks again, and gives up in the end."""

import pytest

from orchestrator.cli.deployments import TRIES, over_others
from orchestrator.errors import StoreConflict, UserError


def test_it_looks_again_while_others_were_first():
    conflicts = [StoreConflict("changed", "again")] * (TRIES - 1)

    def store():
        if conflicts:
            raise conflicts.pop()
        return "stored"

    assert over_others(store) == "stored"


def test_it_gives_up_in_the_end():
    tries = []

    def store():
        tries.append(1)
        raise StoreConflict("changed", "again")

    with pytest.raises(StoreConflict):
        over_others(store)
    assert len(tries) == TRIES


def test_what_is_wrong_otherwise_is_told_at_once():
    tries = []

    def store():
        tries.append(1)
        raise UserError("is being deleted")

    with pytest.raises(UserError):
        over_others(store)
    assert len(tries) == 1
