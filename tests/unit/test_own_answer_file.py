"""The user's own answer file: merged into ours, and refused with its line where it is none."""

from dataclasses import replace

import pytest
from lxml import etree

from orchestrator.errors import Refused
from orchestrator.render import unattend
from orchestrator.render.answerfile import NS, WCM, parsed
from tests.unit.test_unattend import FULL, SHELL, answers, said

THEIRS = f"""<?xml version="1.0"?>
<u:unattend xmlns:u="{NS}" xmlns:w="{WCM}"><u:settings pass="oobeSystem"><u:component name="{SHELL}">
  <u:OOBE><u:ProtectYourPC>1</u:ProtectYourPC></u:OOBE><u:RegisteredOwner>me</u:RegisteredOwner>
  <u:FirstLogonCommands><u:SynchronousCommand w:action="add"><u:Order>1</u:Order><u:CommandLine>theirs</u:CommandLine>
  </u:SynchronousCommand></u:FirstLogonCommands></u:component></u:settings>
  <u:settings pass="auditUser"><u:component name="Their-Own"><u:A>b</u:A></u:component></u:settings></u:unattend>"""


def test_the_users_own_answer_file_is_merged_and_wins():
    root = answers(replace(FULL, unattend=THEIRS))
    assert said(root, "oobeSystem", f"{SHELL}/OOBE/ProtectYourPC") == ["1"]
    assert said(root, "oobeSystem", f"{SHELL}/OOBE/HideEULAPage") == ["true"]
    assert said(root, "oobeSystem", f"{SHELL}/RegisteredOwner") == ["me"]
    assert said(root, "auditUser", "Their-Own/A") == ["b"]
    commands = f"{SHELL}/FirstLogonCommands/SynchronousCommand"
    assert said(root, "oobeSystem", f"{commands}/CommandLine") == [unattend.START, "theirs"]
    assert said(root, "oobeSystem", f"{commands}/Order") == ["1", "2"]
    assert {etree.QName(element).namespace for element in root.iter()} == {NS}


def test_of_two_items_with_one_name_theirs_wins_and_numbers_are_given_anew():
    dns, firewall, tcp = "Microsoft-Windows-DNS-Client", "Networking-MPSSVC-Svc", "Microsoft-Windows-TCPIP"
    card = "<Identifier>52-54-57-8E-63-13</Identifier>"
    theirs = f"""<unattend xmlns="{NS}" xmlns:w="{WCM}"><settings pass="specialize">
      <component name="{firewall}"><FirewallGroups><FirewallGroup w:action="add" w:keyValue="RemoteDesktop">
        <Profile>domain</Profile></FirewallGroup></FirewallGroups></component>
      <component name="{dns}"><DNSSuffixSearchOrder><DomainName w:action="add" w:keyValue="1">their.org</DomainName>
      </DNSSuffixSearchOrder></component>
      <component name="{tcp}"><Interfaces><Interface w:action="add">{card}<Routes><Route w:action="add">
        <Identifier>1</Identifier><Prefix>192.0.2.0/24</Prefix></Route></Routes></Interface></Interfaces></component>
      </settings><settings pass="oobeSystem"><component name="{SHELL}"><UserAccounts><LocalAccounts>
        <LocalAccount w:action="add"><Name>ANN</Name><Group>Users</Group></LocalAccount>
        <LocalAccount w:action="add"><Name>eve</Name></LocalAccount></LocalAccounts></UserAccounts></component>
      </settings></unattend>"""
    root = answers(replace(FULL, unattend=theirs), (3389,))
    groups, accounts = f"{firewall}/FirewallGroups/FirewallGroup", f"{SHELL}/UserAccounts/LocalAccounts/LocalAccount"
    assert said(root, "specialize", f"{groups}/Profile") == ["domain"]
    assert said(root, "specialize", f"{groups}/Active") == ["true"]
    assert said(root, "specialize", f"{dns}/DNSSuffixSearchOrder/DomainName") == ["example.org", "their.org"]
    keys = root.xpath("//u:DomainName/@w:keyValue", namespaces={"u": NS, "w": WCM})
    assert keys == ["1", "2"]
    interface = f"{tcp}/Interfaces/Interface"
    assert said(root, "specialize", f"{interface}/Identifier") == ["52-54-57-8E-63-13"]
    assert said(root, "specialize", f"{interface}/Routes/Route/Identifier") == ["1", "2"]
    assert said(root, "specialize", f"{interface}/Routes/Route/Prefix") == ["0.0.0.0/0", "192.0.2.0/24"]
    assert said(root, "oobeSystem", f"{accounts}/Name") == ["ANN", "bob", "eve"]
    assert said(root, "oobeSystem", f"{accounts}/Group") == ["Users", "Users"]


BAD = {
    "no XML": "<a",
    "no namespace": "<unattend/>",
    "a pass that there is not": f'<unattend xmlns="{NS}"><settings pass="x"/></unattend>',
    "no component": f'<unattend xmlns="{NS}"><settings pass="specialize"><a/></settings></unattend>',
    "an entity": f'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><unattend xmlns="{NS}"/>',
    "something else": f'<unattend xmlns="{NS}"><a/></unattend>',
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_no_answer_file_is_refused(text):
    with pytest.raises(Refused):
        parsed(text)


WHERE = {
    "a pass that there is not": ('<settings pass="x"/>', "line 2"),
    "no component": ('<settings pass="specialize">\n<a/></settings>', "line 3"),
    "a component without a name": ('<settings pass="specialize">\n\n<component/></settings>', "line 4"),
    "another namespace": (
        '<settings pass="specialize"><component name="a">\n<b xmlns="c"/></component></settings>',
        "line 3",
    ),
    "no end": ('<settings pass="specialize">\n\n\n', "line 5"),
}


@pytest.mark.parametrize(("text", "line"), WHERE.values(), ids=WHERE)
def test_what_is_wrong_with_an_answer_file_is_told_with_its_line(text, line):
    with pytest.raises(Refused, match=line):
        parsed(f'<unattend xmlns="{NS}">\n{text}</unattend>')


def test_a_list_is_joined_in_its_own_order_and_another_architecture_is_another_component():
    item = "<SynchronousCommand w:action='add'><Order>{}</Order><CommandLine>{}</CommandLine></SynchronousCommand>"
    commands = f"<FirstLogonCommands>{item.format(2, 'second')}{item.format(1, 'first')}</FirstLogonCommands>"
    theirs = (
        f'<unattend xmlns="{NS}" xmlns:w="{WCM}"><settings pass="oobeSystem"><component name="{SHELL}">{commands}'
        f'</component><component name="{SHELL}" processorArchitecture="x86"><RegisteredOwner>x</RegisteredOwner>'
        "</component></settings></unattend>"
    )
    root = answers(replace(FULL, unattend=theirs))
    lines = f"{SHELL}/FirstLogonCommands/SynchronousCommand/CommandLine"
    assert said(root, "oobeSystem", lines) == [unattend.START, "first", "second"]
    owners = root.xpath("//u:component[u:RegisteredOwner]/@processorArchitecture", namespaces={"u": NS})
    assert owners == ["x86"]
