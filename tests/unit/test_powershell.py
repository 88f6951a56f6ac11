"""That what we write for PowerShell is PowerShell: nobody here can run it, so a grammar of it reads it."""

import re

import pytest
import tree_sitter_powershell
from tree_sitter import Language, Node, Parser

from orchestrator.drivers.winguest import PROBE, RESTART, TELL
from orchestrator.render import unattend, winpe
from orchestrator.render.winscript import SCRIPT

PARSER = Parser(Language(tree_sitter_powershell.language()))
SCRIPTS = {"vmrole.ps1": SCRIPT, "sysprep": winpe.SCRIPT, "a look": PROBE, "a telling": TELL, "a restart": RESTART}
INLINE = {"install": unattend.INSTALL, "start of sysprep": winpe.START}


def faults(text: str) -> list[str]:
    """Where the grammar has no way to read it."""

    def below(node: Node) -> list[Node]:
        own = [node] if node.is_error or node.is_missing else []
        return own + [found for child in node.children for found in below(child)]

    found = below(PARSER.parse(text.encode()).root_node)
    return [f"line {node.start_point.row + 1}: {text.splitlines()[node.start_point.row]}" for node in found]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_powershell(name):
    assert faults(SCRIPTS[name]) == []
    assert all(len(line) <= 120 for line in SCRIPTS[name].splitlines())


@pytest.mark.parametrize("name", INLINE)
def test_a_command_line_is_powershell(name):
    (script,) = re.findall(r'-Command "(.*)"$', INLINE[name])
    assert faults(script) == []


@pytest.mark.parametrize("spoil", [lambda s: s.replace("}", "", 1), lambda s: s.replace(")", "", 1), lambda s: s + "'"])
def test_a_slip_is_found(spoil):
    assert faults(spoil(SCRIPT))


def test_every_function_that_is_called_is_there():
    """Ours have names of two words, as Windows' own; these are the ones of Windows that they call."""
    whole = re.sub(r"(?m)^\s*#.*$|'[^'\n]*'", "", SCRIPT)
    ours = set(re.findall(r"(?m)^function ([A-Za-z-]+)", SCRIPT))
    called = set(re.findall(r"(?<![\w.$-])([A-Z][A-Za-z]+-[A-Z][A-Za-z0-9]+)\b", whole))
    assert ours <= called
    assert called - ours == set(CMDLETS.split())


CMDLETS = """
Add-PartitionAccessPath Add-Type ConvertFrom-Json ConvertTo-Json ConvertTo-SecureString Copy-Item ForEach-Object
Format-Volume Get-CimInstance Get-Content Get-Disk Get-ItemProperty Get-PSDrive Get-Partition
Get-PartitionSupportedSize Get-Volume Import-Certificate Import-PfxCertificate Initialize-Disk Join-Path Move-Item
New-Item New-NetFirewallRule New-Object New-Partition Out-Null Remove-Item Remove-ItemProperty Remove-NetFirewallRule
Remove-PartitionAccessPath Resize-Partition Select-Object Set-CimInstance Set-Disk Set-ItemProperty Set-Partition
Split-Path Start-Process Start-Sleep Test-Path Update-Disk Update-HostStorageCache Where-Object
"""
