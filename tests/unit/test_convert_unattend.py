"""Answer files of Windows that are not quite in order, and what of them would be wrong for every instance."""

import pytest

from orchestrator.convert.files import Given, Wishes, convert
from orchestrator.errors import InvalidInput
from orchestrator.render.answerfile import NS


def made(*lines: str):
    text = "\n".join((f'<unattend xmlns="{NS}">', *lines, "</unattend>"))
    return convert([Given("u.xml", text.encode())], Wishes())


def test_every_problem_has_its_line_and_column():
    with pytest.raises(InvalidInput) as told:
        made(
            '<settings pass="specialise"/>',
            ' <settings pass="specialize"><component/><b/></settings>',
            '<c/><offlineImage xmlns="urn:schemas-microsoft-com:cpi"/>',
            '<settings pass="oobeSystem"><component name="a"><d xmlns="e"/></component></settings>',
        )
    assert [(p.line, p.column, p.message.split(",")[0]) for p in told.value.problems] == [
        (2, 1, "there is no pass 'specialise'; there are: windowsPE"),
        (3, 30, "<component> needs the attribute name"),
        (3, 42, "<b> cannot be in <settings>"),
        (4, 1, "<c> cannot be in <unattend>"),
        (5, 49, "<d> is in the namespace 'e'"),
    ]


def test_a_wrong_computers_name_is_not_passed_through_to_all_instances():
    component = '<component name="Microsoft-Windows-Shell-Setup"><ComputerName>a_b</ComputerName></component>'
    found = made(f'<settings pass="specialize">{component}</settings>')
    assert "a_b" not in found.text
    assert [note.kind.value for note in found.notes if note.subject == "ComputerName"] == ["dropped"]
