"""Accounts and passwords of a cloud-config. No password is passed through, not even of an account that is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.setups import filled, secret

if TYPE_CHECKING:
    from collections.abc import Iterator

_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_GROUP = re.compile(r"(?:[a-z_][a-z0-9_-]*|[0-9]{1,10})")
HASH = re.compile(r"\$[0-9a-z]{1,4}\$[!-9;-~]{1,200}")
_KNOWN = {
    "name", "gecos", "groups", "plain_text_passwd", "passwd", "hashed_passwd", "ssh_authorized_keys", "sudo", "shell",
    "lock_passwd",
}  # fmt: skip
_SUDO = {
    "ALL=(ALL) NOPASSWD:ALL",
    "ALL=(ALL) NOPASSWD: ALL",
    "ALL=(ALL:ALL) NOPASSWD:ALL",
    "ALL=(ALL:ALL) NOPASSWD: ALL",
}
_CLEAR = "plain_text_passwd"


def take_users(value: object, setup: dict[str, object], role: str, draft: Draft) -> object:
    """Accounts that can be said here go to ``setup.users``; the others are given back without their passwords."""
    if not isinstance(value, list):
        return value
    left: list[object] = []
    users = _users(setup)
    for item in value:
        user = _user(item, role, draft) if isinstance(item, dict) else None
        if user is not None and not any(known["name"] == user["name"] for known in users):
            users.append(user)
        elif isinstance(item, dict) and _CLEAR in item:
            told = f"account {item.get('name')}"
            draft.note(Kind.DROPPED, told, "its password: the account is passed through, and passwords are not")
            left.append({key: part for key, part in item.items() if key != _CLEAR})
        else:
            left.append(item)
    if len(left) < len(value) and "default" not in value:
        draft.note(Kind.CHANGED, "users", "the image's own user is made, too: `default` was not among them")
    return left or None


def _users(setup: dict[str, object]) -> list[dict[str, object]]:
    found = setup.setdefault("users", [])
    return found if isinstance(found, list) else []


def _user(item: dict[str, object], role: str, draft: Draft) -> dict[str, object] | None:
    """An account with all that was said of it; None if something of it has no field."""
    name, groups, keys = item.get("name"), _groups(item.get("groups", [])), item.get("ssh_authorized_keys", [])
    full, shell, sudo = item.get("gecos", ""), item.get("shell", ""), item.get("sudo")
    if (
        set(item) - _KNOWN
        or name == "root"
        or not isinstance(name, str)
        or not _ACCOUNT.fullmatch(name)
        or groups is None
    ):
        return None
    if not isinstance(full, str) or not full.isprintable() or {":", ","} & set(full) or not _is_shell(shell):
        return None
    if not isinstance(keys, list) or not all(isinstance(k, str) and k.strip() and k.isprintable() for k in keys):
        return None
    is_admin = sudo in _SUDO or (isinstance(sudo, list) and len(sudo) == 1 and sudo[0] in _SUDO)
    hashed = item.get("hashed_passwd") or item.get("passwd") or ""
    if (sudo not in (None, False, "") and not is_admin) or (hashed and not HASH.fullmatch(str(hashed))):
        return None
    has_password, is_locked = bool(item.get(_CLEAR)) or bool(hashed), item.get("lock_passwd", True)
    if is_locked is not True and not (is_locked is False and has_password):
        return None
    found = {"name": name, "full_name": full.strip(), "groups": groups, "ssh_authorized_keys": keys, "shell": shell}
    if is_admin:
        found["admin"] = True
    if item.get(_CLEAR):
        found["password"] = secret(draft, role, f"user-{name}", f"account {name}")
    elif hashed:
        found["password_hash"] = hashed
    return filled(found)


def _is_shell(shell: object) -> bool:
    if shell == "":
        return True
    is_path = isinstance(shell, str) and shell.startswith("/") and shell.isprintable() and not shell.endswith("/")
    return is_path and not {".", ".."} & set(str(shell).split("/"))


def _groups(value: object) -> list[str] | None:
    words = value.split(",") if isinstance(value, str) else value
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return None
    found = [word.strip() for word in words if word.strip()]
    return found if all(_GROUP.fullmatch(word) for word in found) else None


def take_passwords(value: object, setup: dict[str, object], role: str, draft: Draft) -> object:
    """``chpasswd``: each password becomes a secret of its account; only what is no password is given back."""
    if not isinstance(value, dict):
        draft.note(Kind.DROPPED, "chpasswd", "is not a mapping, and may hold passwords")
        return None
    for name, password, kind in _said(value):
        told = f"account {name}"
        if not _ACCOUNT.fullmatch(name) or kind == "RANDOM" or password in {"", "R", "RANDOM"}:
            draft.note(Kind.DROPPED, told, "its password: a random one, or of a name that no account has here")
        elif kind == "hash" or HASH.fullmatch(password):
            _with_password(name, {"password_hash": password}, setup, draft)
        else:
            _with_password(name, {"password": secret(draft, role, f"user-{name}", told)}, setup, draft)
    left = {key: item for key, item in value.items() if key not in {"users", "list"}}
    return left or None


def _said(value: dict[str, object]) -> Iterator[tuple[str, str, str]]:
    """(account, password, type) of both forms that cloud-init has."""
    users, lines = value.get("users"), value.get("list")
    for user in users if isinstance(users, list) else ():
        if isinstance(user, dict):
            yield str(user.get("name", "")), str(user.get("password", "")), str(user.get("type", "hash"))
    for line in lines.splitlines() if isinstance(lines, str) else lines if isinstance(lines, list) else ():
        name, _, password = str(line).partition(":")
        yield name.strip(), password.strip(), "text"


def _with_password(name: str, field: dict[str, object], setup: dict[str, object], draft: Draft) -> None:
    if name == "root":
        if "password" in field:
            setup["administrator"] = field
        else:
            draft.note(Kind.DROPPED, "account root", "its password's hash: give setup.administrator a password")
        return
    if (hashed := field.get("password_hash")) and not HASH.fullmatch(str(hashed)):
        draft.note(Kind.DROPPED, f"account {name}", "its password's hash is not as crypt(3) has it")
        return
    users = _users(setup)
    user = next((found for found in users if found["name"] == name), None)
    if user is None:
        users.append({"name": name} | field)
        return
    user.pop("password", None)
    user.pop("password_hash", None)
    user.update(field)
