"""The store in one SQLite file: intent and events. Write-ahead log, every commit on the disk before it returns.

Records are stored as JSON made from the model's own types, so there is no second description of them.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.drivers._files import locked
from orchestrator.errors import Refused, StoreAway, StoreConflict, VmroleError
from orchestrator.model.record import Event, Intent
from orchestrator.render import records

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from orchestrator.model.names import DeploymentId, InstanceId
    from orchestrator.model.record import DeploymentRecord, InstanceRecord

MAX_EVENTS = 10_000
BUSY_S = 10.0
RECOVER = "`vmrole recover` rebuilds it from what the hosts have"
# What time or a person's hand on the machine heals: the file itself is as good as it was.
AWAY = {
    sqlite3.SQLITE_FULL: ("the disk is full", "make room there, then run the same command again"),
    sqlite3.SQLITE_BUSY: ("another process holds it", "run the same command again"),
    sqlite3.SQLITE_LOCKED: ("another process holds it", "run the same command again"),
    sqlite3.SQLITE_IOERR: ("the disk cannot be read or written", "`dmesg` may say why"),
    sqlite3.SQLITE_CANTOPEN: ("it cannot be opened", "look at the folder and who may write there"),
    sqlite3.SQLITE_READONLY: ("it may not be written", "look at the folder and who may write there"),
    sqlite3.SQLITE_PERM: ("it may not be opened", "look at the folder and who may write there"),
    sqlite3.SQLITE_NOMEM: ("there is no memory left", "run the same command again"),
}

# What brings a store from each version to the next; a new one goes through all of them.
MIGRATIONS = (
    """
CREATE TABLE deployment (id TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE instance (id TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, subject TEXT NOT NULL, what TEXT NOT NULL,
    cause TEXT NOT NULL, actor TEXT NOT NULL
);
""",
    # Until now the generation was the highest one ever given to an instance.
    "UPDATE instance SET body = json_set(body, '$.newest', json_extract(body, '$.generation'));",
    # Until now a setup had only lines to run, and no templates.
    "UPDATE instance SET body = upgraded(body); UPDATE deployment SET body = upgraded(body);",
    # Until now all that a role said of its upgrade was how many instances may be away.
    "UPDATE deployment SET body = upgraded(body);",
    # Until now settings were a part of the machine, and another value another machine.
    "UPDATE instance SET body = upgraded(body);",
)
SCHEMA_VERSION = len(MIGRATIONS)


class SqliteStore:
    """The store of one home folder."""

    def __init__(self, path: Path, owner: str) -> None:
        """Open or make it. Raises Refused when the file is damaged or of a newer vmrole, StoreAway without room."""
        self._owner = owner
        self._path = path
        self._read_at = (-1, -1)
        self._intent = Intent(owner)
        self._parsed: dict[tuple[str, str, int], Any] = {}
        self._lock = threading.Lock()  # one connection, used by the loop's threads in turn
        try:
            # SQLite's own waiting does not cover the change to WAL, so that new stores are opened one by one.
            with locked(path.with_suffix(".lock")):
                path.touch(mode=0o600)
                self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
                self._open()
        except OSError as error:
            hint = "look at the folder and the room on its disk"
            raise StoreAway(f"the store {path} cannot be opened: {error.strerror}", hint) from error
        except sqlite3.Error as error:
            raise _told(path, error) from error

    def _open(self) -> None:
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._check()
            self._migrate()
        except (sqlite3.Error, VmroleError):
            self._db.close()
            raise

    def _check(self) -> None:
        """Damage is found here, all at once, and not later in the middle of a change."""
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise Refused(f"the store {self._path} is damaged: {' '.join(found.split())}", RECOVER)

    def _migrate(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            newer = f"the store {self._path} was written by a newer vmrole (schema {version})"
            raise Refused(newer, "install that version")
        self._db.create_function("upgraded", 1, records.upgraded, deterministic=True)
        for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
            self._db.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")

    def close(self) -> None:
        """Bring what is in the log into the file; without it that happens at the next opening."""
        self._db.close()

    def intent(self) -> Intent:
        with self._transaction("DEFERRED"):
            # The one changes when another process has written, the other when we have.
            at = self._db.execute("PRAGMA data_version").fetchone()[0], self._db.total_changes
            if at != self._read_at:
                deployments = self._db.execute("SELECT body, version FROM deployment ORDER BY id").fetchall()
                instances = self._db.execute("SELECT body, version FROM instance").fetchall()
                self._intent, self._read_at = self._read(deployments, instances), at
            return self._intent

    def _read(self, deployments: list[tuple[str, int]], instances: list[tuple[str, int]]) -> Intent:
        """The records; a row that is as it was last time is not parsed again."""
        known, self._parsed = self._parsed, {}
        for table, rows, load in (
            ("deployment", deployments, records.load_deployment), ("instance", instances, records.load_instance)
        ):  # fmt: skip
            for row in rows:
                key = (table, *row)
                self._parsed[key] = known.get(key) or replace(load(row[0]), version=row[1])
        wanted = [self._parsed["deployment", *row] for row in deployments]
        members = [self._parsed["instance", *row] for row in instances]
        return Intent(self._owner, tuple(wanted), tuple(sorted(members, key=lambda record: record.id)))

    def save_deployment(self, record: DeploymentRecord, event: Event | None = None) -> None:
        self.save_deployments([record], [event] if event is not None else [])

    def save_deployments(self, wanted: Sequence[DeploymentRecord], events: Sequence[Event]) -> None:
        with self._transaction():
            for record in wanted:
                self._save("deployment", record, records.dump_deployment(record).decode())
            for event in events:
                self._insert(event)

    def save_instance(self, record: InstanceRecord, event: Event | None = None) -> None:
        with self._transaction():
            self._save("instance", record, records.dump_instance(record).decode())
            self._insert(event)

    def _save(self, table: str, record: DeploymentRecord | InstanceRecord, body: str) -> None:
        """Within a transaction."""
        key, version = str(record.id), record.version
        if version == 0:
            statement = f"INSERT INTO {table} (id, version, body) VALUES (?, 1, ?) ON CONFLICT DO NOTHING"  # noqa: S608 - our own word
            done = self._db.execute(statement, (key, body))
        else:
            statement = f"UPDATE {table} SET body = ?, version = version + 1 WHERE id = ? AND version = ?"  # noqa: S608 - our own word
            done = self._db.execute(statement, (body, key, version))
        if done.rowcount != 1:
            raise StoreConflict(f"{key} was changed by someone else meanwhile", "look again, then decide again")

    def forget_instance(self, key: InstanceId, event: Event) -> None:
        self._forget("instance", str(key), event)

    def forget_deployment(self, key: DeploymentId, event: Event) -> None:
        self._forget("deployment", str(key), event)

    def _forget(self, table: str, key: str, event: Event) -> None:
        with self._transaction():
            done = self._db.execute(f"DELETE FROM {table} WHERE id = ?", (key,))  # noqa: S608 - our own word
            self._insert(event if done.rowcount else None)

    def note(self, event: Event) -> None:
        with self._transaction():
            self._insert(event)

    def _insert(self, event: Event | None) -> None:
        if event is None:
            return
        row = (event.at, event.subject, event.what, event.cause, event.actor)
        done = self._db.execute("INSERT INTO event (at, subject, what, cause, actor) VALUES (?, ?, ?, ?, ?)", row)
        self._db.execute("DELETE FROM event WHERE number <= ?", ((done.lastrowid or 0) - MAX_EVENTS,))

    def changes(self) -> int:
        with self._transaction("DEFERRED"):
            version: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return version

    def events(self, subject: str, after: int = 0) -> Iterable[tuple[int, Event]]:
        statement = "SELECT number, at, subject, what, cause, actor FROM event WHERE number > ? ORDER BY number"
        with self._transaction("DEFERRED"):
            rows = self._db.execute(statement, (after,)).fetchall()
        found = ((number, Event(*row)) for number, *row in rows)
        return [(n, e) for n, e in found if not subject or e.subject == subject or e.subject.startswith(f"{subject}.")]

    def _transaction(self, kind: str = "IMMEDIATE") -> _Transaction:
        return _Transaction(self._db, self._lock, self._path, kind)


class _Transaction:
    """All of it, or nothing; and one at a time. Raises StoreAway, or Refused when the file is damaged."""

    def __init__(self, db: sqlite3.Connection, lock: threading.Lock, path: Path, kind: str) -> None:
        self._db = db
        self._lock = lock
        self._path = path
        self._kind = kind

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._db.execute(f"BEGIN {self._kind}")
        except sqlite3.Error as error:
            self._lock.release()
            raise _told(self._path, error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        except sqlite3.Error as failed:
            raise _told(self._path, failed) from failed
        finally:
            self._roll_back()
            self._lock.release()
        if isinstance(error, sqlite3.Error):
            raise _told(self._path, error) from error

    def _roll_back(self) -> None:
        """Nothing is left open, or every later transaction would fail; some errors have rolled back by themselves."""
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _told(path: Path, error: sqlite3.Error) -> VmroleError:
    """What an error of SQLite's means: come again later, or the file is not what it should be."""
    primary = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the rest of it is detail
    if primary in AWAY:
        why, hint = AWAY[primary]
        return StoreAway(f"the store {path} cannot be used now: {why} ({error})", hint)
    return Refused(f"the store {path} cannot be used: {error}", RECOVER)
