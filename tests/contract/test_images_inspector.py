"""The inspector against a corpus of good, hostile and damaged files, and against whatever can become of those."""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.drivers.imaging.opening import content_of, opened, settled, verdict_on
from orchestrator.engine.inspector import inspect
from orchestrator.engine.inspector.reading import Content
from orchestrator.errors import UserError
from tests.contract.corpus import good_files, hostile_files

BEHIND_COMPRESSION = {"gz-in-gz", "xz-cut", "zst-cut", "vhd-child"}  # seen later, when it is taken in
FUZZED = ("qcow2", "qcow2-v2", "qcow2-zstd", "qcow2-snapshot", "vhd-fixed", "vhd-dynamic", "vhdx-dynamic",
          "vmdk-sparse", "vmdk-stream", "raw")  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return good_files(tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def bad(good, tmp_path_factory):
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.raw"
    return hostile_files(tmp_path_factory.mktemp("hostile"), good, secret)


def judge(path, claimed=""):
    try:
        return verdict_on(settled(path), claimed)
    except UserError as error:
        return error


def test_the_corpus_is_as_large_as_it_should_be(good, bad):
    assert len(good) >= 10
    assert len(bad) >= 30


def test_good_files_are_what_they_are(good):
    found = {name: judge(file.path) for name, file in good.items()}
    told = {name: (v.format, v.virtual_bytes, v.why) for name, v in found.items()}
    assert told == {name: (file.format, file.virtual_bytes, "") for name, file in good.items()}


def test_bad_files_are_refused_with_the_reason_and_at_once(bad):
    for name, file in bad.items():
        begun = time.perf_counter()
        verdict = judge(file.path, file.claimed)
        assert time.perf_counter() - begun < 2, name
        if name not in BEHIND_COMPRESSION:
            why = verdict.message if isinstance(verdict, UserError) else verdict.why
            assert file.why in why, f"{name}: {verdict}"


def test_a_differencing_disk_says_whose_child_it_is(good, bad):
    parent = judge(good["vhd-dynamic"].path)
    child = judge(bad["vhd-child"].path)
    assert (child.format, child.why, child.parent) == ("vhd", "", parent.identity)


def test_a_link_in_its_own_folder_is_followed(good):
    link = good["raw"].path.with_name("newest.raw")
    link.symlink_to(good["raw"].path.name)
    assert judge(link).format == "raw"


def in_memory(data, limit=2**41):
    return Content(len(data), lambda at, length: data[at : at + length], limit)


@settings(max_examples=150, deadline=2000, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_becomes_of_a_file_there_is_a_verdict(good, data):
    raw = bytearray(good[data.draw(st.sampled_from(FUZZED))].path.read_bytes())
    length = data.draw(st.integers(0, len(raw)))
    if data.draw(st.booleans()):
        del raw[length:]
    spots = st.one_of(st.integers(0, 2047), st.integers(0, max(0, len(raw) - 1)), st.integers(-2048, -1))
    for at, value in data.draw(st.lists(st.tuples(spots, st.integers(0, 255)), max_size=12)):
        if -len(raw) <= at < len(raw):
            raw[at] = value
    verdict = inspect(in_memory(bytes(raw)), data.draw(st.sampled_from(["", "raw", "qcow2", "vmdk"])))
    assert verdict.why or verdict.format in {"raw", "qcow2", "vhd", "vhdx", "vmdk", "gz", "xz", "zst"}


@settings(max_examples=150, deadline=2000, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_whole_header_of_noise_is_judged(good, data):
    raw = bytearray(good[data.draw(st.sampled_from(FUZZED))].path.read_bytes())
    for _number in range(data.draw(st.integers(1, 4))):
        at = data.draw(
            st.sampled_from([8, 16, 20, 24, 28, 32, 36, 40, 48, 56, 60, 64, 72, 96, 100, 104, 528, 540, 544])
        )
        noise = data.draw(
            st.one_of(st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7]), st.binary(max_size=8))
        )
        raw[at : at + len(noise)] = noise
    verdict = inspect(in_memory(bytes(raw)))
    assert verdict.why or verdict.virtual_bytes > 0


def test_the_limit_of_the_virtual_size_can_be_set(good):
    with opened(good["qcow2"].path) as handle:
        assert "beyond the limit" in inspect(content_of(handle, 1024**2)).why
