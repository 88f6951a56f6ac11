"""An unattend.xml as the ``setup`` of a role: what has a field of its own goes there, the rest is passed through.

No password is passed through: each becomes a reference to a secret, or is left out and told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lxml import etree

from orchestrator.config.setupform import ACCOUNT, GROUP
from orchestrator.convert.names import ROOM, computer_name
from orchestrator.convert.report import Draft, Kind
from orchestrator.convert.secrecy import in_command
from orchestrator.convert.setups import filled, secret, secret_command
from orchestrator.convert.winlocale import ZONES, keyboard_of, locale_of
from orchestrator.engine.template import escaped
from orchestrator.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

SPACE = "{urn:schemas-microsoft-com:unattend}"
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_SERVER = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.:-]{0,252}[A-Za-z0-9])?")
_WHOLE = {
    "AutoLogon", "Credentials", "LocalAccount", "RunSynchronousCommand", "RunAsynchronousCommand", "SynchronousCommand",
    "AsynchronousCommand",
}  # fmt: skip
_LINE = "is not one line of printable characters"


@dataclass
class _Taken:
    """What has been taken, for ``role``, and where the notes go."""

    role: str
    draft: Draft
    setup: dict[str, object] = field(default_factory=dict)
    commands: list[tuple[int, str]] = field(default_factory=list)
    files: list[object] = field(default_factory=list)

    def put(self, key: str, value: object) -> None:
        """The first that says it is right: a file may say it once for each architecture."""
        self.setup.setdefault(key, value)


def convert(data: bytes, source: str, role: str, draft: Draft) -> dict[str, object]:
    """The fields of ``setup``. Raises InvalidInput if it is no answer file."""
    root = _read(data, source)
    taken = _Taken(role, draft)
    for component in list(root.iter(f"{SPACE}component")):
        for make in (_names, _accounts, _commands, _international, _join):
            make(component, taken)
    _forget_secrets(root, draft)
    _prune(root)
    taken.put("files", taken.files)
    taken.put("run", [line for _order, line in taken.commands])
    if len(root):
        etree.indent(root)
        taken.put("unattend", etree.tostring(root, encoding="unicode") + "\n")
        told = sorted({str(c.get("name")) for c in root.iter(f"{SPACE}component")})
        draft.note(Kind.CHANGED, source, f"passed through in setup.unattend: {', '.join(told) or 'the rest'}")
    return filled(taken.setup)


def _read(data: bytes, source: str) -> etree._Element:
    """Known to be XML without a document type: expat has read it."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        line, column = error.position
        raise InvalidInput(source, (Problem(source, f"is not XML: {error.msg}", line or 0, column or 0),)) from error
    if root.tag != f"{SPACE}unattend":
        problem = Problem(source, "is no answer file of Windows: no <unattend> in Microsoft's namespace", 1, 1)
        raise InvalidInput(source, (problem,))
    return root


def _take(parent: etree._Element, *names: str) -> str:
    """The text of the element at the end of a path, which is removed; "" if there is none."""
    found = _find(parent, *names)
    if found is None:
        return ""
    text = (found.text or "").strip()
    above = found.getparent()
    if above is not None:
        above.remove(found)
    return text


def _find(parent: etree._Element, *names: str) -> etree._Element | None:
    return parent.find("/".join(f"{SPACE}{name}" for name in names))


def _text(parent: etree._Element, *names: str) -> str:
    found = _find(parent, *names)
    return (found.text or "").strip() if found is not None else ""


def _remove(element: etree._Element) -> None:
    above = element.getparent()
    if above is not None:
        above.remove(element)


def _is(component: etree._Element, name: str) -> bool:
    return component.get("name") == f"Microsoft-Windows-{name}"


def _names(component: etree._Element, taken: _Taken) -> None:
    """The computer's name, its time zone and the product key."""
    if not _is(component, "Shell-Setup"):
        return
    host = _text(component, "ComputerName")
    _take(component, "ComputerName")
    if host not in {"", "*"} and not _HOST.fullmatch(host):
        told = f"{host!r:.60} is no computer's name: each has its instance's own"
        taken.draft.note(Kind.DROPPED, "ComputerName", told)
    if _HOST.fullmatch(host):
        stem = computer_name(host, ROOM)
        taken.put("hostname", f"{stem}-{{{{ordinal}}}}")
        taken.draft.note(Kind.CHANGED, "ComputerName", f"each instance needs a name of its own: {stem}-0, …")
    if (zone := ZONES.get(_text(component, "TimeZone"))) is not None:
        _take(component, "TimeZone")
        taken.put("timezone", zone)
    if _text(component, "ProductKey"):
        _take(component, "ProductKey")
        taken.put("license_key", secret(taken.draft, taken.role, "license-key", "ProductKey"))


def _accounts(component: etree._Element, taken: _Taken) -> None:
    accounts = _find(component, "UserAccounts") if _is(component, "Shell-Setup") else None
    if accounts is None:
        return
    administrator = _find(accounts, "AdministratorPassword")
    if administrator is not None:
        _remove(administrator)
        password = secret(taken.draft, taken.role, "administrator", "AdministratorPassword")
        taken.put("administrator", {"password": password})
    users = taken.setup.setdefault("users", [])
    for account in accounts.findall(f"{SPACE}LocalAccounts/{SPACE}LocalAccount"):
        name = _text(account, "Name")
        if ACCOUNT.fullmatch(name) and isinstance(users, list):
            _remove(account)
            if not any(user["name"].casefold() == name.casefold() for user in users):
                users.append(_user(account, name, taken))


def _user(account: etree._Element, name: str, taken: _Taken) -> dict[str, object]:
    groups = [part.strip() for part in _text(account, "Group").split(";") if part.strip()]
    others = [group for group in groups if group.lower() not in {"administrators", "users"}]
    for group in (group for group in others if not GROUP.fullmatch(group)):
        taken.draft.note(Kind.DROPPED, f"account {name}", f"group {group!r:.60} has no name that a group can have here")
    full = _text(account, "DisplayName")
    is_sayable = bool(full) and full.isprintable() and not {":", ","} & set(full)
    if full and not is_sayable:
        taken.draft.note(Kind.DROPPED, f"account {name}", "its DisplayName has a letter that full_name cannot hold")
    if _text(account, "Description"):
        taken.draft.note(Kind.DROPPED, f"account {name}", "its Description: an account has none here")
    has_password = bool(_text(account, "Password", "Value"))
    user = {
        "name": name,
        "full_name": full if is_sayable and full != name else "",
        "groups": [group for group in others if GROUP.fullmatch(group)],
        "password": secret(taken.draft, taken.role, f"user-{name}", f"account {name}") if has_password else None,
    }
    return filled(user) | ({"admin": True} if "administrators" in {group.lower() for group in groups} else {})


def _commands(component: etree._Element, taken: _Taken) -> None:
    """First-logon commands, and those of the pass specialize; in setup.run nobody needs to log on for them."""
    paths = (("FirstLogonCommands", "SynchronousCommand", "CommandLine"),)
    if _is(component, "Deployment") and _pass_of(component) == "specialize":
        paths = (("RunSynchronous", "RunSynchronousCommand", "Path"),)
    elif not _is(component, "Shell-Setup"):
        return
    base = 1000 if paths[0][0] == "FirstLogonCommands" else 0
    for group, item, line in paths:
        for command in component.findall(f"{SPACE}{group}/{SPACE}{item}"):
            _command(command, line, base, taken)
    taken.commands.sort(key=lambda found: found[0])


def _command(command: etree._Element, line: str, base: int, taken: _Taken) -> None:
    text, order = _text(command, line), _text(command, "Order")
    if _find(command, "Credentials") is not None:
        taken.draft.note(Kind.DROPPED, f"command {text!r:.80}", "runs as the system: its Credentials are left out")
    _remove(command)
    if text:
        known = base + (int(order) if order.isdecimal() and len(order) < 5 else 999)
        taken.commands.append((known, _line_of(text, taken)))


def _line_of(text: str, taken: _Taken) -> str:
    """A command's line; one with a secret in it becomes a file that is one."""
    if not in_command(text):
        return escaped(text)
    file, command = secret_command(taken.draft, taken.role, "a command with a secret in it", is_windows=True)
    taken.files.append(file)
    return command


def _pass_of(component: etree._Element) -> str:
    above = component.getparent()
    return str(above.get("pass")) if above is not None else ""


def _international(component: etree._Element, taken: _Taken) -> None:
    if not _is(component, "International-Core"):
        return
    locale = next((found for name in ("UserLocale", "SystemLocale") if (found := _text(component, name))), "")
    if (known := locale_of(locale)) and all(
        _text(component, name) in {"", locale} for name in ("UserLocale", "SystemLocale")
    ):
        _take(component, "UserLocale")
        _take(component, "SystemLocale")
        taken.put("locale", known)
    if layout := keyboard_of(_text(component, "InputLocale")):
        _take(component, "InputLocale")
        taken.put("keyboard", layout)


def _join(component: etree._Element, taken: _Taken) -> None:
    """The domain to join; with no account, or with a prepared file, it stays as it is."""
    found = _find(component, "Identification") if _is(component, "UnattendedJoin") else None
    if found is None:
        return
    domain, user = _text(found, "JoinDomain"), _text(found, "Credentials", "Username")
    if not _SERVER.fullmatch(domain) or not user or not user.isprintable():
        return
    unit = _text(found, "MachineObjectOU")
    password = secret(taken.draft, taken.role, "domain-join", f"domain {domain}")
    fields = {"domain": domain, "user": user, "password": password, "unit": unit if unit.isprintable() else ""}
    taken.put("domain_join", filled(fields))
    if of := _text(found, "Credentials", "Domain"):
        taken.draft.note(
            Kind.DROPPED, f"domain {domain}", f"the account {user} was said to be of the domain {of!r:.60}"
        )
    _remove(found)


def _secrets(root: etree._Element) -> Iterator[etree._Element]:
    for element in root.iter(f"{SPACE}*"):
        name, text = etree.QName(element).localname.lower(), "".join(element.itertext()).strip()
        is_named = name.endswith("password") or name in {"productkey", "accountdata"}
        if text and (is_named or (len(element) == 0 and in_command(text))):
            yield element


def _forget_secrets(root: etree._Element, draft: Draft) -> None:
    """What is still a secret in what is passed through: nothing in a service file may be one.

    What makes no sense without it goes with it: an account would have no password, a command no words.
    """
    for element in list(_secrets(root)):
        above = element.getparent()
        where = etree.QName(above).localname if above is not None else "unattend"
        name = etree.QName(element).localname
        if above is not None and where in _WHOLE:
            text = f"has a secret in it ({name}), and no field in setup: it is not passed through"
            draft.note(Kind.DROPPED, where, text)
            _remove(above)
        else:
            text = "is a secret, and has no field in setup: it is not passed through"
            draft.note(Kind.DROPPED, f"{where}/{name}", text)
            _remove(element)


def _prune(root: etree._Element) -> None:
    """Remove what has become empty, from the innermost outwards."""
    for element in list(root.iter(f"{SPACE}*"))[::-1]:
        is_bare = len(element) == 0 and not (element.text or "").strip()
        if is_bare and element is not root and element.getparent() is not None:
            _remove(element)
