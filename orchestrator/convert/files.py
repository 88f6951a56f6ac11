"""Any set of such files, told apart by what is in them, as one service file and a report."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from orchestrator.config import servicefile
from orchestrator.convert import azure, passes, tree, unattend, userdata
from orchestrator.convert.names import as_name
from orchestrator.convert.pairing import Pair
from orchestrator.convert.report import Draft, Kind, Note
from orchestrator.convert.setups import explained, with_administrators
from orchestrator.convert.yamltext import written
from orchestrator.errors import InvalidInput, Problem, UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BYTES = 2 * 1024**2
HINT = "give a .csdef with its .cscfg, an unattend.xml, or a cloud-init user-data"


class Form(Enum):
    """What a file is."""

    DEFINITION = "service definition"
    CONFIGURATION = "service configuration"
    UNATTEND = "answer file of Windows"
    USER_DATA = "cloud-init user-data"


_ROOTS = {"ServiceDefinition": Form.DEFINITION, "ServiceConfiguration": Form.CONFIGURATION, "unattend": Form.UNATTEND}


@dataclass(frozen=True, slots=True)
class Given:
    """A file that was given: ``name`` is how messages speak of it."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Wishes:
    """``images``: role → image ("" for all). ``service``, ``role``: names, "" for those of the files."""

    images: Mapping[str, str] = field(default_factory=dict)
    service: str = ""
    role: str = ""


@dataclass(frozen=True, slots=True)
class Converted:
    """``text``: the service file. ``value``: the same without comments."""

    text: str
    value: dict[str, object]
    notes: tuple[Note, ...]


def convert(files: Sequence[Given], wishes: Wishes) -> Converted:
    """One service of all files. Raises UserError, InvalidInput with every problem of them."""
    forms = _told_apart(files)
    given = {form: file for file, form, _root in forms}
    roots = {form: root for _file, form, root in forms if root is not None}
    draft = Draft()
    if Form.UNATTEND in given:
        passes.check(roots[Form.UNATTEND], given[Form.UNATTEND].name)
    if Form.DEFINITION in given:
        draft = _azure(given, roots, wishes)
    elif Form.CONFIGURATION in given:
        raise UserError(f"{given[Form.CONFIGURATION].name} needs its service definition (.csdef) beside it", HINT)
    else:
        draft.value = {"service": wishes.service or "service", "roles": {}}
    for form in (Form.UNATTEND, Form.USER_DATA):
        if form in given:
            _into_role(form, given[form], wishes, draft)
    if Form.DEFINITION in given or Form.UNATTEND in given:
        with_administrators(draft)
    return _checked(draft)


def _told_apart(files: Sequence[Given]) -> list[tuple[Given, Form, tree.Element | None]]:
    """Each file with what it is. Raises InvalidInput with what is no XML, UserError of two alike."""
    found: list[tuple[Given, Form, tree.Element | None]] = []
    problems: list[Problem] = []
    for file in map(_unpacked, files):
        try:
            form, root = _form(file)
        except InvalidInput as error:
            problems += error.problems
            continue
        if other := next((known.name for known, kind, _root in found if kind is form), ""):
            raise UserError(f"{other} and {file.name} are both a {form.value}: give one", HINT)
        found.append((file, form, root))
    if problems:
        raise InvalidInput(" and ".join(sorted({problem.path for problem in problems})), azure.ordered(problems))
    return found


def _small(file: Given) -> None:
    if len(file.data) > MAX_BYTES:
        raise UserError(f"{file.name} is larger than such a file may be ({MAX_BYTES // 1024**2} MiB)")


def _unpacked(file: Given) -> Given:
    """User-data may be compressed: cloud-init unpacks it, too. Raises UserError."""
    if not file.data.startswith(b"\x1f\x8b"):
        return file
    _small(file)
    try:
        return Given(file.name, zlib.decompressobj(wbits=31).decompress(file.data, MAX_BYTES + 1))
    except zlib.error as error:
        raise UserError(f"{file.name} is not gzip, as which it begins: {error}") from error


def _form(file: Given) -> tuple[Form, tree.Element | None]:
    _small(file)
    text = file.data.removeprefix(b"\xef\xbb\xbf").decode(errors="replace")
    if userdata.kind_of(text):
        if "\ufffd" in text:
            raise InvalidInput(file.name, (Problem(file.name, "is not UTF-8", _line_of(text, "\ufffd"), 1),))
        return Form.USER_DATA, None
    is_xml = text.lstrip().startswith("<") or file.data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if not is_xml:
        raise UserError(f"{file.name} is nothing that can be converted", HINT)
    root = tree.read(file.data, file.name)
    if root.name not in _ROOTS:
        told = f"<{root.name}> is none of {', '.join(f'<{name}>' for name in _ROOTS)}"
        raise InvalidInput(file.name, (root.problem(file.name, told),), HINT)
    return _ROOTS[root.name], root


def _line_of(text: str, part: str) -> int:
    return text.count("\n", 0, text.index(part)) + 1


def _azure(given: Mapping[Form, Given], roots: Mapping[Form, tree.Element], wishes: Wishes) -> Draft:
    configuration = given.get(Form.CONFIGURATION)
    pair = Pair(
        roots[Form.DEFINITION],
        given[Form.DEFINITION].name,
        roots.get(Form.CONFIGURATION),
        configuration.name if configuration else "",
    )
    azure.check(pair)
    names = {role.get("name") for role in pair.roles()}
    for role in set(wishes.images) - names - {as_name(name, "role") for name in names} - {""}:
        raise UserError(f"--image {role}=…: there is no role {role}; there are: {', '.join(sorted(names))}")
    return azure.convert(pair, wishes.images, wishes.service)


def _into_role(form: Form, file: Given, wishes: Wishes, draft: Draft) -> None:
    """Put a file's setup into the role it is for: the named one, the only one, or a new one."""
    roles = draft.value["roles"]
    assert isinstance(roles, dict)  # noqa: S101 - a draft always has them
    if wishes.role and roles and wishes.role not in roles:
        raise UserError(f"there is no role {wishes.role}; there are: {', '.join(roles)}")
    if len(roles) > 1 and not wishes.role:
        raise UserError(f"{file.name} is for one role: say which with --role: {', '.join(roles)}")
    name = wishes.role or next(iter(roles), "web")
    role = roles.setdefault(name, {})
    if not role:
        _new_role(form, name, role, wishes, draft)
    text = file.data.removeprefix(b"\xef\xbb\xbf")
    if form is Form.UNATTEND:
        found = unattend.convert(file.data, file.name, name, draft)
    else:
        found = userdata.convert(text.decode(), file.name, name, draft)
    role["setup"] = _both(role.get("setup", {}), found, file.name, name, draft)
    if not role["setup"]:
        del role["setup"]


def _both(
    known: Mapping[str, object], found: Mapping[str, object], source: str, role: str, draft: Draft
) -> dict[str, object]:
    """Two setups as one: lists are joined, and of anything else the first stays."""
    both = {**found, **known}
    for key in sorted(set(found) & set(known)):
        first, second = known[key], found[key]
        if isinstance(first, list) and isinstance(second, list):
            both[key] = [*first, *second]
        else:
            text = f"setup.{key} of role {role} is said by another file already"
            draft.note(Kind.DROPPED, f"{source}/{key}", text)
    return both


def _new_role(form: Form, name: str, role: dict[str, object], wishes: Wishes, draft: Draft) -> None:
    otherwise = "windows-server-2022" if form is Form.UNATTEND else "debian-12"
    image = wishes.images.get(name, wishes.images.get("", ""))
    if not image:
        draft.decide(("roles", name, "image"), f"{name}/image", "the image")
    role.update({"image": image or otherwise, "instances": 1})
    draft.decide(("roles", name, "instances"), f"{name}/instances", "how many, of what size, with which endpoints")


def _checked(draft: Draft) -> Converted:
    """What `up` would not accept is told here already. Raises InvalidInput."""
    explained(draft)
    text = written(draft.value, draft.comments)
    servicefile.parse(text, "the service file that it would become")
    return Converted(text, draft.value, tuple(draft.notes))
