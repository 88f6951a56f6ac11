"""Sizes and times as people write them."""

import pytest

from orchestrator.config.quantities import mebibytes, seconds


@pytest.mark.parametrize(("text", "mib"), [("512MiB", 512), ("4GiB", 4096), ("1 TiB", 1024**2), ("0MiB", 0)])
def test_size(text, mib):
    assert mebibytes(text) == mib


@pytest.mark.parametrize("text", ["512", 512, "512MB", "-1GiB", "1.5GiB", "GiB", "", None, "1GiB\n", "٣GiB", True])
def test_not_a_size(text):
    with pytest.raises(ValueError, match="must be a size like"):
        mebibytes(text)


@pytest.mark.parametrize(("text", "s"), [("90s", 90.0), ("5m", 300.0), ("1h", 3600.0), ("0.5 s", 0.5)])
def test_time(text, s):
    assert seconds(text) == s


@pytest.mark.parametrize("text", ["90", 90, "5min", "-1s", "1d", "s", "", None, "1e3s", ".5s"])
def test_not_a_time(text):
    with pytest.raises(ValueError, match="must be a time like"):
        seconds(text)
