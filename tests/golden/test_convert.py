"""Files of Azure, Windows and cloud-init become just these service files, with just these reports."""

import base64
import re

import pytest

from orchestrator.config.servicefile import parse
from orchestrator.convert.checking import _NAMESPACE
from orchestrator.convert.grammar import CONFIGURATION, DEFINITION
from orchestrator.convert.tree import Element, read
from orchestrator.engine.windows import unfit
from orchestrator.model.spec import Platform
from orchestrator.render.unattend import untranslatable
from tests.fakes.build import deployment

from .azure_fates import fates
from .convert_pairs import ALONE, FOLDER, PAIRS, converted, given

WINDOWS = Platform("windows", "uefi")
CANARY = b"canary"


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


@pytest.mark.parametrize("name", [*PAIRS, *(n for n in ALONE if n.endswith(".xml"))])
def test_up_accepts_it_on_windows_where_it_came_from(name):
    service = parse(converted(name).text, name)
    wanted = deployment(service, platforms={role.name: WINDOWS for role in service.roles})
    assert unfit(wanted, untranslatable) == []


def every(element: Element) -> list[Element]:
    return [element, *(found for child in element.children for found in every(child))]


def words_of(text: str) -> str:
    """Without the file's name before a line's number: the pair says that."""
    return " ".join(re.sub(r"\(\S+, line", "(line", text).split())


def schema() -> set[str]:
    """ELEMENT/ATTRIBUTE of each attribute of both grammars; ELEMENT of what has none."""
    rules = [*DEFINITION.items(), *CONFIGURATION.items()]
    named = {f"{name}/{attribute}" for name, rule in rules for attribute in rule.attributes or ()}
    return named | {name for name, rule in rules if not rule.attributes} - {n.split("/")[0] for n in named}


def test_the_fate_of_every_element_and_attribute_of_the_schema_is_known():
    assert set(fates()) == schema()


@pytest.mark.parametrize("what", fates())
def test_what_a_pair_says_is_taken_over_or_told(what):
    """The pair has it, and the words for it are in what was made of that pair."""
    number, where, words = fates()[what]
    (name,) = (pair for pair in PAIRS if pair.startswith(f"{number}-"))
    element, _, attribute = what.partition("/")
    found = [e for file in given(name) for e in every(read(file.data, file.name)) if e.name == element]
    assert any(not attribute or attribute in e.attributes for e in found)
    made = converted(name)
    text = made.text if where == "yaml" else "".join(f"{note}\n" for note in made.notes)
    assert words_of(words) in words_of(text)


@pytest.mark.parametrize("name", [name for name in (*PAIRS, *ALONE) if any(CANARY in f.data for f in given(name))])
def test_no_secret_is_written_or_told(name):
    made = converted(name)
    everything = made.text + str(made.value) + "".join(map(str, made.notes))
    assert CANARY.decode() not in everything
    assert base64.b64encode("canary".encode("utf-16-le")).decode()[:15] not in everything


def test_every_pair_is_in_a_namespace_of_azures_or_in_none():
    roots = [read(file.data, file.name) for name in PAIRS for file in given(name)]
    assert {bool(root.namespace) for root in roots} == {True, False}
    assert all(_NAMESPACE.fullmatch(root.namespace) for root in roots if root.namespace)
