"""The user's part of an answer file: what ``setup`` asks for in cloud-init's words, and their own user-data with it.

The two are one cloud-config, joined here: of two lists cloud-init itself would take only one.
"""

from __future__ import annotations

import base64
import json
import re
from email.mime.base import MIMEBase
from email.mime.multipart import MIMEMultipart
from typing import TYPE_CHECKING

from orchestrator.errors import Refused
from orchestrator.model.secret import SecretRef, line_of_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.model.setup import Certificate, File, Setup, User

    Reveal = Callable[[SecretRef], bytes]

_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
# cloud-init takes a text that has this within its first 4096 bytes for a MIME message (user_data.py), strings and all.
_LIKE_MIME = re.compile("m(?=ime-version:)", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----\s.*?\s-----END \1-----", re.DOTALL)
_BOUNDARY = "=-vmrole-=" * 3  # no base64 has a "=" within a line


def user_data(setup: Setup, reveal: Reveal) -> str:
    """The text of ``user-data``; a MIME message if the user has parts that are no cloud-config."""
    config = merged(_config(setup, reveal), setup.user_data)
    text = "#cloud-config\n" + json_in_yaml(config) + "\n"
    return _multipart([("text/cloud-config", text), *setup.user_parts]) if setup.user_parts else text


def json_in_yaml(value: object) -> str:
    """JSON that a YAML reader takes for the same, and cloud-init for YAML.

    JSON writes a character beyond U+FFFF as two escapes, which YAML reads as two characters; so those stand as they
    are, and what YAML does not allow as it is (YAML 1.1, "printable characters") is escaped.
    """
    text = json.dumps(value, indent=1, ensure_ascii=False)
    return _LIKE_MIME.sub(_escape, _NOT_IN_YAML.sub(_escape, text))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match.group()):04x}"


def merged(ours: dict[str, object], user_data: str) -> dict[str, object]:
    """Our cloud-config with the user's (a JSON object's text or ""): lists, mappings are joined; else theirs wins."""
    result = _joined(ours, json.loads(user_data) if user_data else {})
    return {key: value for key, value in result.items() if value != []}


def _joined(ours: dict[str, object], theirs: dict[str, object]) -> dict[str, object]:
    result = dict(ours)
    for key, value in theirs.items():
        mine = result.get(key)
        if isinstance(mine, list) and isinstance(value, list):
            result[key] = [*mine, *value]
        elif isinstance(mine, dict) and isinstance(value, dict):
            result[key] = _joined(mine, value)
        else:
            result[key] = value
    return result


def _multipart(parts: list[tuple[str, str]]) -> str:
    message = MIMEMultipart(boundary=_BOUNDARY)
    for number, (kind, text) in enumerate(parts):
        part = MIMEBase(*kind.split("/", 1), charset="utf-8")
        part.set_payload(base64.encodebytes(text.encode()).decode())
        part["Content-Transfer-Encoding"] = "base64"
        part.add_header("Content-Disposition", "attachment", filename=f"part-{number:03}")
        message.attach(part)
    return message.as_string()


def _config(setup: Setup, reveal: Reveal) -> dict[str, object]:
    """What setup asks for; what it does not mention is not in it."""
    files = [_file(file, reveal) for file in setup.files]
    files += [entry for cert in setup.certificates if not cert.is_root for entry in _certificate(cert, reveal)]
    roots = [pem for cert in setup.certificates if cert.is_root for pem in _blocks(cert, reveal)["CERTIFICATE"]]
    passwords = _passwords(setup, reveal)
    config: dict[str, object] = {
        "write_files": [*files, *_keyboard(setup.keyboard), *_locale(setup.locale)],
        "ssh_authorized_keys": list(setup.ssh_authorized_keys),
        "timezone": setup.timezone,
        "locale": setup.locale,
        # Without "default" the image's own user would not be made, who gets ssh_authorized_keys.
        "users": ["default", *(_user(user, reveal) for user in setup.users)] if setup.users else [],
        "chpasswd": {"expire": False, "users": passwords} if passwords else {},
        "ca_certs": {"trusted": roots} if roots else {},
        "ntp": {"enabled": True, "servers": list(setup.ntp_servers)} if setup.ntp_servers else {},
        "packages": list(setup.packages),
        "package_update": bool(setup.packages),
    }
    return {key: value for key, value in config.items() if value}


def _user(user: User, reveal: Reveal) -> dict[str, object]:
    hashed = user.password_hash
    if isinstance(hashed, SecretRef):
        hashed = secret_line(hashed, f"the password hash of user {user.name}", reveal)
    entry: dict[str, object] = {
        "name": user.name,
        "gecos": user.full_name,
        "groups": ",".join(user.groups),
        "shell": user.shell,
        "hashed_passwd": hashed,
        "ssh_authorized_keys": list(user.ssh_authorized_keys),
        "sudo": "ALL=(ALL) NOPASSWD:ALL" if user.is_admin else "",
    }
    given = {key: value for key, value in entry.items() if value}
    return given | ({"lock_passwd": False} if hashed or user.password is not None else {})


def _passwords(setup: Setup, reveal: Reveal) -> list[dict[str, str]]:
    """For chpasswd and not in ``users``: so an account that is in the image already gets it, too."""
    asked = [("root", setup.administrator_password), *((user.name, user.password) for user in setup.users)]
    return [
        {"name": name, "type": "text", "password": secret_line(secret, f"the password of {name}", reveal)}
        for name, secret in asked
        if secret is not None
    ]


def secret_line(secret: SecretRef, what: str, reveal: Reveal) -> str:
    """A secret of one line. Raises Refused."""
    text = line_of_secret(reveal(secret))
    if not text:
        raise Refused(f"{what} ({secret.source}) is not one line of printable characters", "mend it, then try again")
    return text


def _file(file: File, reveal: Reveal) -> dict[str, object]:
    entry = write_file(file.path, _content(file.content, reveal, is_base64=file.is_base64), file.mode, file.owner)
    # The first files are written before there are users.
    return entry if file.owner == "root:root" else {**entry, "defer": True}


def _content(content: str | SecretRef, reveal: Reveal, *, is_base64: bool) -> bytes:
    if isinstance(content, SecretRef):
        return reveal(content)
    return base64.b64decode(content) if is_base64 else content.encode()


def write_file(path: str, content: bytes, mode: str, owner: str = "root:root") -> dict[str, object]:
    """A write_files entry. The content goes as base64: YAML has no way to say every byte."""
    encoded = base64.b64encode(content).decode()
    return {"path": path, "content": encoded, "encoding": "b64", "permissions": mode, "owner": owner}


def _keyboard(layout: str) -> list[dict[str, object]]:
    """Where Debian and systemd look for it; cloud-init's own way wants localectl and console-setup to be there."""
    if not layout:
        return []
    debian = f'XKBMODEL="pc105"\nXKBLAYOUT="{layout}"\nXKBVARIANT=""\nXKBOPTIONS=""\nBACKSPACE="guess"\n'
    return [
        write_file("/etc/default/keyboard", debian.encode(), "0644"),
        write_file("/etc/vconsole.conf", f"KEYMAP={layout}\nXKBLAYOUT={layout}\n".encode(), "0644"),
    ]


def _locale(locale: str) -> list[dict[str, object]]:
    """Debian's locale-gen makes what this file names, and not what cloud-init 22.4 gives it as an argument."""
    name, _, codeset = locale.partition(".")
    if not codeset:
        return []
    return [{**write_file("/etc/locale.gen", f"\n{name}.{codeset} {codeset}\n".encode(), "0644"), "append": True}]


def _certificate(certificate: Certificate, reveal: Reveal) -> list[dict[str, object]]:
    """A certificate where programs of the system look for one, and its key where only root does."""
    blocks, name = _blocks(certificate, reveal), certificate.name
    chain, keys = "\n".join(blocks["CERTIFICATE"]) + "\n", "\n".join(blocks["KEY"])
    private = [write_file(f"/etc/ssl/private/{name}.key", f"{keys}\n".encode(), "0600")] if keys else []
    return [write_file(f"/etc/ssl/certs/{name}.pem", chain.encode(), "0644"), *private]


def _blocks(certificate: Certificate, reveal: Reveal) -> dict[str, list[str]]:
    """The PEM blocks of a certificate: CERTIFICATE and KEY. Raises Refused if there is no certificate."""
    text = _content(certificate.content, reveal, is_base64=False).decode(errors="replace")
    found: dict[str, list[str]] = {"CERTIFICATE": [], "KEY": []}
    for match in _PEM.finditer(text.replace("\r\n", "\n")):
        kind = "KEY" if match[1].endswith("PRIVATE KEY") else match[1]
        found.setdefault(kind, []).append(match[0])
    if not found["CERTIFICATE"]:
        where = f" ({certificate.content.source})" if isinstance(certificate.content, SecretRef) else ""
        raise Refused(f"certificate {certificate.name}{where} holds no certificate in PEM", "mend it, then try again")
    return found
