"""HAProxy's file and commands: no value can become a second line or a second command."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.engine.rotation import fingerprint, frontends, layout
from orchestrator.model.action import Server
from orchestrator.render import haproxy
from tests.fakes.build import deployment

FRONTS = frontends([deployment()])
SERVER = Server(FRONTS[0].name, "web-0.g1", "198.18.0.10", 8080)
SOCKET = Path("/run/x.sock")
HOSTILE = [
    "",
    "a b",
    "a;show env",
    "a\nb",
    "a\tb",
    "a\0b",
    "a'b",
    'a"b',
    "a\\b",
    "a#b",
    "ä",
    "a\r",
    "$(x)",
    "a,b",
    "{x}",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "say",
    [
        haproxy.word,
        lambda t: haproxy.add_commands(replace(SERVER, name=t)),
        lambda t: haproxy.add_commands(replace(SERVER, backend=t)),
        lambda t: haproxy.add_commands(replace(SERVER, address=t)),
        lambda t: haproxy.delete_command("b", t),
        lambda t: haproxy.state_command(t, "s", "drain"),
        lambda t: haproxy.state_command("b", "s", t),
        lambda t: haproxy.shutdown_command("b", t),
        lambda t: haproxy.config_text([replace(FRONTS[0], vip=t)], []),
        lambda t: haproxy.config_text([replace(FRONTS[0], name=t)], []),
        lambda t: haproxy.config_text(FRONTS, [replace(SERVER, name=t)]),
    ],
)
def test_no_word_can_be_a_second_command(say, text):
    with pytest.raises(ValueError, match="not a word for HAProxy"):
        say(text)


@pytest.mark.parametrize("text", ["", "x", "/a b", "/a\nb", "/;x", "/a#b", '/"', "/\\", "/ä", "/a\0"])
def test_no_check_path_can_be_a_second_line(text):
    with pytest.raises(ValueError, match="not a path for HAProxy"):
        haproxy.uri(text)


def test_a_path_with_a_query_is_a_path():
    assert haproxy.uri("/a-b_c/%20?x=1&y=~.+") == "/a-b_c/%20?x=1&y=~.+"


def test_the_file_identifies_itself():
    text = haproxy.config_text(FRONTS, [SERVER])
    assert haproxy.saved_fingerprint(text) == fingerprint(FRONTS, [SERVER])
    assert f"description {layout(FRONTS)}\n" in text
    assert haproxy.saved_fingerprint("global\n") == haproxy.saved_fingerprint("") == ""


def test_the_order_of_servers_does_not_change_the_file():
    other = replace(SERVER, name="web-1.g1")
    assert haproxy.config_text(FRONTS, [SERVER, other]) == haproxy.config_text(FRONTS, [other, SERVER])


def test_a_server_of_another_backend_is_not_in_this_one():
    text = haproxy.config_text(FRONTS, [replace(SERVER, backend="other")])
    assert "web-0.g1" not in text
