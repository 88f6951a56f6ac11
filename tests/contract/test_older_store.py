"""A store of an older version is brought to the present one, whole or not at all."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.drivers.sqlite import MIGRATIONS, SCHEMA_VERSION, SqliteStore
from orchestrator.errors import Refused
from orchestrator.model.record import Wanted
from tests.fakes.build import (
    NOW,
    OWNER,
    WEB,
)

from .test_store import RICH, WHOLE, version_of


@pytest.mark.real
class TestOlderStore:
    """A store of version 1, as the release before this one wrote it."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        path = tmp_path / "vmrole.db"
        db = sqlite3.connect(path)
        db.executescript((Path(__file__).parent / "data" / "store-v1.sql").read_text())
        db.close()
        return path

    def test_is_brought_to_the_present_version(self, path):
        store = SqliteStore(path, OWNER)
        store.close()
        assert version_of(path) == SCHEMA_VERSION

    def test_keeps_all_it_had_and_the_rest_is_as_by_default(self, path):
        intent = SqliteStore(path, OWNER).intent()
        # A machine's settings are none of its make any more: they change while it runs.
        made = replace(WHOLE.machine, setup=replace(WHOLE.machine.setup, settings=()))
        first = replace(WHOLE, machine=made, wanted=Wanted.UP, newest=3, version=7)
        second = replace(
            WHOLE, machine=made, id=replace(WEB, ordinal=10), dip="198.18.0.20", generation=1, boot=1, version=1
        )
        second = replace(second, failure=None, starts=0, has_run=True, wanted=Wanted.GONE, newest=1)
        assert intent.deployments == (replace(RICH, version=3),)
        assert intent.instances == (first, second)

    def test_keeps_its_events(self, path):
        found = [(number, event.at, event.subject) for number, event in SqliteStore(path, OWNER).events("hello")]
        assert found == [(1, NOW, "hello.production"), (2, NOW + 1.5, "hello.production.web-0")]

    def test_is_migrated_once(self, path):
        first = SqliteStore(path, OWNER)
        (old, *_others) = first.intent().instances
        first.save_instance(replace(old, generation=2, newest=5))
        again = SqliteStore(path, OWNER)
        assert [(r.generation, r.newest) for r in again.intent().instances] == [(2, 5), (1, 1)]

    def test_a_migration_that_was_cut_leaves_the_version_that_it_had(self, path):
        with sqlite3.connect(path, isolation_level=None) as db:
            db.executescript(f"BEGIN IMMEDIATE; {MIGRATIONS[1]}")  # and the process dies
        db.close()
        assert version_of(path) == 1
        assert [record.newest for record in SqliteStore(path, OWNER).intent().instances] == [3, 1]

    def test_a_migration_that_does_not_work_leaves_everything_as_it_was(self, path):
        with sqlite3.connect(path) as db:
            db.execute("UPDATE instance SET body = 'no JSON' WHERE id LIKE '%web-10'")
        db.close()
        with pytest.raises(Refused, match="malformed JSON") as told:
            SqliteStore(path, OWNER)
        assert (version_of(path), "vmrole recover" in told.value.hint) == (1, True)
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT count(*) FROM instance WHERE body LIKE '%newest%'").fetchone() == (0,)
        db.close()
