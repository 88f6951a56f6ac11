"""Sizes and times as people write them."""

import pytest

from orchestrator.config.quantities import bounded, mebibytes, seconds


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


@pytest.mark.parametrize("text", ["64MiB", "1GiB", "1TiB"])
def test_within_bounds(text):
    assert bounded(mebibytes, "64MiB", "1TiB")(text) == mebibytes(text)


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (bounded(mebibytes, "64MiB", "1TiB"), "63MiB", "must be at least 64MiB, got 63MiB"),
        (bounded(mebibytes, "64MiB", "1TiB"), "2TiB", "must be at most 1TiB, got 2TiB"),
        (bounded(seconds, "1s", "24h"), "0.5s", "must be at least 1s, got 0.5s"),
        (bounded(seconds, "1s", "24h"), "1441m", "must be at most 24h, got 1441m"),
        (bounded(seconds, "1s", "24h"), 5, "must be a time like"),
    ],
)
def test_bounds_are_told_as_they_are_written(read, text, told):
    with pytest.raises(ValueError, match=told):
        read(text)
