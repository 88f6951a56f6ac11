"""The answer file for a sysprepped Windows: a disc with the passes specialize and oobeSystem, and what setup does.

Windows Setup looks for ``Autounattend.xml`` in its passes windowsPE and offlineServicing, for ``unattend.xml`` in all
others (Microsoft, "Windows Setup Automation Overview"): the disc has both, with the same content. An answer file in
``%WINDIR%\\Panther`` of the image comes before any disc; docs/windows.md says how images are made without one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator.errors import Refused
from orchestrator.render.answerfile import Component, Setting, document, flag, hidden, items, parsed
from orchestrator.render.cloudconfig import secret_line
from orchestrator.render.winlocale import windows_keyboard, windows_locale
from orchestrator.render.winscript import PLAN, SCRIPT, SCRIPT_NAME, plan
from orchestrator.render.winzones import windows_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ipaddress import IPv4Network

    from orchestrator.model.record import InstanceRecord
    from orchestrator.model.secret import SecretRef
    from orchestrator.model.setup import Join, Setup, User

    Reveal = Callable[[SecretRef], bytes]

LABEL = "UNATTEND"
NAMES = ("Autounattend.xml", "unattend.xml")
REMOTE_DESKTOP = 3389
_COMPUTER_NAME = re.compile(r"(?![0-9]+$)[A-Za-z0-9](?:[A-Za-z0-9-]{0,13}[A-Za-z0-9])?")
# The disc's letter is not known, and a path may have 259 characters: whichever drive has the script.
INSTALL = (
    "powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass -Command "
    f"\"gdr -PSProvider FileSystem|%{{$p=$_.Root+'{SCRIPT_NAME}';if(Test-Path $p){{& $p install}}}}\""
)
START = "schtasks.exe /run /tn vmrole"
SHELL, INTERNATIONAL = "Microsoft-Windows-Shell-Setup", "Microsoft-Windows-International-Core"


def seed(record: InstanceRecord, runtime_text: str, reveal: Reveal, subnet: IPv4Network | None) -> dict[str, bytes]:
    """The files of the disc. ``runtime_text``: its first runtime file. ``subnet``: of the instance's network.

    Raises Refused for what Windows cannot be told.
    """
    answers = answer_file(record, reveal, subnet)
    told = plan(record, runtime_text, reveal)
    return {**dict.fromkeys(NAMES, answers), SCRIPT_NAME: SCRIPT.encode("utf-8-sig"), PLAN: told}


def answer_file(record: InstanceRecord, reveal: Reveal, subnet: IPv4Network | None) -> bytes:
    setup = record.machine.setup
    return document([*_specialize(record, reveal, subnet), *_oobe(setup, reveal)], setup.unattend)


def computer_name(record: InstanceRecord) -> str:
    """The NetBIOS name. Raises Refused when it can be none."""
    name = record.machine.setup.hostname or record.id.name
    if not is_computer_name(name):
        raise Refused(f"{name!r} can be no Windows computer's name", NAME_RULE)
    return name


NAME_RULE = "a Windows computer's name has 1 to 15 letters, digits and - (not at an end), and not digits only"


def is_computer_name(text: str) -> bool:
    return _COMPUTER_NAME.fullmatch(text) is not None


def untranslatable(setup: Setup) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """(path below ``setup``, what is wrong) of names that Windows has none for, and of the user's own answer file."""
    if setup.timezone and not windows_zone(setup.timezone):
        yield ("timezone",), f"{setup.timezone!r} is no time zone, by the tz database's names or by Windows'"
    if setup.locale and not windows_locale(setup.locale):
        yield ("locale",), f"{setup.locale!r} is no locale like de-DE or de_DE.UTF-8"
    if setup.keyboard and not windows_keyboard(setup.keyboard):
        why = "is no keyboard that is known here: give a locale (de-DE) or Windows' own name (0407:00000407)"
        yield ("keyboard",), f"{setup.keyboard!r} {why}"
    if setup.unattend:
        try:
            parsed(setup.unattend)
        except Refused as error:
            yield ("unattend",), error.message


def _specialize(record: InstanceRecord, reveal: Reveal, subnet: IPv4Network | None) -> tuple[Component, ...]:
    setup, step = record.machine.setup, "specialize"
    has_desktop = REMOTE_DESKTOP in record.machine.ports
    shell = (
        Setting("ComputerName", computer_name(record)),
        Setting("ProductKey", _text(setup.license_key, reveal)),
        Setting("TimeZone", windows_zone(setup.timezone)),
    )
    install = (Setting("Order", "1"), Setting("Path", INSTALL), Setting("Description", "vmrole"))
    run = Setting("RunSynchronous", (Setting("RunSynchronousCommand", install, key=""),))
    return (
        Component(step, SHELL, shell),
        Component(step, INTERNATIONAL, _international(setup)),
        Component(step, "Microsoft-Windows-UnattendedJoin", _join(setup.join, reveal)),
        Component(step, "Microsoft-Windows-TCPIP", _address(record, subnet)),
        Component(step, "Microsoft-Windows-DNS-Client", _names(record)),
        Component(step, "Networking-MPSSVC-Svc", _firewall(has_desktop=has_desktop)),
        Component(
            step,
            "Microsoft-Windows-TerminalServices-LocalSessionManager",
            (flag("fDenyTSConnections", is_on=not has_desktop),),
        ),
        Component(step, "Microsoft-Windows-Deployment", (run,)),
    )


def _international(setup: Setup) -> tuple[Setting, ...]:
    locale, keyboard = windows_locale(setup.locale), windows_keyboard(setup.keyboard)
    names = [Setting(name, locale) for name in ("SystemLocale", "UILanguage", "UserLocale")]
    return (Setting("InputLocale", keyboard or locale), *names)


def _join(join: Join | None, reveal: Reveal) -> tuple[Setting, ...]:
    """The domain. Its password has no hidden form (Microsoft, "UnattendedJoin … Password"): it stands in clear."""
    if join is None:
        return ()
    credentials = (
        Setting("Domain", join.domain),
        Setting("Username", join.user),
        Setting("Password", _text(join.password, reveal)),
    )
    settings = (
        Setting("Credentials", credentials),
        Setting("JoinDomain", join.domain),
        Setting("MachineObjectOU", join.unit),
    )
    return (Setting("Identification", settings),)


def _address(record: InstanceRecord, subnet: IPv4Network | None) -> tuple[Setting, ...]:
    """The DIP set in the guest. The order of these settings is prescribed (Microsoft, "TCPIP … Interface")."""
    if not record.machine.setup.is_static or subnet is None:
        return ()
    route = (Setting("Identifier", "1"), Setting("Prefix", "0.0.0.0/0"), Setting("NextHopAddress", str(subnet[1])))
    settings = (
        Setting("Ipv4Settings", (flag("DhcpEnabled", is_on=False),)),
        Setting("Identifier", _card(record)),
        Setting("UnicastIpAddresses", items("IpAddress", [f"{record.dip}/{subnet.prefixlen}"])),
        Setting("Routes", (Setting("Route", route, key=""),)),
    )
    return (Setting("Interfaces", (Setting("Interface", settings, key=""),)),)


def _names(record: InstanceRecord) -> tuple[Setting, ...]:
    setup = record.machine.setup
    search = Setting("DNSSuffixSearchOrder", items("DomainName", setup.dns_search))
    if not setup.dns_servers:
        return (search,)
    servers = Setting("DNSServerSearchOrder", items("IpAddress", setup.dns_servers))
    card = Setting("Interface", (Setting("Identifier", _card(record)), servers), key="")
    return (search, Setting("Interfaces", (card,)))


def _card(record: InstanceRecord) -> str:
    """The network card by its address, which is ours: its name and number are the image's."""
    return record.id.mac.upper().replace(":", "-")


def _firewall(*, has_desktop: bool) -> tuple[Setting, ...]:
    profiles = [flag(f"{name}Profile_EnableFirewall", is_on=True) for name in ("Domain", "Private", "Public")]
    group = (flag("Active", is_on=True), Setting("Group", "@FirewallAPI.dll,-28752"), Setting("Profile", "all"))
    groups = (Setting("FirewallGroup", group, key="RemoteDesktop"),) if has_desktop else ()
    return (*profiles, Setting("FirewallGroups", groups))


def _oobe(setup: Setup, reveal: Reveal) -> tuple[Component, ...]:
    pages = ("HideEULAPage", "HideLocalAccountScreen", "HideOEMRegistrationScreen", "HideOnlineAccountScreens")
    hide = [flag(name, is_on=True) for name in (*pages, "HideWirelessSetupInOOBE")]
    shell = [Setting("OOBE", (*hide, Setting("ProtectYourPC", "3"))), Setting("UserAccounts", _accounts(setup, reveal))]
    if setup.administrator_password is not None:
        shell += _first_logon(_text(setup.administrator_password, reveal))
    return (
        Component("oobeSystem", SHELL, tuple(shell)),
        Component("oobeSystem", INTERNATIONAL, _international(setup)),
    )


def _first_logon(password: str) -> list[Setting]:
    """One logon of the administrator, who starts what the task at start-up would else begin at the next boot."""
    logon = (
        flag("Enabled", is_on=True),
        Setting("LogonCount", "1"),
        Setting("Username", "Administrator"),
        hidden("Password", password),
    )
    command = (Setting("Order", "1"), Setting("CommandLine", START), Setting("Description", "vmrole"))
    commands = (Setting("SynchronousCommand", command, key=""),)
    return [Setting("AutoLogon", logon), Setting("FirstLogonCommands", commands)]


def _accounts(setup: Setup, reveal: Reveal) -> tuple[Setting, ...]:
    administrator = setup.administrator_password
    locals_ = tuple(Setting("LocalAccount", _account(user, reveal), key="") for user in setup.users)
    theirs = (hidden("AdministratorPassword", _text(administrator, reveal)),) if administrator is not None else ()
    return (*theirs, Setting("LocalAccounts", locals_))


def _account(user: User, reveal: Reveal) -> tuple[Setting, ...]:
    groups = dict.fromkeys([*(["Administrators"] if user.is_admin else []), *user.groups]) or {"Users": None}
    password = (hidden("Password", _text(user.password, reveal)),) if user.password is not None else ()
    return (
        *password,
        Setting("DisplayName", user.full_name),
        Setting("Group", ";".join(groups)),
        Setting("Name", user.name),
    )


def _text(value: str | SecretRef, reveal: Reveal) -> str:
    """A text that may be secret. Raises Refused when a secret is no line of text."""
    return value if isinstance(value, str) else secret_line(value, "a secret of setup", reveal)
