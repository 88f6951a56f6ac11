"""Records as JSON, in the store and in the copies on hosts: made by pydantic from the model's own types."""

from __future__ import annotations

import json

from pydantic import TypeAdapter, ValidationError

from orchestrator.engine.template import escaped
from orchestrator.errors import Refused
from orchestrator.model.record import DeploymentRecord, InstanceRecord

RECOVER = "`vmrole recover` rebuilds the store from what the hosts have"
_DEPLOYMENT = TypeAdapter(DeploymentRecord)
_INSTANCE = TypeAdapter(InstanceRecord)


def dump_deployment(record: DeploymentRecord) -> bytes:
    return _DEPLOYMENT.dump_json(record)


def dump_instance(record: InstanceRecord) -> bytes:
    return _INSTANCE.dump_json(record)


def upgraded(text: bytes | str) -> str:
    """A record of any version as this one writes it; what is no JSON stays as it is.

    Before there were commands, a setup had ``run``: lines and words. Before there were templates, two braces were two
    braces: what has them is written so that it means the same. Before there were upgrade domains, a role had only
    ``max_unavailable``.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text.decode(errors="replace") if isinstance(text, bytes) else text
    _upgrade(found)
    return json.dumps(found, ensure_ascii=False)


def _upgrade(value: object) -> None:
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _upgrade(child)
    if isinstance(value, dict) and isinstance(most := value.get("max_unavailable"), int):
        del value["max_unavailable"]
        value["upgrade"] = {"max_unavailable": {"amount": most}}
    setup = value.get("setup") if isinstance(value, dict) else None
    if isinstance(setup, dict) and "run" in setup:
        _upgrade_setup(setup)
    machine = value.get("machine") if isinstance(value, dict) else None
    if isinstance(machine, dict) and isinstance(machine.get("setup"), dict):
        machine["setup"]["settings"] = []  # they are its role's alone since there is a runtime file


def _upgrade_setup(setup: dict[str, object]) -> None:
    def words(given: object) -> object:
        return [escaped(str(word)) for word in given] if isinstance(given, list) else escaped(str(given))

    run, files, settings = setup.pop("run"), setup.get("files"), setup.get("settings")
    setup["commands"] = [{"words": words(given)} for given in run] if isinstance(run, list) else []
    setup["settings"] = [[key, escaped(text)] for key, text in settings] if isinstance(settings, list) else []
    setup["user_data"] = escaped(str(setup.get("user_data", "")))
    for file in files if isinstance(files, list) else ():
        file["is_template"] = "{{" not in file["content"]
        file["path"] = escaped(file["path"])


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
