"""The keys of a cloud-config that ``setup`` has fields for. Whatever is not understood whole is left as it is."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.convert.cloudrest import without_secrets
from orchestrator.convert.cloudusers import take_passwords, take_users
from orchestrator.convert.names import Names
from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.secrecy import holds_secret, in_command
from orchestrator.convert.setups import secret_command, secret_file
from orchestrator.engine.template import escaped

if TYPE_CHECKING:
    from collections.abc import Callable

_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,39}(?:/[A-Za-z0-9_+-]{1,40}){0,2}")
_LOCALE = re.compile(r"[A-Za-z]{1,8}(?:_[A-Za-z]{2,8})?(?:\.[A-Za-z0-9-]{1,20})?(?:@[a-z]{1,20})?")
_LAYOUT = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~_/-]{0,199}(?:=[A-Za-z0-9.+:~_-]{1,200})?")
_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_USER = r"(?:[a-z_][a-z0-9_-]*|[0-9]{1,10})"
_OWNER = re.compile(f"{_USER}:{_USER}")
_BASE64 = {"b64", "base64"}
_PLAIN = {"", "text/plain"}
PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class Place:
    """For which role, from which file, and where the notes go."""

    role: str
    draft: Draft
    source: str


def taken(config: dict[str, object], setup: dict[str, object], place: Place) -> dict[str, object]:
    """Move what ``setup`` has fields for into it; what is left over, to be passed through."""
    left = {key.replace("-", "_") if key == "ca-certs" else key: value for key, value in config.items()}
    for key, read in _KEYS.items():
        if key in left:
            rest = read(left.pop(key), setup, place)
            if rest is not None:
                left[key] = rest
    left = without_secrets(left, place.draft)
    if left:
        told = f"passed through in setup.user_data: {', '.join(left)}"
        place.draft.note(Kind.CHANGED, place.source, told)
    return left


def _text(field: str, pattern: re.Pattern[str]) -> Callable[[object, dict[str, object], Place], object]:
    """A reader of one text that goes into ``field``; it gives back what it could not read."""

    def read(value: object, setup: dict[str, object], _place: Place) -> object:
        if not isinstance(value, str) or not pattern.fullmatch(value) or field in setup:
            return value
        setup[field] = value
        return None

    return read


def _fqdn(value: object, setup: dict[str, object], place: Place) -> object:
    """A full name, which all instances would have in common."""
    if not isinstance(value, str) or len(value) > 200 or not all(map(_HOST.fullmatch, value.split("."))):
        return value
    first, dot, domain = value.partition(".")
    setup["hostname"] = f"{first}-{{{{ordinal}}}}{dot}{domain}"
    place.draft.note(Kind.CHANGED, "fqdn", f"each instance needs a name of its own: {first}-0{dot}{domain}, …")
    return None


def _hostname(value: object, setup: dict[str, object], place: Place) -> object:
    if str(setup.get("hostname", "")).startswith(f"{value}-{{{{ordinal}}}}"):
        return None  # the beginning of the full name
    if not isinstance(value, str) or not _HOST.fullmatch(value) or "hostname" in setup:
        return value
    setup["hostname"] = f"{value}-{{{{ordinal}}}}"
    place.draft.note(Kind.CHANGED, "hostname", f"each instance needs a name of its own: {value}-0, …")
    return None


def _keyboard(value: object, setup: dict[str, object], _place: Place) -> object:
    if not isinstance(value, dict) or set(value) != {"layout"} or not _LAYOUT.fullmatch(str(value["layout"])):
        return value
    setup["keyboard"] = str(value["layout"])
    return None


def _keys(value: object, setup: dict[str, object], _place: Place) -> object:
    return _each(value, setup, "ssh_authorized_keys", lambda item: item if is_line(item) else None)


def is_line(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.strip().isprintable()


def _each(value: object, setup: dict[str, object], field: str, read: Callable[[object], object]) -> object:
    """Every item that ``read`` makes something of joins the list ``field``; the others are given back."""
    if not isinstance(value, list):
        return value
    found = [(item, read(item)) for item in value]
    known = setup.setdefault(field, [])
    if isinstance(known, list):
        known += [made for _item, made in found if made is not None]
    return [item for item, made in found if made is None] or None


def _packages(value: object, setup: dict[str, object], _place: Place) -> object:
    return _each(value, setup, "packages", _package)


def _package(item: object) -> str | None:
    if isinstance(item, list) and len(item) == 2 and all(isinstance(part, str) for part in item):
        item = "=".join(item)
    return item if isinstance(item, str) and _PACKAGE.fullmatch(item) else None


def _commands(value: object, setup: dict[str, object], place: Place) -> object:
    """All or none: commands have an order. One with a secret in it becomes a file that is one."""
    if not isinstance(value, list) or any(_command(item) is None for item in value):
        return value
    number = 0

    def read(item: object) -> object:
        nonlocal number
        number += 1
        if not in_command(" ".join(map(str, item)) if isinstance(item, list) else str(item)):
            return _command(item)
        file, command = secret_command(place.draft, place.role, f"command {number} of runcmd, a line of sh")
        _each([file], setup, "files", lambda made: made)
        return command

    return _each(value, setup, "run", read)


def _command(item: object) -> object:
    if isinstance(item, str) and item.strip() and "\0" not in item:
        return escaped(item)
    is_argv = isinstance(item, list) and item and all(isinstance(word, str | int) for word in item)
    words = [escaped(str(word)) for word in item] if is_argv and isinstance(item, list) else []
    return words if words and words[0].strip() and not any("\0" in word for word in words) else None


def _files(value: object, setup: dict[str, object], place: Place) -> object:
    def read(item: object) -> object:
        found = _file(item)
        if found is None or not holds_secret(str(found["content"])):
            return found
        path = str(item["path"]) if isinstance(item, dict) else ""
        rights = {key: found[key] for key in ("mode", "owner") if key in found}
        return secret_file(place.draft, place.role, path, f"file {path}") | rights

    return _each(value, setup, "files", read)


def _file(item: object) -> dict[str, object] | None:
    if not isinstance(item, dict) or set(item) - {"path", "content", "permissions", "owner", "encoding"}:
        return None
    path, content, mode = item.get("path"), _content(item), _mode(item.get("permissions", "0644"))
    owner = item.get("owner", "root:root")
    is_path = isinstance(path, str) and path.startswith("/") and path.isprintable() and not path.endswith("/")
    if not is_path or {".", ".."} & set(str(path).split("/")) or content is None or mode is None:
        return None
    if not isinstance(owner, str) or not _OWNER.fullmatch(owner):
        return None
    found = {"path": escaped(str(path)), "content": content, "mode": mode, "template": False}
    return found | ({"owner": owner} if owner != "root:root" else {})


def _content(item: dict[str, object]) -> str | None:
    """A file's text; None of one that is compressed or no text."""
    content, encoding = item.get("content", ""), str(item.get("encoding", "")).lower()
    if not isinstance(content, str) or encoding not in _BASE64 | _PLAIN:
        return None
    if encoding in _PLAIN:
        return content
    try:
        return base64.b64decode(content, validate=False).decode()
    except (binascii.Error, ValueError):
        return None


def _mode(value: object) -> str | None:
    """Octal digits as a text; YAML has read 0644 as the number 420."""
    text = f"{value:04o}" if isinstance(value, int) and 0 <= value <= 0o7777 else str(value)
    text = text.removeprefix("0o")
    return (
        text.zfill(4) if re.fullmatch(r"[0-7]{3,4}", text) else (text[1:] if re.fullmatch(r"0[0-7]{4}", text) else None)
    )


def _ntp(value: object, setup: dict[str, object], _place: Place) -> object:
    servers = value.get("servers") if isinstance(value, dict) else None
    if not isinstance(value, dict) or set(value) - {"servers", "enabled"} or value.get("enabled", True) is not True:
        return value
    if not isinstance(servers, list) or not servers or not all(_SERVER.fullmatch(str(server)) for server in servers):
        return value
    setup["ntp"] = {"servers": [str(server) for server in servers]}
    return None


def _trusted(value: object, setup: dict[str, object], _place: Place) -> object:
    """Certificates of authorities; what is said beside them is left as it is."""
    found = value.get("trusted") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(found, list):
        return value
    if not all(isinstance(text, str) and PEM in text for text in found):
        return value
    names = Names("authority")
    setup["trusted_certificates"] = [{"name": names.give("authority"), "content": str(t)} for t in found]
    return {key: item for key, item in value.items() if key != "trusted"} or None


def _host_keys(place: Place) -> None:
    text = "the host's own keys are made on its first boot; give private ones as setup.files, with secrets"
    place.draft.note(Kind.DROPPED, "ssh_keys", text)


_KEYS: dict[str, Callable[[object, dict[str, object], Place], object]] = {
    "fqdn": _fqdn,
    "hostname": _hostname,
    "timezone": _text("timezone", _ZONE),
    "locale": _text("locale", _LOCALE),
    "keyboard": _keyboard,
    "users": lambda value, setup, place: take_users(value, setup, place.role, place.draft),
    "chpasswd": lambda value, setup, place: take_passwords(value, setup, place.role, place.draft),
    "password": lambda _value, _setup, place: _no_password(place),
    "ssh_keys": lambda _value, _setup, place: _host_keys(place),
    "ssh_authorized_keys": _keys,
    "write_files": _files,
    "packages": _packages,
    "runcmd": _commands,
    "ntp": _ntp,
    "ca_certs": _trusted,
}


def _no_password(place: Place) -> None:
    text = "is the default user's, whose name only the image knows: say it as the password of one of setup.users"
    place.draft.note(Kind.DROPPED, "password", text)
