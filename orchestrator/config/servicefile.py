"""Reading a service file: every problem in it at once, each with its path and line, or the service as a value."""

from __future__ import annotations

from collections.abc import Callable
from stat import S_ISREG
from typing import TYPE_CHECKING

from pydantic import ValidationError

from orchestrator.config import rolenames, roleorder, scaleform, sources, templates, trafficform, userdata
from orchestrator.config.endpointform import misfits, ports_of
from orchestrator.config.reading import UNREADABLE, Fault, Path_, Places, ordered, read
from orchestrator.config.reading import mapping as _mapping
from orchestrator.config.reading import path_text as _text
from orchestrator.config.reading import place as _place
from orchestrator.config.reading import problem as _problem
from orchestrator.config.reading import roles as _roles
from orchestrator.config.schema import ServiceForm
from orchestrator.config.words import in_words
from orchestrator.errors import InvalidInput, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.model.spec import Service

MAX_BYTES = 4 * 1024**2
EXAMPLE = "name a service file, like examples/hello.yaml"
HINT = "the README's guide shows every field"
ImageProblem = Callable[[str], str]


def load(path: Path, image_problem: ImageProblem) -> Service:
    """Read a file. Raises UserError when it cannot be read, InvalidInput when something is wrong in it.

    ``image_problem``: says what is wrong with a reference to an image, "" if nothing.
    """
    try:
        found = path.stat()
        data = path.read_bytes() if S_ISREG(found.st_mode) and found.st_size <= MAX_BYTES else b""
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", EXAMPLE) from error
    if not S_ISREG(found.st_mode):
        raise UserError(f"{path} is not a regular file", EXAMPLE)
    if found.st_size > MAX_BYTES:
        raise UserError(f"{path} is larger than a service file may be ({MAX_BYTES // 1024**2} MiB)")
    return parse(data.decode(errors="surrogateescape"), str(path), image_problem, folder=path.parent)


def parse(
    text: str, source: str, image_problem: ImageProblem = lambda _reference: "", *, folder: Path | None = None
) -> Service:
    """Read a text, in which bytes that were not UTF-8 are surrogates; ``source`` names it. Raises InvalidInput.

    ``folder``: where the local files are that it names (None: it may name none).
    """
    places, raw, faults = read(text)
    if not isinstance(raw, dict):
        told = faults or [Fault((), "must be a mapping with `service` and `roles`", 1)]
        raise InvalidInput(source, ordered(fault.problem() for fault in told), HINT)
    faults += sources.filled_in(raw, places, folder)
    faults += userdata.told_apart(raw, places)
    problems = [fault.problem() for fault in faults]
    problems += [
        *_ports(raw, places),
        *trafficform.problems(raw, places),
        *_disks(raw, places),
        *rolenames.problems(raw, places),
        *roleorder.problems(raw, places),
        *scaleform.problems(raw, places),
        *userdata.beside(raw, places),
        *templates.problems(raw, places),
        *_images(raw, places, image_problem),
    ]
    try:
        form = ServiceForm.model_validate(raw)
    except ValidationError as error:
        problems += [
            _problem(places, found["loc"], in_words(found), is_missing=found["type"] == "missing")
            for found in error.errors()
            if found["input"] is not UNREADABLE
        ]
        raise InvalidInput(source, ordered(problems), HINT) from error
    if problems:
        raise InvalidInput(source, ordered(problems), HINT)
    return form.value()


def line_of(text: str, path: Path_) -> int:
    """The line of a field in a service file's text, for problems that are found later."""
    return _place(read(text)[0], path)[1]


def _disks(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """Names and mounts that two disks of a role want."""
    for path, role in _roles(raw):
        taken: dict[tuple[str, str], str] = {}
        for kind in (key for key in role if key in {"local_storage", "volumes"}):
            for name in _mapping(role, kind):
                here: Path_ = (*path, kind, name)
                mount = _mapping(role, kind, name).get("mount")
                for what, told, place in (("name", name, here), ("mount", mount, (*here, "mount"))):
                    owner = taken.setdefault((what, str(told)), _text(here))
                    if isinstance(told, str) and owner != _text(here):
                        yield _problem(places, place, f"{told!r:.60} is taken: {owner} has the same {what}")


def _ports(raw: dict[str, object], places: Places) -> Iterator[Problem]:
    """Ports that two endpoints want, ranges too short for their role, fields that do not go together."""
    taken: dict[int, str] = {}
    every = ((path, role, name) for path, role in _roles(raw) for name in _mapping(role, "endpoints"))
    for above, role, name in every:
        path: Path_ = (*above, "endpoints", name)
        endpoint = _mapping(role, "endpoints", name)
        yield from (_problem(places, (*path, *field), message) for field, message in misfits(endpoint))
        ports = ports_of(endpoint.get("port"))
        count = role.get("instances", 1)
        if endpoint.get("visibility") == "instance" and isinstance(count, int) and 0 < len(ports) < count:
            yield _problem(places, (*path, "port"), f"has {len(ports)} ports for {count} instances")
        if (port := next((port for port in ports if port in taken), 0)) != 0:
            yield _problem(places, (*path, "port"), f"port {port} is given twice: {taken[port]} has it already")
        taken = {**dict.fromkeys(ports, _text(path)), **taken}


def _images(raw: dict[str, object], places: Places, image_problem: ImageProblem) -> Iterator[Problem]:
    for path, role in _roles(raw):
        reference = role.get("image")
        is_sayable = isinstance(reference, str) and reference.strip() and reference.isprintable()
        if is_sayable and (message := image_problem(str(reference))):
            yield _problem(places, (*path, "image"), message)
