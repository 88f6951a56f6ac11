"""What can be said of a setup before anything is changed, by the image that it is for and by cloud-init itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.model.record import DeploymentRecord
    from orchestrator.model.spec import Service


def odd_user_data(service: Service) -> list[str]:
    """What cloud-init's own schema says of the roles' cloud-configs, if it is installed here."""
    from orchestrator.drivers.cloudconfig import schema_problems

    given = [(role.name, role.setup.user_data) for role in service.roles if role.setup.user_data]
    return [f"roles.{name}.setup.user_data: {said}" for name, config in given for said in schema_problems(config)]


def refuse_unsuitable(record: DeploymentRecord, file: Path) -> None:
    """Refuse what the system in a role's image cannot do, of every role at once."""
    from orchestrator.config.reading import path_text
    from orchestrator.config.servicefile import line_of
    from orchestrator.engine.suitability import unfit_for_linux
    from orchestrator.engine.windows import unfit
    from orchestrator.model.spec import LINUX
    from orchestrator.render.unattend import untranslatable

    found = [
        (("roles", role.name, *path), message)
        for role in record.service.roles
        if record.machine(role).platform.os == LINUX
        for path, message in unfit_for_linux(role)
    ]
    found += unfit(record, untranslatable)
    if found:
        text = file.read_text(errors="replace")
        problems = [Problem(path_text(path), message, line_of(text, path)) for path, message in found]
        hint = "take it out, or take an image that can do it; docs/windows.md says what is used on Windows"
        raise InvalidInput(str(file), tuple(problems), hint)
