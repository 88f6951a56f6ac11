"""What a Windows guest's one answer means: which boot it is, how far setup is, and which services are not up. Pure.

The answer is the guest's own word: of another shape than promised it is refused, and no text of it is kept unclean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from orchestrator.errors import AgentRefused
from orchestrator.model.text import line
from orchestrator.model.world import GuestSeen

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_SERVICES, MOST_ERRORS = 2000, 20
DELAY_S = 120.0  # how long after boot Windows begins with services of delayed start (AutoStartDelay, by default)
SPREAD_S = 180.0  # how long after that they may take to come up, one after the other
COMPLETE = "IMAGE_STATE_COMPLETE"
Word = Annotated[str, StringConstraints(max_length=256)]
Told = Annotated[str, StringConstraints(max_length=2000)]


class Service(BaseModel):
    """An automatic service. ``triggered``: it is started by an event and not at boot. ``code``: its last exit code."""

    model_config = ConfigDict(strict=True, frozen=True)
    name: Word
    state: Word
    delayed: bool
    triggered: bool
    code: int


class Answer(BaseModel):
    """``uptime`` in seconds; ``setup``, ``start_up``: of our own script ("" where the image has it not).

    ``held``: why the code in the guest wants to be out of rotation; "" if it does not. ``told``: how its runtime file
    begins.
    """

    model_config = ConfigDict(strict=True, frozen=True)
    boot: Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
    uptime: float = Field(ge=0)
    image: Word
    busy: bool
    setup: Word
    start_up: Word
    held: Told = ""
    told: Told = ""
    errors: Annotated[list[Told], Field(max_length=MOST_ERRORS)]
    services: Annotated[list[Service], Field(max_length=MOST_SERVICES)]


def parse(text: str) -> Answer:
    """Raises AgentRefused when it is no answer of the promised shape."""
    try:
        return Answer.model_validate_json(text)
    except ValidationError as error:
        raise AgentRefused(
            f"the guest's PowerShell answered with something else ({error.error_count()} faults)"
        ) from error


def judge(answer: Answer, services: tuple[str, ...] | None) -> GuestSeen:
    """How far the guest is. ``services`` None: every automatic one that no event has to start."""
    if answer.busy or answer.image != COMPLETE:
        return GuestSeen(answer.boot, setup_stage=line(answer.image))
    if "failed" in {answer.setup, answer.start_up}:
        errors = tuple(map(line, answer.errors)) or ("setup's script failed",)
        return GuestSeen(answer.boot, setup_done=True, setup_errors=errors)
    if answer.setup not in {"", "done"} or answer.start_up not in {"", "done"}:
        return GuestSeen(answer.boot, setup_stage="setup's own script")
    waiting: list[str] = []
    failed: list[str] = []
    for service, is_hopeless in _not_running(answer, services):
        (failed if is_hopeless else waiting).append(_said(service))
    missing = [f"{name} (there is no such automatic service)" for name in _missing(answer, services)]
    return GuestSeen(
        answer.boot,
        setup_done=True,
        settled=not waiting,
        waiting=tuple(waiting),
        failed=(*failed, *missing),
        busy=line(answer.held),
        kept=True,  # its script has copied itself off the disc
    )


def _not_running(answer: Answer, services: tuple[str, ...] | None) -> Iterator[tuple[Service, bool]]:
    """Services that are not up, and whether they are waited for in vain."""
    named = {name.casefold() for name in services or ()}  # to Windows they are the same in any case
    for service in answer.services:
        is_asked = not service.triggered if services is None else service.name.casefold() in named
        if is_asked and service.state != "Running":
            is_coming = service.state in {"Start Pending", "Continue Pending"}
            yield service, not (is_coming or _is_in_time(service, answer.uptime))


def _is_in_time(service: Service, uptime_s: float) -> bool:
    """Whether it may yet be started: at boot Windows starts them for a while, and delayed ones later."""
    return uptime_s < (DELAY_S + SPREAD_S if service.delayed else DELAY_S)


def _missing(answer: Answer, services: tuple[str, ...] | None) -> list[str]:
    known = {service.name.casefold() for service in answer.services}
    return [name for name in services or () if name.casefold() not in known]


def _said(service: Service) -> str:
    start = ", delayed start" if service.delayed else ""
    return line(f"{service.name} ({service.state.lower()}{start}, exit code {service.code})")
