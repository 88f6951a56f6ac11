"""What every writer of a ``setup`` needs: texts that are taken as they are, and secrets that are named, not told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.convert.names import as_secret
from orchestrator.convert.report import Draft, Kind
from orchestrator.engine.template import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from orchestrator.convert.report import Path_

SECRETS = "/etc/vmrole/secrets"  # on Windows below C:, and for administrators only


def all_literal(value: object) -> object:
    """The same of every text of a value; keys are taken as they are anyway."""
    if isinstance(value, str):
        return escaped(value)
    if isinstance(value, dict):
        return {key: all_literal(item) for key, item in value.items()}
    return [all_literal(item) for item in value] if isinstance(value, list) else value


def secret(draft: Draft, role: str, what: str, told: str) -> dict[str, str]:
    """A reference in the place of a secret that was in the input, and the note that tells what to do about it."""
    wanted = as_secret(role, what)
    name, count = wanted, 1
    while draft.secrets.setdefault(name, told) != told:
        count += 1
        name = f"{wanted}-{count}"
    draft.note(Kind.SECRET, told, f"is not written into the file: `vmrole secret set {name}`")
    return {"secret": f"store:{name}"}


def secret_file(draft: Draft, role: str, path: str, told: str) -> dict[str, object]:
    """A file of the setup whose content is a secret; who may read it is added by the caller."""
    return {"path": escaped(path), **secret(draft, role, f"file-{path.strip('/')}", told)}


def secret_command(draft: Draft, role: str, told: str, *, is_windows: bool = False) -> tuple[dict[str, object], str]:
    """(a file, the command that runs it) in the place of a command with a secret in it."""
    number = sum(name.startswith(as_secret(role, "run-")) for name in draft.secrets) + 1
    name = f"run-{number}"
    path = f"{SECRETS}/{name}{'.cmd' if is_windows else ''}"
    content = secret(draft, role, name, f"{told} (it becomes {path})")
    command = "C:" + path.replace("/", "\\") if is_windows else f"sh {path}"
    return {"path": path, **content, "mode": "0700"}, command


def with_administrators(draft: Draft) -> None:
    """A password of the administrator for each role on a Windows, where the input had none that can be used."""
    roles = draft.value["roles"]
    for name, role in roles.items() if isinstance(roles, dict) else ():
        setup = role.get("setup", {})
        if "administrator" in setup or "user_data" in setup or any("admin" in user for user in setup.get("users", ())):
            continue
        wanted = as_secret(name, "administrator")
        role["setup"] = setup | {"administrator": {"password": {"secret": f"store:{wanted}"}}}
        told = f"Windows' first start asks for an administrator: `vmrole secret set {wanted}`; take it out on Linux"
        draft.comment(("roles", name, "setup", "administrator"), told)
        draft.note(Kind.SECRET, f"{name}/administrator", told)


def explained(draft: Draft) -> None:
    """A comment above each reference to a secret, that tells what it is."""
    for path, name in list(_references(draft.value, ())):
        if told := draft.secrets.get(name):
            draft.comment(path, f"{told}: `vmrole secret set {name}`")


def _references(value: object, path: Path_) -> Iterator[tuple[Path_, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "secret" and isinstance(item, str):
                yield (*path, key), item.removeprefix("store:")
            yield from _references(item, (*path, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _references(item, (*path, number))


def filled(parts: Mapping[str, object]) -> dict[str, object]:
    """Without what is empty."""
    return {key: part for key, part in parts.items() if part not in ("", None, [], {})}
