# ruff: noqa: E501 - a table reads best with one file a line
"""A service file becomes a value, or the whole list of what is wrong in it, each with its path and line."""

import json
from pathlib import Path

import pytest

from orchestrator.config.servicefile import MAX_BYTES, line_of, load, parse
from orchestrator.errors import InvalidInput, UserError
from orchestrator.model.spec import Endpoint, File, Protocol, Ready, Role, Service, Setup, Size, Visibility


def any_image(_reference: str) -> str:
    return ""


GOOD = """\
service: hello
roles:
  web:
    image: debian-12
    instances: 2
    size: {vcpus: 2, memory: 1GiB, disk: 1500MiB}
    endpoints:
      http: {port: 80, target: 8080, protocol: http, check: {path: /healthz}}
      gossip: {target: 9000, visibility: internal}
      debug: {port: 9100-9109, target: 22, visibility: instance}
    setup:
      ssh_authorized_keys: [ssh-ed25519 AAAA me]
      files: [{path: /etc/motd, content: hi, mode: "0600"}]
      run: [echo hi, [touch, /tmp/x]]
      settings: {B: b, A: a}
    ready: {services: [nginx], timeout: 90s}
    upgrade: {max_unavailable: 2}
"""


def test_a_good_file_is_a_value():
    role = Role(
        "web",
        "debian-12",
        2,
        Size(2, 1024, 2),
        (
            Endpoint("http", (80, 80), 8080, Protocol.HTTP, check_path="/healthz"),
            Endpoint("gossip", (0, 0), 9000, visibility=Visibility.INTERNAL),
            Endpoint("debug", (9100, 9109), 22, visibility=Visibility.INSTANCE),
        ),
        Setup(
            ("ssh-ed25519 AAAA me",),
            (File("/etc/motd", "hi", "0600"),),
            ("echo hi", ("touch", "/tmp/x")),
            settings=(("A", "a"), ("B", "b")),
        ),
        Ready(("nginx",), 90.0),
        2,
    )
    assert parse(GOOD, "f") == Service("hello", (role,))


def test_the_shortest_file_has_defaults():
    (role,) = parse("service: a\nroles: {b: {image: c}}", "f").roles
    assert role == Role("b", "c", 1)


@pytest.mark.parametrize("text", ["#cloud-config\npackages: [vim]", {"packages": ["vim"]}])
def test_user_data_is_a_mapping_or_its_text(text):
    found = parse(f"service: a\nroles: {{b: {{image: c, setup: {{user_data: {json.dumps(text)}}}}}}}", "f")
    assert json.loads(found.roles[0].setup.user_data) == {"packages": ["vim"]}


def role(fields: str) -> str:
    return f"service: hello\nroles:\n  web:\n    image: debian-12\n    {fields}\n"


# file → (line, path, a part of the message) of every problem in it
BAD: dict[str, tuple[str, list[tuple[int, str, str]]]] = {
    "empty": ("", [(1, "", "must be a mapping")]),
    "a list": ("[a]", [(1, "", "must be a mapping")]),
    "no service": ("roles: {web: {image: a}}", [(1, "service", "is missing")]),
    "no roles": ("service: a", [(1, "roles", "is missing")]),
    "empty roles": ("service: a\nroles: {}", [(2, "roles", "must not be empty")]),
    "bad names": ("service: A_b\nroles: {We: {image: a}}", [(1, "service", "is not a name"), (2, "roles.We", "is not a name")]),
    "unknown field": (role("instanses: 2"), [(5, "roles.web.instanses", "is not a field here")]),
    "not a number": (role("instances: two"), [(5, "roles.web.instances", "whole number")]),
    "yes is no number": (role("instances: true"), [(5, "roles.web.instances", "whole number")]),
    "too many": (role("instances: 201"), [(5, "roles.web.instances", "200, got 201")]),
    "none": (role("instances: 0"), [(5, "roles.web.instances", "got 0")]),
    "memory": (role("size: {memory: 512}"), [(5, "roles.web.size.memory", "must be a size like")]),
    "little memory": (role("size: {memory: 1MiB}"), [(5, "roles.web.size.memory", "64")]),
    "no port": (role("endpoints: {h: {protocol: http}}"), [(5, "roles.web.endpoints.h", "needs a port")]),
    "port 0": (role("endpoints: {h: {port: 0}}"), [(5, "roles.web.endpoints.h.port", "from 1 to 65535")]),
    "port 70000": (role("endpoints: {h: {port: 70000}}"), [(5, "roles.web.endpoints.h.port", "from 1 to 65535")]),
    "input range": (role("endpoints: {h: {port: 1-2}}"), [(5, "roles.web.endpoints.h", "has one port")]),
    "odd digits": (role('endpoints: {h: {port: "²"}}'), [(5, "roles.web.endpoints.h.port", "must be a port")]),
    "check of tcp": (role("endpoints: {h: {port: 1, check: {path: /}}}"), [(5, "roles.web.endpoints.h", "needs protocol: http")]),
    "internal on the VIP": (role("endpoints: {h: {port: 1, target: 1, visibility: internal}}"), [(5, "roles.web.endpoints.h", "target only")]),
    "check path": (role('endpoints: {h: {port: 1, protocol: http, check: {path: "/a b"}}}'), [(5, "roles.web.endpoints.h.check.path", "path of a URL")]),
    "check injects": (role(r'endpoints: {h: {port: 1, protocol: http, check: {path: "/\n  bind :1"}}}'), [(5, "roles.web.endpoints.h.check.path", "path of a URL")]),
    "two keys": (role("instances: 1\n    instances: 2"), [(6, "roles.web.instances", "is given twice")]),
    "a port twice": (role("endpoints: {a: {port: 80}, b: {port: 80}}"), [(5, "roles.web.endpoints.b.port", "roles.web.endpoints.a has it already")]),
    "a port in a range": (role("endpoints: {a: {port: 80-90, target: 1, visibility: instance}, b: {port: 85}}"), [(5, "roles.web.endpoints.b.port", "port 85 is given twice")]),
    "short range": (role("instances: 3\n    endpoints: {a: {port: 1-2, target: 1, visibility: instance}}"), [(6, "roles.web.endpoints.a.port", "2 ports for 3 instances")]),
    "relative file": (role("setup: {files: [{path: etc/x, content: a}]}"), [(5, "roles.web.setup.files[0].path", "absolute path")]),
    "mode": (role('setup: {files: [{path: /x, content: a, mode: "999"}]}'), [(5, "roles.web.setup.files[0].mode", "pattern")]),
    "key of two lines": (role(r'setup: {ssh_authorized_keys: ["a\nb"]}'), [(5, "roles.web.setup.ssh_authorized_keys[0]", "must be one line")]),
    "user data": (role("setup: {user_data: echo}"), [(5, "roles.web.setup.user_data", "#cloud-config")]),
    "user data with a date": (role("setup: {user_data: {a: 2024-01-01}}"), [(5, "roles.web.setup.user_data", "JSON has no form")]),
    "setting": (role('setup: {settings: {"a b": c}}'), [(5, "roles.web.setup.settings.a b", "must be letters")]),
    "time": (role("ready: {timeout: 5}"), [(5, "roles.web.ready.timeout", "must be a time like")]),
    "everything at once": (
        "service: hello\nroles:\n  web:\n    instances: x\n    size: {vcpus: 0}\n  b:\n    image: 5\n",
        [(3, "roles.web.image", "is missing"), (4, "roles.web.instances", "whole number"), (5, "roles.web.size.vcpus", "got 0"), (7, "roles.b.image", "must be a text")],
    ),
    "tabs": ("service: a\nroles:\n\tweb: {}", [(3, "", "is not YAML")]),
    "no end": ("service: {a", [(1, "", "is not YAML")]),
    "two documents": ("--- a\n--- b", [(2, "", "is not YAML")]),
    "a Python object": ("!!python/object:os.system x", [(1, "", "is not YAML")]),
    "no such date": ("service: 2024-99-99", [(0, "", "is not YAML: month must be in 1..12")]),
    "no digits": ("service: 0x_", [(0, "", "is not YAML")]),
    "itself": ("service: &a [*a]", [(0, "", "is not YAML")]),
    "a deep pit": ("service: " + "[" * 3000, [(0, "", "is not YAML")]),
    "an endless number": ("service: " + "1" * 5000, [(0, "", "is not YAML")]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_every_problem_is_told_with_its_place(name):
    text, wanted = BAD[name]
    with pytest.raises(InvalidInput) as caught:
        parse(text, "hello.yaml")
    found = caught.value.problems
    assert [(p.line, p.path) for p in found] == [(line, path) for line, path, _message in wanted]
    for problem, (_line, _path, message) in zip(found, wanted, strict=True):
        assert message in problem.message
    assert str(caught.value).startswith(f"hello.yaml: {len(wanted)} problem")
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_is_the_users_error(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml", any_image)


def test_a_file_of_gigabytes_is_not_read_as_yaml(tmp_path: Path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(UserError, match="larger than a service file may be"):
        load(path, any_image)


def test_bytes_that_are_no_text_are_a_problem_not_a_crash(tmp_path: Path):
    path = tmp_path / "binary.yaml"
    path.write_bytes(bytes(range(256)))
    with pytest.raises(InvalidInput, match="is not YAML"):
        load(path, any_image)


@pytest.mark.parametrize(
    ("path", "line"), [(("service",), 1), (("roles", "web", "image"), 4), (("roles", "nobody"), 2), (("roles", "web", "endpoints", "debug"), 10)]
)  # fmt: skip
def test_the_line_of_a_field_can_be_found_later(path, line):
    assert line_of(GOOD, path) == line


def test_the_examples_are_good():
    examples = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))
    assert examples
    for path in examples:
        assert load(path, any_image).roles


def test_an_image_that_is_not_there_is_told_with_every_other_problem():
    with pytest.raises(InvalidInput) as caught:
        parse(role("instances: 0"), "f", lambda reference: f"there is no image {reference}")
    assert [(p.line, p.path) for p in caught.value.problems] == [
        (4, "roles.web.image"), (5, "roles.web.instances"),
    ]  # fmt: skip


def test_an_unknown_image_is_told_with_everything_else():
    text = (
        "service: app\nroles:\n  web:\n    image: nope\n    instances: 0\n  db:\n    image: tiny\n    image_size: 3\n"
    )

    def image_problem(reference):
        return "" if reference == "tiny" else f"there is no image {reference}"

    with pytest.raises(InvalidInput) as raised:
        parse(text, "app.yaml", image_problem)
    assert [str(problem) for problem in raised.value.problems] == [
        "line 4: roles.web.image: there is no image nope",
        "line 5: roles.web.instances: must be greater than or equal to 1, got 0",
        "line 8: roles.db.image_size: is not a field here",
    ]


@pytest.mark.parametrize("value", ["!!timestamp abc", "!!bool abc", "!!int x", "!!float abc"])
def test_a_tag_that_does_not_fit_its_value_is_a_problem(value):
    with pytest.raises(InvalidInput):
        parse(f"service: {value}\nroles: {{}}\n", "f")


@pytest.mark.parametrize("where", ["size: {disk: 999999999TiB}", "size: {disk: 0MiB}", "setup: {user_data: {d: .nan}}"])
def test_nonsense_is_refused(where):
    with pytest.raises(InvalidInput) as caught:
        parse(role(where), "f")
    assert [problem.line for problem in caught.value.problems] == [5]


def test_only_a_regular_file_is_read(tmp_path: Path):
    with pytest.raises(UserError, match="not a regular file"):
        load(tmp_path, any_image)
