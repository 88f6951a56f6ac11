"""Records as JSON, in the store and in the copies on hosts: made by pydantic from the model's own types."""

from __future__ import annotations

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import Refused
from orchestrator.model.record import DeploymentRecord, InstanceRecord

RECOVER = "`vmrole recover` rebuilds the store from what the hosts have"
_DEPLOYMENT = TypeAdapter(DeploymentRecord)
_INSTANCE = TypeAdapter(InstanceRecord)


def dump_deployment(record: DeploymentRecord) -> bytes:
    return _DEPLOYMENT.dump_json(record)


def dump_instance(record: InstanceRecord) -> bytes:
    return _INSTANCE.dump_json(record)


def load_deployment(text: bytes | str) -> DeploymentRecord:
    """Read one back. Raises Refused when it is not one."""
    try:
        return _DEPLOYMENT.validate_json(text)
    except ValidationError as error:
        raise Refused(f"a deployment's record cannot be read: {error.error_count()} problems in it", RECOVER) from error


def load_instance(text: bytes | str) -> InstanceRecord:
    """Read one back. Raises Refused when it is not one."""
    try:
        return _INSTANCE.validate_json(text)
    except ValidationError as error:
        raise Refused(f"an instance's record cannot be read: {error.error_count()} problems in it", RECOVER) from error
