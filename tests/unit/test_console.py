"""What `vmrole console -f` prints: each line once, of a window on something that only grows."""

import pytest

from orchestrator.cli.console import fresh


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ((), (), ()),
        ((), ("a",), ("a",)),
        (("a", "b"), ("a", "b"), ()),
        (("a", "b"), ("a", "b", "c"), ("c",)),
        (("a", "b", "c"), ("b", "c", "d", "e"), ("d", "e")),
        (("a", "a"), ("a", "a", "a"), ("a",)),
        (("a", "b"), ("a",), ()),
        (("a", "b"), ("x", "y"), ("x", "y")),
    ],
    ids=["nothing", "the first", "no more", "one more", "the window went on", "the same again", "less", "another"],
)
def test_what_is_new(before, now, told):
    assert tuple(fresh(before, now)) == told
