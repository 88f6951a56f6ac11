"""Records as JSON: whatever a record holds comes back as it was, and nothing else is taken for one."""

import json
from ipaddress import IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.servicefile import parse
from orchestrator.errors import Refused
from orchestrator.model.making import MachineSpec, machine_spec
from orchestrator.model.names import DeploymentId, InstanceId
from orchestrator.model.record import (
    Act,
    DeploymentRecord,
    Failure,
    Farewell,
    InstanceRecord,
    Kept,
    Successor,
    Timeline,
    Wanted,
)
from orchestrator.model.setup import Command, Setup
from orchestrator.model.spec import Disk, Platform, Role, Service
from orchestrator.render.records import dump_deployment, dump_instance, load_deployment, load_instance, upgraded
from tests.fakes.build import DIGEST, deployment, record

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
TIME = st.floats(0, 4e9)
NAME = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)
DEPLOYMENTS = st.builds(DeploymentId, NAME, st.sampled_from(["production", "staging"]))
WORDS = TEXT | st.lists(TEXT, max_size=2).map(tuple)
COMMANDS = st.lists(st.builds(Command, words=WORDS), max_size=2).map(tuple)
SETUPS = st.builds(Setup, user_data=TEXT, commands=COMMANDS)
MACHINES = st.builds(MachineSpec, digest=TEXT, setup=SETUPS, disks=st.lists(st.builds(Disk), max_size=2).map(tuple))
FAILURES = st.none() | st.builds(Failure, at=TIME, console=st.lists(TEXT, max_size=2).map(tuple))
ROLES = st.builds(Role, name=NAME, disks=st.lists(st.builds(Disk), max_size=2).map(tuple), setup=SETUPS)
TIMELINES = st.builds(Timeline, TIME, *[st.none() | TIME] * 6)
INSTANCES = st.builds(
    InstanceRecord,
    timeline=TIMELINES,
    reboot=st.none() | TIME,
    farewell=st.none() | st.builds(Farewell, since=TIME, asked=st.none() | TIME, cut=st.none() | TIME),
    boot=st.integers(1, 99),
    boot_id=TEXT,
    has_run=st.booleans(),
    starts=st.integers(0, 9),
    wanted=st.sampled_from(Wanted),
    newest=st.integers(1, 99),
    place=st.integers(1, 99),
    held=st.integers(0, 99),
    version=st.integers(0, 99),
    id=st.builds(InstanceId, DEPLOYMENTS, NAME, st.integers(0, 99)),
    machine=MACHINES,
    deadline=TIME,
    failure=FAILURES,
    next=st.none() | st.builds(Successor, machine=MACHINES),
    kept=st.none() | st.builds(Kept, machine=MACHINES, failure=FAILURES, until=st.none() | TIME),
    volumes=st.lists(NAME, max_size=3).map(tuple),
)
RECORDS = st.builds(
    DeploymentRecord,
    id=DEPLOYMENTS,
    service=st.builds(Service, name=NAME, roles=st.lists(ROLES, max_size=2).map(tuple)),
    digests=st.dictionaries(NAME, TEXT, max_size=2),
    subnets=st.dictionaries(NAME, st.integers(0, 255).map(lambda n: IPv4Network(f"198.18.{n}.0/24")), max_size=2),
)


@settings(max_examples=80, deadline=None)
@given(INSTANCES)
def test_an_instance_comes_back_as_it_was(known):
    text = dump_instance(known)
    assert load_instance(text) == known
    assert load_instance(text.decode()) == known
    assert hash(load_instance(text)) == hash(known)


@settings(max_examples=80, deadline=None)
@given(RECORDS)
def test_a_deployment_comes_back_as_it_was(known):
    assert load_deployment(dump_deployment(known)) == known


@given(
    st.binary(max_size=64) | st.text(max_size=64) | st.recursive(st.none() | st.integers(), st.lists).map(json.dumps)
)
def test_what_is_no_record_is_refused_and_never_an_error_of_another_kind(junk):
    for load in (load_deployment, load_instance):
        with pytest.raises(Refused, match="cannot be read") as told:
            load(junk)
        assert "vmrole recover" in told.value.hint


@given(st.data())
def test_a_record_that_is_cut_short_is_refused(data):
    for dump, load, known in (
        (dump_deployment, load_deployment, deployment()),
        (dump_instance, load_instance, record()),
    ):
        whole = dump(known)
        with pytest.raises(Refused):
            load(whole[: data.draw(st.integers(0, len(whole) - 1))])


@pytest.mark.parametrize(
    ("key", "value"),
    [("generation", "two"), ("wanted", "maybe"), ("machine", {}), ("timeline", None), ("id", "web-0"), ("next", {})],
)
def test_a_field_that_is_not_what_it_should_be_is_refused(key, value):
    spoiled = json.loads(dump_instance(record())) | {key: value}
    with pytest.raises(Refused, match="problems in it"):
        load_instance(json.dumps(spoiled))


@pytest.mark.parametrize("key", ["id", "host", "dip", "generation", "machine", "timeline", "deadline"])
def test_a_record_without_what_it_must_have_is_refused(key):
    whole = json.loads(dump_instance(record()))
    del whole[key]
    with pytest.raises(Refused):
        load_instance(json.dumps(whole))


def test_a_field_of_a_later_version_is_no_obstacle():
    later = json.loads(dump_instance(record())) | {"colour": "blue"}
    assert load_instance(json.dumps(later)) == record()


BEFORE = """\
service: hello
roles:
  web:
    image: debian-12
    setup:
      files: [{path: /a, content: a}, {path: /b, content: "{{x}}", template: false}]
      run: [echo a, [b, "c {{{{d"], "docker inspect -f '{{{{.Id}}'"]
      settings: {A: "{{{{b}}"}
      user_data: {a: "{{{{b}}"}
"""


def as_it_was(value: object) -> object:
    """A record as it was stored before there were commands and templates."""
    if isinstance(value, list):
        return [as_it_was(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: as_it_was(item) for key, item in value.items()}
    if isinstance(setup := found.get("setup"), dict):
        found["setup"] = {
            "ssh_authorized_keys": setup["ssh_authorized_keys"],
            "files": [{key: f[key] for key in ("path", "content", "mode", "owner")} for f in setup["files"]],
            "run": [_plain(command["words"]) for command in setup["commands"]],
            "user_data": _plain(setup["user_data"]),
            "settings": [[key, _plain(text)] for key, text in setup["settings"]],
        }
    return found


def _plain(words: list[str] | str) -> list[str] | str:
    return words.replace("{{{{", "{{") if isinstance(words, str) else [word.replace("{{{{", "{{") for word in words]


def test_what_is_recorded_of_an_older_version_is_what_its_file_says_now():
    """Also the machine that comes next, the one that is kept, and the copy of the whole service."""
    wanted = deployment(parse(BEFORE, "hello.yaml"))
    machine = machine_spec(wanted.service.roles[0], DIGEST, Platform())
    after = Successor(Act.REIMAGE, 2, machine, "local", "198.18.0.10", 1)
    known = record(machine=machine, next=after, kept=Kept(1, machine, 1))
    old = json.dumps(as_it_was(json.loads(dump_instance(known))))
    assert "commands" not in old
    assert "{{{{" not in old
    assert load_instance(upgraded(old)) == known
    assert load_instance(old) != known
    assert load_deployment(upgraded(json.dumps(as_it_was(json.loads(dump_deployment(wanted)))))) == wanted


@settings(max_examples=40, deadline=None)
@given(INSTANCES)
def test_what_is_of_this_version_stays_as_it_is(known):
    text = dump_instance(known)
    assert load_instance(upgraded(text)) == known
    assert load_instance(upgraded(upgraded(text))) == known


@given(st.binary(max_size=40))
def test_what_is_no_record_is_not_made_one(junk):
    with pytest.raises(Refused):
        load_instance(upgraded(junk))
