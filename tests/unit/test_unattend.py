"""Answer files for Windows: what is said in them, by which names, and what no text of a user's can do to them."""

import base64
import json
import subprocess
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from orchestrator.engine import runtime
from orchestrator.engine.windows import unfit
from orchestrator.errors import Refused
from orchestrator.model.making import MachineSpec
from orchestrator.model.names import InstanceId
from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Certificate, Command, File, Join, Setup, Shell, User, When
from orchestrator.model.spec import Endpoint, Platform, Size
from orchestrator.model.vicinity import Vicinity
from orchestrator.model.winpath import windows_path
from orchestrator.render import unattend, winpe
from orchestrator.render.answerfile import NS, PASSES, WCM, Component, Setting, document, hidden
from orchestrator.render.winlocale import windows_keyboard, windows_locale
from orchestrator.render.winscript import plan, quoted
from orchestrator.render.winzones import windows_zone
from tests.fakes.build import DIGEST, HELLO, deployment, record, role, service

REFERENCE = Path(__file__).parent.parent / "contract" / "data" / "unattend_reference.tsv"
WINDOWS = Platform("windows", "uefi", tpm=True)
SUBNET = IPv4Network("198.18.0.0/24")
TOLD = runtime.document(record(), Vicinity(settings=(("KEY", "value"),)))
ADMIN = SecretRef("env:ADMIN", "k1")
FULL = Setup(
    ssh_authorized_keys=("ssh-ed25519 AAAA me",),
    files=(
        File("/srv/a.txt", "Grüße\n", "0600"),
        File(r"D:\b.bin", base64.b64encode(b"\0\xff").decode(), is_base64=True),
    ),
    commands=(
        Command("Get-Date", shell=Shell.POWERSHELL, name="when"),
        Command(("sc.exe", "query", 'a "b"\\')),
        Command("echo %TIME%", When.EVERY_BOOT),
    ),
    unattend="",
    hostname="web-00",
    timezone="Europe/Berlin",
    locale="de_DE.UTF-8",
    keyboard="de",
    users=(User("ann", ("Backup Operators",), ADMIN, is_admin=True, full_name="Ann A."), User("bob", (), ADMIN)),
    administrator_password=ADMIN,
    certificates=(Certificate("ca", "-----BEGIN CERTIFICATE-----", is_root=True),),
    ntp_servers=("198.18.0.1",),
    dns_servers=("198.18.0.1", "198.18.0.2"),
    dns_search=("example.org",),
    is_static=True,
    join=Join("example.org", "joiner", ADMIN, "OU=Web,DC=example,DC=org"),
    license_key="ABCDE-12345-ABCDE-12345-ABCDE",
)
INSTALL = winpe.Install("Windows Server 2022 SERVERSTANDARDCORE", "uefi", "2k22", "P4ss word")


def reveal(ref: SecretRef) -> bytes:
    return f"Geheimnis <{ref.key}>".encode()


def machine(setup: Setup, ports: tuple[int, ...] = ()) -> MachineSpec:
    return MachineSpec(DIGEST, Size(), setup, platform=WINDOWS, ports=ports)


def answers(setup: Setup, ports: tuple[int, ...] = ()) -> etree._Element:
    return etree.fromstring(unattend.answer_file(record(machine=machine(setup, ports)), reveal, SUBNET))


def said(root: etree._Element, step: str, path: str) -> list[str]:
    """The texts of a setting (``Component/Setting/…``) in a pass."""
    component, *names = path.split("/")
    found = root.xpath(f"u:settings[@pass='{step}']/u:component[@name='{component}']", namespaces={"u": NS})
    below = "/".join(f"{{{NS}}}{name}" for name in names)
    return [element.text for each in found for element in each.iterfind(below)]


SHELL = "Microsoft-Windows-Shell-Setup"


def documents() -> dict[str, etree._Element]:
    bare = Setup(administrator_password=ADMIN)
    return {
        "full": answers(FULL, (80, 3389)),
        "bare": answers(bare),
        "by DHCP": answers(replace(FULL, is_static=False)),
        "install": etree.fromstring(winpe.answer_file(replace(INSTALL, product_key="A" * 5))),
        "install with a BIOS": etree.fromstring(winpe.answer_file(replace(INSTALL, firmware="bios"))),
    }


def leaves(root: etree._Element) -> set[tuple[str, str, str]]:
    found = set()
    for step in root:
        for component in step:
            for element in component.iterdescendants():
                if not len(element):
                    chain = [element, *element.iterancestors()]
                    names = [etree.QName(each).localname for each in chain[: chain.index(component)]]
                    found.add((component.get("name"), step.get("pass"), "/".join(reversed(names))))
    return found


def reference() -> set[tuple[str, str, str]]:
    rows = [line.split("\t") for line in REFERENCE.read_text().splitlines() if not line.startswith("#")]
    return {(name, step, path) for name, steps, path, _page in rows for step in steps.split(",")}


@pytest.mark.parametrize("name", documents())
def test_every_setting_is_one_that_microsoft_has_in_that_pass(name):
    assert leaves(documents()[name]) - reference() == set()


def test_the_reference_has_nothing_that_is_said_nowhere():
    emitted = {(name, path) for root in documents().values() for name, _step, path in leaves(root)}
    assert {(name, path) for name, _step, path in reference()} - emitted == set()


def test_a_setting_in_a_wrong_pass_or_of_another_name_is_found():
    root = etree.fromstring(document([Component("windowsPE", SHELL, (Setting("ComputerName", "a"),))]))
    assert leaves(root) - reference()
    root = etree.fromstring(document([Component("specialize", SHELL, (Setting("ComputerNam", "a"),))]))
    assert leaves(root) - reference()


@pytest.mark.parametrize("name", documents())
def test_namespaces_order_and_no_empty_element(name):
    root = documents()[name]
    assert root.tag == f"{{{NS}}}unattend"
    assert {etree.QName(element).namespace for element in root.iter()} == {NS}
    assert {key for e in root.iter() for key in e.attrib if key.startswith("{")} <= {
        f"{{{WCM}}}action",
        f"{{{WCM}}}keyValue",
    }
    assert [element.tag for element in root.iter() if not len(element) and not (element.text or "").strip()] == []
    steps = [step.get("pass") for step in root]
    assert steps == sorted(set(steps), key=PASSES.index)
    for step in root:
        assert len({component.get("name") for component in step}) == len(step)


def test_what_a_setup_asks_for_is_said():
    root = answers(FULL, (80, 3389))
    assert said(root, "specialize", f"{SHELL}/ComputerName") == ["web-00"]
    assert said(root, "specialize", f"{SHELL}/TimeZone") == ["W. Europe Standard Time"]
    assert said(root, "specialize", f"{SHELL}/ProductKey") == ["ABCDE-12345-ABCDE-12345-ABCDE"]
    assert said(root, "oobeSystem", "Microsoft-Windows-International-Core/UserLocale") == ["de-DE"]
    assert said(root, "oobeSystem", "Microsoft-Windows-International-Core/InputLocale") == ["0407:00000407"]
    assert said(root, "oobeSystem", f"{SHELL}/AutoLogon/LogonCount") == ["1"]
    account = f"{SHELL}/UserAccounts/LocalAccounts/LocalAccount"
    assert said(root, "oobeSystem", f"{account}/Group") == ["Administrators;Backup Operators", "Users"]
    interface = "Microsoft-Windows-TCPIP/Interfaces/Interface"
    assert said(root, "specialize", f"{interface}/UnicastIpAddresses/IpAddress") == ["198.18.0.10/24"]
    assert said(root, "specialize", f"{interface}/Routes/Route/NextHopAddress") == ["198.18.0.1"]
    (card,) = said(root, "specialize", f"{interface}/Identifier")
    assert card.replace("-", ":").lower() == record().id.mac
    assert said(root, "specialize", "Microsoft-Windows-UnattendedJoin/Identification/JoinDomain") == ["example.org"]


def test_remote_desktop_is_on_where_an_endpoint_leads_to_it_and_the_firewall_always():
    desktop = "Microsoft-Windows-TerminalServices-LocalSessionManager/fDenyTSConnections"
    group = "Networking-MPSSVC-Svc/FirewallGroups/FirewallGroup/Group"
    assert [said(answers(FULL, ports), "specialize", desktop) for ports in ((80, 3389), (80,))] == [["false"], ["true"]]
    assert [len(said(answers(FULL, ports), "specialize", group)) for ports in ((80, 3389), (80,))] == [1, 0]
    assert said(answers(FULL), "specialize", "Networking-MPSSVC-Svc/PublicProfile_EnableFirewall") == ["true"]


def test_no_password_stands_in_clear_but_the_one_without_a_hidden_form():
    root = answers(FULL)
    clear = [etree.QName(e.getparent()).localname for e in root.iter() if "Geheimnis" in (e.text or "")]
    assert clear == ["Credentials"]
    values = {e.text for e in root.iter(f"{{{NS}}}Value")}
    told = {base64.b64decode(value).decode("utf-16-le") for value in values}
    assert told == {"Geheimnis <k1>AdministratorPassword", "Geheimnis <k1>Password"}
    assert set(said(root, "oobeSystem", f"{SHELL}/UserAccounts/AdministratorPassword/PlainText")) == {"false"}


def test_microsofts_own_example_of_a_hidden_password():
    """As its page on UserAccounts has it."""
    (value, plain) = hidden("Password", "password").value
    assert value.value == "cABhAHMAcwB3AG8AcgBkAFAAYQBzAHMAdwBvAHIAZAA="
    assert plain.value == "false"


def test_the_disc_has_both_names_and_the_command_finds_it():
    files = unattend.seed(record(machine=machine(FULL)), TOLD, reveal, SUBNET)
    assert set(files) == {"Autounattend.xml", "unattend.xml", "vmrole.ps1", "vmrole.json"}
    assert files["Autounattend.xml"] == files["unattend.xml"]
    assert len(unattend.INSTALL) <= 259
    assert files["vmrole.ps1"].startswith(b"\xef\xbb\xbfparam(")


def test_the_script_is_the_same_for_everybody_and_the_plan_has_the_values():
    files = unattend.seed(record(machine=machine(FULL, (80,))), TOLD, reveal, SUBNET)
    other = unattend.seed(record(machine=machine(replace(FULL, files=()))), TOLD, reveal, SUBNET)
    assert files["vmrole.ps1"] == other["vmrole.ps1"]
    told = json.loads(files["vmrole.json"])
    contents = {file["path"]: base64.b64decode(file["content"]) for file in told["files"]}
    assert contents[r"C:\srv\a.txt"] == "Grüße\n".encode()
    assert contents[r"D:\b.bin"] == b"\0\xff"
    assert json.loads(contents[r"C:\ProgramData\vmrole\settings.json"]) == {"KEY": "value"}
    assert contents[r"C:\ProgramData\vmrole\runtime.json"].decode() == TOLD
    assert [file["path"] for file in told["files"] if file.get("public")] == [r"C:\ProgramData\vmrole\runtime.json"]
    assert (told["ports"], told["ntp"]) == ([80], "198.18.0.1")
    assert [(c["shell"], c["when"]) for c in told["commands"]] == [
        ("powershell", "first_boot"), ("", "first_boot"), ("cmd", "every_boot"),
    ]  # fmt: skip
    assert (told["commands"][1]["program"], told["commands"][1]["arguments"]) == ("sc.exe", r'query "a \"b\"\\"')


TEXT = st.text(max_size=40)


@given(TEXT, TEXT, TEXT, TEXT)
def test_a_text_is_rejected_or_read_back_unchanged(name, group, unit, owner):
    user = User(name, (group,), ADMIN, full_name=owner)
    setup = Setup(users=(user,), administrator_password=ADMIN, join=Join("d", owner, ADMIN, unit))
    try:
        root = answers(setup)
    except ValueError:
        return
    account = f"{SHELL}/UserAccounts/LocalAccounts/LocalAccount"
    assert said(root, "oobeSystem", f"{account}/Name") == [text for text in (name,) if text]
    assert said(root, "oobeSystem", f"{account}/DisplayName") == [text for text in (owner,) if text]
    ou = "Microsoft-Windows-UnattendedJoin/Identification/MachineObjectOU"
    assert said(root, "specialize", ou) == [text for text in (unit,) if text]


@given(TEXT)
def test_a_password_is_rejected_or_read_back_unchanged(password):
    try:
        (value, _plain) = hidden("Password", password).value
    except ValueError:
        return
    assert base64.b64decode(value.value).decode("utf-16-le") == password + "Password"


@given(st.text(max_size=60), st.lists(TEXT, max_size=4))
def test_a_plan_is_rejected_or_read_back_unchanged(content, words):
    setup = Setup(files=(File("/a", content),), commands=(Command(("x", *words)), Command(content or "y")))
    try:
        told = json.loads(plan(record(machine=machine(setup)), TOLD, reveal))
    except ValueError:
        return
    assert base64.b64decode(told["files"][0]["content"]).decode() == content
    assert base64.b64decode(told["commands"][1]["script"]).decode() == (content or "y")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\v\f\r\x85\xa0"), max_size=20), max_size=4))
def test_words_are_quoted_as_windows_takes_them_apart(words):
    """Held against the standard library, which quotes by the same rules (but knows no blanks beyond ASCII)."""
    plain = [word for word in words if not any(c.isspace() and c not in " \t" for c in word)]
    assert " ".join(map(quoted, plain)) == subprocess.list2cmdline(plain)


def test_names_that_windows_has_others_for():
    zones = ("Europe/Berlin", "W. Europe Standard Time", "UTC", "Nowhere/At_All", "UTC+12")
    assert [windows_zone(zone) for zone in zones] == [
        "W. Europe Standard Time", "W. Europe Standard Time", "UTC", "", "UTC+12",
    ]  # fmt: skip
    assert [windows_locale(text) for text in ("de_DE.UTF-8", "zh-Hans-CN", "C.UTF-8", "deutsch")] == [
        "de-DE", "zh-Hans-CN", "en-US", "",
    ]  # fmt: skip
    assert [windows_keyboard(text) for text in ("de", "0407:00000407", "fr-FR", "dvorak")] == [
        "0407:00000407", "0407:00000407", "fr-FR", "",
    ]  # fmt: skip
    assert windows_path("/srv/a b") == r"C:\srv\a b"


@pytest.mark.parametrize("name", ["a" * 16, "-a", "a-", "123", "a_b", "a.b"])
def test_a_computers_name_of_netbios(name):
    assert unattend.is_computer_name("web-0")
    with pytest.raises(Refused, match="computer"):
        answers(replace(FULL, hostname=name))


def problems(setup: Setup, name: str = "web", **changes: object) -> dict[str, str]:
    wanted = deployment(service(role(name, setup=setup, **changes)), platforms={name: WINDOWS})
    return {".".join(map(str, path)): why for path, why in unfit(wanted, unattend.untranslatable)}


def test_what_windows_cannot_be_told_is_found_before_anything_is_done():
    assert problems(FULL) == {}
    wrong = replace(
        FULL, user_data="{}", packages=("vim",), timezone="Mars/X", locale="x", keyboard="y", unattend="<a",
        users=(User("a/b"), User("bob", (), ADMIN, ssh_authorized_keys=("k",))), license_key="1", hostname="a_b",
    )  # fmt: skip
    assert set(problems(wrong)) == {
        f"roles.web.setup.{p}" for p in ("user_data", "packages", "timezone", "locale", "keyboard", "unattend",
        "users.0.name", "users.0.password", "users.1.ssh_authorized_keys", "license_key", "hostname")
    }  # fmt: skip
    assert "roles.web.setup.administrator" in problems(Setup())
    patterns = {"{{role}}-{{ordinal}}": False, "averylongname-{{ordinal}}": False, "averylongnamex-{{ordinal}}": True,
                "{{instance}}.example.org": True}  # fmt: skip
    for hostname, is_wrong in patterns.items():
        assert ("roles.web.setup.hostname" in problems(replace(FULL, hostname=hostname))) is is_wrong
    assert "roles.averylongrolename.setup.hostname" in problems(replace(FULL, hostname=""), "averylongrolename")


def test_what_only_linux_has_is_no_field_on_windows():
    user = User("bob", (), ADMIN, shell="/bin/sh")
    own = Certificate("own", f"{PEM}-----BEGIN PRIVATE KEY-----")
    found = problems(replace(FULL, users=(user,), certificates=(own,)))
    assert set(found) == {"roles.web.setup.users.0.shell", "roles.web.setup.certificates.0"}


PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"


def planned(setup: Setup, secret: bytes) -> dict[str, list]:
    return json.loads(plan(record(machine=machine(setup)), TOLD, lambda _ref: secret))


def test_each_certificate_of_a_chain_goes_to_its_store():
    own, root = Certificate("web", ADMIN), Certificate("ca", PEM.replace("\n", "\r\n") + PEM, is_root=True)
    found = planned(Setup(certificates=(own, root)), PEM.encode() * 2)["certificates"]
    assert [(one["name"], one["store"]) for one in found] == [
        ("web", "My"), ("web", "CA"), ("ca", "Root"), ("ca", "Root"),
    ]  # fmt: skip
    assert {base64.b64decode(one["content"]) for one in found} == {PEM.encode()}


def test_pkcs_12_arrives_byte_by_byte_with_its_password_less_the_newline():
    der = b"\x30\x82\xff"
    in_record = Certificate("web", base64.b64encode(der).decode(), password=ADMIN)
    (one,) = planned(Setup(certificates=(in_record,)), b"word\r\n")["certificates"]
    assert (base64.b64decode(one["content"]), one["password"], one["store"]) == (der, "word", "My")
    (one,) = planned(Setup(certificates=(Certificate("web", ADMIN),)), der)["certificates"]
    assert base64.b64decode(one["content"]) == der


def test_a_key_in_pem_is_not_left_aside_without_a_word():
    with pytest.raises(Refused, match="PEM with a private key"):
        planned(Setup(certificates=(Certificate("web", ADMIN),)), f"{PEM}-----BEGIN PRIVATE KEY-----".encode())


def test_the_newline_that_a_file_ends_with_is_no_part_of_a_password():
    def reveal(_ref: SecretRef) -> bytes:
        return b"P4ss word\n"

    root = etree.fromstring(unattend.answer_file(record(machine=machine(FULL)), reveal, SUBNET))
    join = "Microsoft-Windows-UnattendedJoin/Identification/Credentials/Password"
    assert said(root, "specialize", join) == ["P4ss word"]
    (value,) = said(root, "oobeSystem", f"{SHELL}/AutoLogon/Password/Value")
    assert base64.b64decode(value).decode("utf-16-le") == "P4ss wordPassword"
    with pytest.raises(Refused, match="one line"):
        unattend.answer_file(record(machine=machine(FULL)), lambda _ref: b"two\nlines", SUBNET)


def test_linux_is_asked_for_nothing_of_that():
    wanted = deployment(service(role(setup=Setup(packages=("vim",)))))
    assert unfit(wanted, unattend.untranslatable) == []


def test_ports_are_windows_machines_business_only():
    web = role(endpoints=(Endpoint("rdp", (1, 1), 3389), Endpoint("http", (80, 80), 80)))
    wanted = deployment(service(web))
    assert wanted.machine(web).ports == ()
    assert replace(wanted, platforms={"web": WINDOWS}).machine(web).ports == (80, 3389)


def test_an_instances_own_name_is_the_computers():
    root = etree.fromstring(
        unattend.answer_file(record(InstanceId(HELLO, "web", 7), machine=machine(Setup())), reveal, None)
    )
    assert said(root, "specialize", f"{SHELL}/ComputerName") == ["web-7"]


def test_an_install_leaves_windows_last_on_its_disk():
    uefi, bios = (etree.fromstring(winpe.answer_file(replace(INSTALL, firmware=f))) for f in ("uefi", "bios"))
    disk = "Microsoft-Windows-Setup/DiskConfiguration/Disk"
    to = "Microsoft-Windows-Setup/ImageInstall/OSImage/InstallTo/PartitionID"
    kinds = f"{disk}/CreatePartitions/CreatePartition/Type"
    assert said(uefi, "windowsPE", kinds) == ["EFI", "MSR", "Primary"]
    assert said(bios, "windowsPE", kinds) == ["Primary", "Primary"]
    assert (said(uefi, "windowsPE", to), said(bios, "windowsPE", to)) == (["3"], ["2"])
    by = "Microsoft-Windows-Setup/ImageInstall/OSImage/InstallFrom/MetaData"
    numbered = etree.fromstring(winpe.answer_file(replace(INSTALL, edition="2")))
    assert [said(root, "windowsPE", f"{by}/Key") for root in (uefi, numbered)] == [["/IMAGE/NAME"], ["/IMAGE/INDEX"]]
    assert said(numbered, "windowsPE", f"{by}/Value") == ["2"]
    paths = "DriverPaths/PathAndCredentials/Path"
    assert r"E:\viostor\2k22\amd64" in said(uefi, "windowsPE", f"Microsoft-Windows-PnpCustomizationsWinPE/{paths}")
    assert said(uefi, "offlineServicing", f"Microsoft-Windows-PnpCustomizationsNonWinPE/{paths}")


def test_an_installs_script_takes_the_answer_file_away_before_sysprep():
    script = winpe.seed(INSTALL)[winpe.SCRIPT_NAME].decode("utf-8-sig")
    assert script.index(r"Panther\unattend.xml") < script.index("/generalize /oobe /shutdown")
    assert len(winpe.START) <= 259
