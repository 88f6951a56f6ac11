"""Files of Azure, Windows and cloud-init become just these service files, with just these reports."""

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.convert.checking import _NAMESPACE
from orchestrator.convert.grammar import CONFIGURATION, DEFINITION
from orchestrator.convert.tree import Element, read

from .convert_pairs import ALONE, FOLDER, PAIRS, converted, given


def test_there_are_as_many_as_were_promised():
    assert len(PAIRS) >= 12


@pytest.mark.parametrize("name", [*PAIRS, *ALONE])
def test_becomes_the_same_as_ever(name, request):
    made = converted(name)
    found = {"yaml": made.text, "report": "".join(f"{note}\n" for note in made.notes)}
    for ending, text in found.items():
        path = FOLDER / f"{name}.{ending}"
        if request.config.getoption("--regenerate"):
            path.write_text(text)
        assert path.exists(), f"{path} is missing: pytest --regenerate writes it"
        assert text == path.read_text(), "if that is right: pytest --regenerate, and review the diff"


@pytest.mark.parametrize("name", [*PAIRS, *ALONE])
def test_up_accepts_it(name):
    service = parse(converted(name).text, name)
    assert service.roles
    assert all(role.image for role in service.roles)


def every(element: Element) -> list[Element]:
    return [element, *(found for child in element.children for found in every(child))]


@pytest.mark.parametrize(("grammar", "ending"), [(DEFINITION, "csdef"), (CONFIGURATION, "cscfg")])
def test_every_element_and_attribute_of_the_schema_is_in_a_pair(grammar, ending):
    """The exceptions are what the original's users could not write, or spelled in two ways."""
    files = [file for name in PAIRS for file in given(name) if file.name.endswith(ending)]
    elements = [found for file in files for found in every(read(file.data, file.name))]
    seen = {(found.name, attribute) for found in elements for attribute in found.attributes}
    known = {(name, attribute) for name, rule in grammar.items() for attribute in rule.attributes or ()}
    assert {found.name for found in elements} >= set(grammar) - {"guestAgentSettings"}
    assert known - seen - {("LocalStorage", "sizeInMb"), ("InputEndpoint", "enableDirectServerReturn")} == set()


def test_every_pair_is_in_a_namespace_of_azures_or_in_none():
    roots = [read(file.data, file.name) for name in PAIRS for file in given(name)]
    assert {bool(root.namespace) for root in roots} == {True, False}
    assert all(_NAMESPACE.fullmatch(root.namespace) for root in roots if root.namespace)
