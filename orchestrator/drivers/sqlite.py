"""The store in one SQLite file: intent and events. Write-ahead log, every commit on the disk before it returns.

Records are stored as JSON by pydantic from the model's own types, so there is no second description of them.
"""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from orchestrator.drivers._files import locked
from orchestrator.errors import Refused, StoreAway, StoreConflict
from orchestrator.model.record import DeploymentRecord, Event, InstanceRecord, Intent

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from orchestrator.model.names import DeploymentId, InstanceId

SCHEMA_VERSION = 1
MAX_EVENTS = 10_000
BUSY_S = 10.0

_SCHEMA = """
CREATE TABLE deployment (id TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE instance (id TEXT PRIMARY KEY, version INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE event (
    number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, subject TEXT NOT NULL, what TEXT NOT NULL,
    cause TEXT NOT NULL, actor TEXT NOT NULL
);
"""
_DEPLOYMENT = TypeAdapter(DeploymentRecord)
_INSTANCE = TypeAdapter(InstanceRecord)


class SqliteStore:
    """The store of one home folder."""

    def __init__(self, path: Path, owner: str) -> None:
        """Open or make it. Raises Refused when the file is damaged or of a newer vmrole."""
        self._owner = owner
        self._lock = threading.Lock()  # one connection, used by the loop's threads in turn
        try:
            # SQLite's own waiting does not cover the change to WAL, so that new stores are opened one by one.
            with locked(path.with_suffix(".lock")):
                path.touch(mode=0o600)
                self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._migrate(path)
        except sqlite3.DatabaseError as error:
            raise Refused(f"the store {path} cannot be used: {error}", "restore it from a copy") from error

    def _migrate(self, path: Path) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise Refused(f"the store {path} was written by a newer vmrole (schema {version})", "install that version")
        if version == 0:
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")

    def close(self) -> None:
        """Bring what is in the log into the file; without it that happens at the next opening."""
        self._db.close()

    def intent(self) -> Intent:
        with _Transaction(self._db, self._lock, kind="DEFERRED"):
            deployments = self._db.execute("SELECT body, version FROM deployment ORDER BY id").fetchall()
            instances = self._db.execute("SELECT body, version FROM instance").fetchall()
        try:
            wanted = [replace(_DEPLOYMENT.validate_json(body), version=version) for body, version in deployments]
            records = [replace(_INSTANCE.validate_json(body), version=version) for body, version in instances]
        except ValidationError as error:
            raise Refused(f"the store holds a record that cannot be read: {error}", "restore it from a copy") from error
        return Intent(self._owner, tuple(wanted), tuple(sorted(records, key=lambda record: record.id)))

    def save_deployment(self, record: DeploymentRecord, event: Event | None = None) -> None:
        self._save("deployment", record, _DEPLOYMENT.dump_json(record).decode(), event)

    def save_instance(self, record: InstanceRecord, event: Event | None = None) -> None:
        self._save("instance", record, _INSTANCE.dump_json(record).decode(), event)

    def _save(self, table: str, record: DeploymentRecord | InstanceRecord, body: str, event: Event | None) -> None:
        key, version = str(record.id), record.version
        with _Transaction(self._db, self._lock):
            if version == 0:
                statement = f"INSERT INTO {table} (id, version, body) VALUES (?, 1, ?) ON CONFLICT DO NOTHING"  # noqa: S608 - our own word
                done = self._db.execute(statement, (key, body))
            else:
                statement = f"UPDATE {table} SET body = ?, version = version + 1 WHERE id = ? AND version = ?"  # noqa: S608 - our own word
                done = self._db.execute(statement, (body, key, version))
            if done.rowcount != 1:
                raise StoreConflict(f"{key} was changed by someone else meanwhile", "look again, then decide again")
            self._insert(event)

    def forget_instance(self, key: InstanceId, event: Event) -> None:
        self._forget("instance", str(key), event)

    def forget_deployment(self, key: DeploymentId, event: Event) -> None:
        self._forget("deployment", str(key), event)

    def _forget(self, table: str, key: str, event: Event) -> None:
        with _Transaction(self._db, self._lock):
            done = self._db.execute(f"DELETE FROM {table} WHERE id = ?", (key,))  # noqa: S608 - our own word
            self._insert(event if done.rowcount else None)

    def note(self, event: Event) -> None:
        with _Transaction(self._db, self._lock):
            self._insert(event)

    def _insert(self, event: Event | None) -> None:
        if event is None:
            return
        row = (event.at, event.subject, event.what, event.cause, event.actor)
        done = self._db.execute("INSERT INTO event (at, subject, what, cause, actor) VALUES (?, ?, ?, ?, ?)", row)
        self._db.execute("DELETE FROM event WHERE number <= ?", ((done.lastrowid or 0) - MAX_EVENTS,))

    def events(self, subject: str, after: int = 0) -> Iterable[tuple[int, Event]]:
        statement = "SELECT number, at, subject, what, cause, actor FROM event WHERE number > ? ORDER BY number"
        with self._lock:
            rows = self._db.execute(statement, (after,)).fetchall()
        found = ((number, Event(*row)) for number, *row in rows)
        return [(n, e) for n, e in found if e.subject == subject or e.subject.startswith(f"{subject}.")]


class _Transaction:
    """All of it, or nothing; and one at a time."""

    def __init__(self, db: sqlite3.Connection, lock: threading.Lock, kind: str = "IMMEDIATE") -> None:
        self._db = db
        self._lock = lock
        self._kind = kind

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._db.execute(f"BEGIN {self._kind}")
        except sqlite3.Error as error:
            self._lock.release()
            raise StoreAway(f"the store cannot be used now: {error}", "run the same command again") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        try:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
        except sqlite3.Error as failed:
            raise StoreAway(f"the store cannot be written: {failed}", "is the disk full?") from failed
        finally:
            self._lock.release()
        if isinstance(error, sqlite3.Error):
            raise StoreAway(f"the store cannot be used: {error}", "is the disk full?") from error
