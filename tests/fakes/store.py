"""A store in memory, with the real one's compare-and-swap."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import StoreConflict
from orchestrator.model.names import DeploymentId, InstanceId
from orchestrator.model.record import DeploymentRecord, Event, InstanceRecord, Intent

from .faults import Faults


class FakeStore:
    """Outlives every loop of a fake world, as the real one's file does."""

    def __init__(self, owner: str, faults: Faults | None = None) -> None:
        self._owner = owner
        self._faults = faults or Faults()
        self._deployments: dict[DeploymentId, DeploymentRecord] = {}
        self._instances: dict[InstanceId, InstanceRecord] = {}
        self._events: list[Event] = []
        self._saves = 0

    def intent(self) -> Intent:
        deployments = tuple(self._deployments[key] for key in sorted(self._deployments))
        return Intent(self._owner, deployments, tuple(self._instances[key] for key in sorted(self._instances)))

    def save_deployment(self, record: DeploymentRecord, event: Event | None = None) -> None:
        self._faults.effect("save_deployment", str(record.id))
        self._save(self._deployments, record)
        self._tell(event)

    def save_deployments(self, records: Sequence[DeploymentRecord], events: Sequence[Event]) -> None:
        for record in records:
            self._check(self._deployments, record)
        self._faults.effect("save_deployments", str(records[0].id))
        for record in records:
            self._save(self._deployments, record)
        for event in events:
            self._tell(event)

    def save_instance(self, record: InstanceRecord, event: Event | None = None) -> None:
        self._faults.effect("save_instance", str(record.id))
        self._save(self._instances, record)
        self._tell(event)

    def _save(self, table: dict, record: DeploymentRecord | InstanceRecord) -> None:
        self._check(table, record)
        table[record.id] = replace(record, version=record.version + 1)
        self._saves += 1

    def _check(self, table: dict, record: DeploymentRecord | InstanceRecord) -> None:
        known = table.get(record.id)
        if (known.version if known is not None else 0) != record.version:
            raise StoreConflict(f"{record.id} was changed by someone else meanwhile")

    def forget_instance(self, key: InstanceId, event: Event) -> None:
        self._faults.effect("forget_instance", str(key))
        self._tell(event if self._instances.pop(key, None) else None)

    def forget_deployment(self, key: DeploymentId, event: Event) -> None:
        self._faults.effect("forget_deployment", str(key))
        self._tell(event if self._deployments.pop(key, None) else None)

    def events(self, subject: str, after: int = 0) -> list[tuple[int, Event]]:
        numbered = list(enumerate(self._events, 1))[after:]
        return [(n, e) for n, e in numbered if not subject or f"{e.subject}.".startswith(f"{subject}.")]

    def note(self, event: Event) -> None:
        self._tell(event)

    def changes(self) -> int:
        return self._saves

    def _tell(self, event: Event | None) -> None:
        if event is not None:
            self._events.append(event)
