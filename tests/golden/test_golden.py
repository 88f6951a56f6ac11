"""What is rendered, character by character: a change shows in review as a diff of the files in ``expected``."""

from pathlib import Path

import click
import pytest

from .rendered import RENDERED

EXPECTED = Path(__file__).parent / "expected"


@pytest.mark.parametrize("name", RENDERED)
def test_is_rendered_as_ever(name, request):
    text, path = click.unstyle(RENDERED[name]()), EXPECTED / name
    if request.config.getoption("--regenerate"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is missing: pytest --regenerate writes it"
    assert text == path.read_text(), "if that is right: pytest --regenerate, and review the diff"


def test_no_expected_file_is_of_yesterday():
    assert {path.name for path in EXPECTED.iterdir()} == set(RENDERED)
