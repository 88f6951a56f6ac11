"""What every store promises: intent, kept only over the version that it was read with."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from orchestrator.drivers.sqlite import SCHEMA_VERSION, SqliteStore
from orchestrator.errors import Refused, StoreAway, StoreConflict
from orchestrator.model.making import MachineSpec
from orchestrator.model.record import Event, Failure, Stage, Timeline, Wanted
from orchestrator.model.setup import Command, File, Setup
from orchestrator.model.spec import Size
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

SETUP = Setup(
    ("key",),
    (File("/x", "\0ä😀"),),
    (Command("a"), Command(("b", "c"))),
    user_data='{"a": 1}',
    settings=(("K", "v"),),
)
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

    def test_several_deployments_are_saved_at_once_or_not_at_all(self, store):
        staged = replace(RICH, id=RICH.id.other, vip="198.51.100.2")
        store.save_deployments([RICH, staged], [Event(NOW, str(d.id), "made") for d in (RICH, staged)])
        production, staging = store.intent().deployments
        assert [production.vip, staging.vip] == [RICH.vip, staged.vip]
        changed = [replace(production, vip=staging.vip), replace(staging, vip=production.vip, version=7)]
        with pytest.raises(StoreConflict):
            store.save_deployments(changed, [Event(NOW, "hello", "never")])
        assert store.intent().deployments == (production, staging)
        store.save_deployments([changed[0], replace(changed[1], version=1)], [])
        assert [d.vip for d in store.intent().deployments] == [staged.vip, RICH.vip]
        assert [event.what for _n, event in store.events("hello")] == ["made", "made"]

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
        with pytest.raises(Refused, match="cannot be used") as told:
            SqliteStore(path, OWNER)
        assert (str(path) in told.value.message, "vmrole recover" in told.value.hint) == (True, True)
        assert path.read_bytes() == damage

    @pytest.mark.parametrize("how", ["garbage in the middle", "cut short"])
    def test_damage_anywhere_in_it_is_found_when_it_is_opened(self, store, path, how):
        for ordinal in range(40):
            store.save_instance(replace(WHOLE, id=replace(WEB, ordinal=ordinal)), DELETED)
        store.close()
        whole = path.read_bytes()
        middle = len(whole) // 2
        garbage = whole[:middle] + os.urandom(8192) + whole[middle + 8192 :]
        path.write_bytes(garbage if how == "garbage in the middle" else whole[:middle])
        with pytest.raises(Refused, match=r"damaged|malformed|cannot be used") as told:
            SqliteStore(path, OWNER)
        assert (str(path) in told.value.message, "vmrole recover" in told.value.hint) == (True, True)

    @pytest.mark.parametrize("spoil", ["DROP TABLE instance", "UPDATE instance SET body = CAST(x'ff' AS TEXT)"])
    def test_a_database_that_is_no_store_of_ours_is_refused(self, store, path, spoil):
        store.save_instance(WHOLE)
        store.close()
        with sqlite3.connect(path) as db:
            db.execute(spoil)
        db.close()
        with pytest.raises(Refused, match=r"cannot be used|cannot be read") as told:
            SqliteStore(path, OWNER).intent()
        assert "vmrole recover" in told.value.hint

    def test_one_that_cannot_be_opened_now_is_not_taken_for_a_damaged_one(self, path):
        path.mkdir()
        with pytest.raises(StoreAway, match=str(path)):
            SqliteStore(path, OWNER)
        with pytest.raises(StoreAway, match="cannot be opened"):
            SqliteStore(path / "nowhere" / "vmrole.db", OWNER)

    def test_one_that_somebody_holds_is_not_taken_for_a_damaged_one(self, store, path, monkeypatch):
        store.close()
        monkeypatch.setattr("orchestrator.drivers.sqlite.BUSY_S", 0.1)
        other = SqliteStore(path, OWNER)
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreAway, match=f"{path}.*another process"):
            other.save_instance(WHOLE)
        holder.execute("ROLLBACK")
        holder.close()
        other.save_instance(WHOLE)
        assert other.intent().instances == (replace(WHOLE, version=1),)

    def test_what_has_not_changed_is_not_read_again_and_what_has_is(self, store, path):
        store.save_instance(WHOLE)
        known = store.intent()
        assert store.intent() is known
        other = SqliteStore(path, OWNER)
        other.save_instance(replace(known.instances[0], boot=77))
        assert [record.boot for record in store.intent().instances] == [77]
        other.forget_instance(WHOLE.id, Event(NOW, str(WHOLE.id), "deleted"))
        assert store.intent().instances == ()
        other.save_instance(replace(WHOLE, boot=78))
        assert [(record.boot, record.version) for record in store.intent().instances] == [(78, 1)]
        other.close()


def version_of(path: Path) -> int:
    with sqlite3.connect(path) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return version


FULL_DISK = """
import json, sys
from dataclasses import replace
from pathlib import Path
from orchestrator.drivers.sqlite import SqliteStore
from orchestrator.errors import StoreAway
from orchestrator.model.record import Event
from tests.contract.test_store import DELETED, OWNER, WHOLE

folder = Path(sys.argv[1])
def fill():
    with (folder / "filler").open("ab", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)): pass
        except OSError: pass

store, told = SqliteStore(folder / "vmrole.db", OWNER), []
store.save_instance(WHOLE, DELETED)
fill()
for attempt in range(3):
    try:
        for n in range(100):
            (old,) = store.intent().instances
            store.save_instance(replace(old, boot=old.boot + 1), replace(DELETED, what="x" * 500))
    except StoreAway as error: told.append([error.message, error.hint])
(kept,) = store.intent().instances
events = len(store.events("hello"))
try: SqliteStore(folder / "new.db", OWNER)
except StoreAway as error: told.append([error.message, error.hint])
(folder / "filler").unlink()
store.save_instance(replace(kept, boot=99), DELETED)
store.close()
again = SqliteStore(folder / "vmrole.db", OWNER)
pair = [kept.boot - WHOLE.boot + 1, events]
print(json.dumps({"told": told, "pair": pair, "boot": again.intent().instances[0].boot}))
"""


@pytest.mark.real
def test_a_full_disk_is_told_nothing_is_half_stored_and_it_goes_on_once_there_is_room(tmp_path):
    """On a disk of 1 MiB that only the child process sees."""
    inside = f'mount -t tmpfs -o size=1m none {tmp_path} && exec "$0" -c "$1" {tmp_path}'
    argv = ["unshare", "--mount", "sh", "-c", inside, sys.executable, FULL_DISK]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found["told"]) == 4
    assert all(str(tmp_path) in message and "disk is full" in message for message, _hint in found["told"][:3])
    assert all(str(tmp_path / "new.db") in message for message, _hint in found["told"][3:])
    assert found["pair"][0] == found["pair"][1]  # every record was stored with its event, or neither
    assert found["boot"] == 99


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
