"""Variables: the names that a service gives are the names that its answer files know, and all else is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.template import escaped, expanded, filled, names, problem, values
from orchestrator.errors import Refused
from orchestrator.model.names import InstanceId
from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Command, File, Setup
from orchestrator.model.vicinity import Vicinity
from tests.fakes.build import HELLO, record

DB = [(InstanceId(HELLO, "db", n), f"198.18.0.{20 + n}") for n in (10, 2)]
AROUND = Vicinity("198.51.100.1", members=((record().id, "198.18.0.10"), *DB))


def test_every_name_has_a_value_and_every_value_a_name():
    around = Vicinity(members=tuple((InstanceId(HELLO, "db", n), str(n)) for n in range(3)))
    assert set(values(record(), around)) == names([("web", 1), ("db", 3)])


def test_the_values():
    found = values(record(generation=7), AROUND)
    text = "{{service}} {{slot}} {{role}} {{instance}} {{ordinal}} {{generation}} {{host}} {{dip}} {{ vip }}"
    assert expanded(text, found) == "hello production web web-0 0 7 local 198.18.0.10 198.51.100.1"
    assert expanded("{{role.db.dips}} {{role.db.names}}", found) == "198.18.0.22,198.18.0.30 db-2,db-10"
    assert expanded("{{instance.db-10.dip}}", found) == "198.18.0.30"


@given(st.text())
def test_what_is_escaped_is_itself(text):
    assert problem(escaped(text), frozenset()) == ""
    assert expanded(escaped(text), {}) == text


@given(st.text(st.sampled_from("{}a .\n"), max_size=12))
def test_no_text_is_taken_that_cannot_be_filled(text):
    known = frozenset({"a"})
    if not problem(text, known):
        assert expanded(text, {"a": "b"}) is not None
        return
    with pytest.raises(Refused):
        expanded(text, {"a": "b"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a {{b}}", "speaks of {{b}}, which is no variable here; known: service, slot"),
        ("{{", "is no variable"),
        ("{{{service}}}", "is no variable"),
        ("{{service", "is no variable"),
        ("{{a b}}", "{{{{"),
        ("{{instance.web-1.dip}}", "speaks of {{instance.web-1.dip}}"),
    ],
)
def test_what_is_no_variable_is_told(text, told):
    assert told in problem(text, names([("web", 1)]))


def test_braces_that_are_no_variable_of_ours_stay():
    assert problem("}} } { ${a} {a}", frozenset()) == ""


def test_a_setup_is_filled_everywhere_but_where_it_is_not_wanted():
    secret = SecretRef("env:A")
    setup = Setup(
        hostname="{{instance}}-x",
        files=(File("/{{role}}", "{{dip}}"), File("/a", "{{dip}}", is_template=False), File("/s", secret)),
        commands=(Command("echo {{ordinal}}"), Command(("a", "{{role}}"))),
        settings=(("A", "{{role}}"),),
        user_data='{"{{role}}": ["{{role}}", 1, null]}',
        user_parts=(("text/x", "{{role}}"),),
    )
    found = filled(setup, values(record(), AROUND))
    assert found.hostname == "web-0-x"
    assert [(file.path, file.content) for file in found.files] == [
        ("/web", "198.18.0.10"),
        ("/a", "{{dip}}"),
        ("/s", secret),
    ]
    assert [command.words for command in found.commands] == ["echo 0", ("a", "web")]
    assert (found.settings, found.user_parts) == ((("A", "web"),), (("text/x", "web"),))
    assert found.user_data == '{"{{role}}": ["web", 1, null]}'
