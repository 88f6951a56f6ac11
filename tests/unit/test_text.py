"""Text from guests is made harmless before anybody prints or stores it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.model.text import LINE_LENGTH, line, lines


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07shell", "0;titleshell"),
        ("a\x00b\x08c", "abc"),
        ("\u202egnp.exe", "gnp.exe"),
        ("\x9b31mC1", "31mC1"),
        ("  padded \t", "padded"),
        ("\x1b\x1b[31mx", "x"),
    ],
)
def test_a_line_is_printable(text, clean):
    assert line(text) == clean


@given(st.text())
def test_nothing_that_moves_a_cursor_is_left(text):
    for part in lines(text):
        assert part
        assert len(part) <= LINE_LENGTH
        assert not [c for c in part if ord(c) < 32 or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E]


def test_lines_that_say_nothing_are_left_out():
    assert lines("one\r\n\n \x1b[0m\n\rtwo\n") == ("one", "two")


def test_a_long_line_is_cut():
    assert line("x" * 10**6) == "x" * LINE_LENGTH
