"""What every store promises: intent, kept only over the version that it was read with."""

import sqlite3
import threading
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from orchestrator.drivers.sqlite import SCHEMA_VERSION, SqliteStore
from orchestrator.errors import Refused, StoreConflict
from orchestrator.model.record import Event, Failure, Stage, Timeline, Wanted
from orchestrator.model.spec import File, MachineSpec, Setup, Size
from tests.fakes.build import (
    DIGEST,
    GOSSIP,
    HELLO,
    HTTP,
    NOW,
    OWNER,
    READY,
    SSH,
    WEB,
    deployment,
    record,
    role,
    service,
)
from tests.fakes.store import FakeStore

SETUP = Setup(("key",), (File("/x", "\0ä😀"),), ("a", ("b", "c")), '{"a": 1}', (("K", "v"),))
WHOLE = replace(
    record(generation=3, boot=4, boot_id="b", starts=2, wanted=Wanted.GONE, version=0),
    machine=MachineSpec(DIGEST, Size(2, 3, 4), SETUP),
    timeline=Timeline(NOW, **READY),
    failure=Failure(Stage.SETUP, "why", NOW, ("one", "two")),
)
SERVICE = service(role(endpoints=(HTTP, SSH, GOSSIP), setup=SETUP), role("worker", 3))
RICH = replace(deployment(SERVICE), subnets={"a": IPv4Network("198.18.0.0/24"), "b": IPv4Network("198.18.1.0/24")})
DELETED = Event(NOW, str(WEB), "deleted")


class StoreContract:
    """``store`` is an empty one."""

    def test_is_empty_at_first(self, store):
        assert store.intent() == FakeStore(OWNER).intent()
        assert list(store.events("hello")) == []

    def test_gives_back_what_it_was_given(self, store):
        store.save_deployment(RICH)
        store.save_instance(WHOLE)
        intent = store.intent()
        assert intent.deployments == (replace(RICH, version=1),)
        assert intent.instances == (replace(WHOLE, version=1),)
        assert hash(intent.instances[0])

    def test_a_saved_record_goes_over_the_version_that_was_read(self, store):
        store.save_instance(WHOLE)
        (read,) = store.intent().instances
        store.save_instance(replace(read, boot=9))
        assert store.intent().instances == (replace(WHOLE, boot=9, version=2),)

    @pytest.mark.parametrize("version", [0, 2, 7])
    def test_another_version_is_a_conflict_and_changes_nothing(self, store, version):
        store.save_instance(WHOLE)
        store.save_deployment(RICH)
        before = store.intent()
        with pytest.raises(StoreConflict):
            store.save_instance(replace(WHOLE, version=version, boot=9), DELETED)
        with pytest.raises(StoreConflict):
            store.save_deployment(replace(RICH, version=version, revision=9), DELETED)
        assert store.intent() == before
        assert list(store.events("hello")) == []

    def test_what_was_forgotten_meanwhile_is_not_saved_again(self, store):
        store.save_instance(WHOLE)
        (read,) = store.intent().instances
        store.forget_instance(read.id, DELETED)
        with pytest.raises(StoreConflict):
            store.save_instance(read)
        assert store.intent().instances == ()

    def test_forgetting_twice_is_told_once(self, store):
        store.save_instance(WHOLE)
        store.save_deployment(RICH)
        for _again in range(2):
            store.forget_instance(WEB, DELETED)
            store.forget_deployment(HELLO, Event(NOW, str(HELLO), "deleted"))
        assert store.intent() == FakeStore(OWNER).intent()
        assert [event.subject for _n, event in store.events("hello")] == [str(WEB), str(HELLO)]

    def test_instances_come_in_the_order_of_their_numbers(self, store):
        for ordinal in (10, 2, 0):
            store.save_instance(replace(WHOLE, id=replace(WEB, ordinal=ordinal)))
        assert [r.id.ordinal for r in store.intent().instances] == [0, 2, 10]

    def test_events_are_of_a_subject_and_all_below_it(self, store):
        for subject in ("hello", "hello.production.web-0", "hello2", "hel", "x.hello"):
            store.note(Event(NOW, subject, "x", "why", "me"))
        found = list(store.events("hello"))
        assert [event.subject for _n, event in found] == ["hello", "hello.production.web-0"]
        assert found[0][1] == Event(NOW, "hello", "x", "why", "me")

    def test_events_go_on_from_where_one_stopped(self, store):
        for n in range(3):
            store.note(Event(NOW + n, "hello", str(n)))
        first, *_others = list(store.events("hello"))
        assert [event.what for _n, event in store.events("hello", first[0])] == ["1", "2"]

    def test_an_event_comes_with_its_record(self, store):
        store.save_instance(WHOLE, Event(NOW, str(WEB), "created"))
        store.save_deployment(RICH, Event(NOW, str(HELLO), "wanted"))
        assert [event.what for _n, event in store.events("hello")] == ["created", "wanted"]


class TestFakeStore(StoreContract):
    @pytest.fixture
    def store(self):
        return FakeStore(OWNER)


@pytest.mark.real
class TestSqliteStore(StoreContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "vmrole.db"

    @pytest.fixture
    def store(self, path):
        return SqliteStore(path, OWNER)

    def test_is_there_after_opening_it_again(self, store, path):
        store.save_instance(WHOLE, DELETED)
        again = SqliteStore(path, OWNER)
        assert again.intent().instances == (replace(WHOLE, version=1),)
        assert len(list(again.events("hello"))) == 1

    def test_two_processes_see_each_other_and_only_one_wins(self, store, path):
        other = SqliteStore(path, OWNER)
        store.save_instance(WHOLE)
        (read,) = other.intent().instances
        store.save_instance(replace(read, boot=7))
        with pytest.raises(StoreConflict):
            other.save_instance(replace(read, boot=8))
        assert other.intent().instances[0].boot == 7

    def test_many_writers_lose_nothing(self, path):
        stores = [SqliteStore(path, OWNER) for _writer in range(4)]

        def write(store: SqliteStore) -> None:
            for _n in range(25):
                store.note(Event(NOW, "hello", "x"))

        writers = [threading.Thread(target=write, args=(store,)) for store in stores]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert len(list(stores[0].events("hello"))) == 100

    def test_only_its_owner_reads_it(self, store, path):
        store.note(DELETED)
        assert {file.stat().st_mode & 0o077 for file in path.parent.glob("vmrole.db*")} == {0}

    def test_a_newer_one_is_refused_and_left_alone(self, store, path):
        store.save_instance(WHOLE)
        with sqlite3.connect(path) as newer:
            newer.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
        newer.close()
        with pytest.raises(Refused, match="newer vmrole"):
            SqliteStore(path, OWNER)
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT count(*) FROM instance").fetchone() == (1,)
        db.close()

    @pytest.mark.parametrize("damage", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 4096])
    def test_a_damaged_one_is_refused_and_left_alone(self, path, damage):
        path.write_bytes(damage)
        with pytest.raises(Refused, match="cannot be used"):
            SqliteStore(path, OWNER)
        assert path.read_bytes() == damage


@pytest.mark.parametrize("attempt", range(5))
def test_a_new_store_is_opened_by_many_at_once(tmp_path, attempt):
    start, failures = threading.Barrier(6), []

    def open_it():
        start.wait()
        try:
            SqliteStore(tmp_path / f"{attempt}.db", "owner").intent()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the failure
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
