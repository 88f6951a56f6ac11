# ruff: noqa: E501 - a table reads best with one file a line
"""A service file becomes a value, or the whole list of what is wrong in it, each with its path and line."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.servicefile import MAX_BYTES, line_of, load, parse
from orchestrator.errors import InvalidInput, UserError
from orchestrator.model.setup import Command, File, Setup
from orchestrator.model.spec import Endpoint, Protocol, Ready, Role, Service, Size, Visibility
from orchestrator.model.upgrade import Share, Upgrade


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
            (Command("echo hi"), Command(("touch", "/tmp/x"))),
            settings=(("A", "a"), ("B", "b")),
        ),
        Ready(("nginx",), 90.0),
        Upgrade(max_unavailable=Share(2)),
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
    "little memory": (role("size: {memory: 1MiB}"), [(5, "roles.web.size.memory", "must be at least 64MiB, got 1MiB")]),
    "no port": (role("endpoints: {h: {protocol: http}}"), [(5, "roles.web.endpoints.h", "needs a port")]),
    "port 0": (role("endpoints: {h: {port: 0}}"), [(5, "roles.web.endpoints.h.port", "from 1 to 65535")]),
    "port 70000": (role("endpoints: {h: {port: 70000}}"), [(5, "roles.web.endpoints.h.port", "from 1 to 65535")]),
    "input range": (role("endpoints: {h: {port: 1-2}}"), [(5, "roles.web.endpoints.h", "has one port")]),
    "odd digits": (role('endpoints: {h: {port: "²"}}'), [(5, "roles.web.endpoints.h.port", "must be a port")]),
    "check of tcp": (role("endpoints: {h: {port: 1, check: {path: /}}}"), [(5, "roles.web.endpoints.h.check.path", "needs protocol: http or https")]),
    "udp": (role("endpoints: {h: {port: 53, protocol: udp}}"), [(5, "roles.web.endpoints.h.protocol", "HAProxy")]),
    "cookie of tcp": (role("endpoints: {h: {port: 1, sticky: cookie}}"), [(5, "roles.web.endpoints.h.sticky", "cookie needs protocol: http")]),
    "cookie of https": (role("endpoints: {h: {port: 1, protocol: https, sticky: cookie}}"), [(5, "roles.web.endpoints.h.sticky", "does not see inside https")]),
    "tls twice": (role("endpoints: {h: {port: 1, protocol: https, tls: {certificate: {secret: store:x}}}}"), [(5, "roles.web.endpoints.h.tls", "hands TLS on to the instance")]),
    "status of nothing": (role("endpoints: {h: {port: 1, check: {status: 200}}}"), [(5, "roles.web.endpoints.h.check.status", "needs check.path")]),
    "no status": (role("endpoints: {h: {port: 1, protocol: http, check: {path: /, status: 200-99}}}"), [(5, "roles.web.endpoints.h.check.status", "must be a status")]),
    "no pace": (role("endpoints: {h: {port: 1, check: {interval: 0s}}}"), [(5, "roles.web.endpoints.h.check.interval", "must be at least 0.1s")]),
    "no rise": (role("endpoints: {h: {port: 1, check: {rise: 0}}}"), [(5, "roles.web.endpoints.h.check.rise", "at least 1")]),
    "no rule": (role("endpoints: {h: {port: 1, balance: luck}}"), [(5, "roles.web.endpoints.h.balance", "must be")]),
    "nobody may come": (role("endpoints: {h: {port: 1, max_connections: 0}}"), [(5, "roles.web.endpoints.h.max_connections", "at least 1")]),
    "a PEM in the file": (role("endpoints: {h: {port: 1, tls: {certificate: '-----BEGIN'}}}"), [(5, "roles.web.endpoints.h.tls.certificate", "must be a mapping")]),
    "a secret of nowhere": (role("endpoints: {h: {port: 1, tls: {certificate: {secret: x.pem}}}}"), [(5, "roles.web.endpoints.h.tls.certificate.secret", "must say where the secret is")]),
    "old TLS": (role("endpoints: {h: {port: 1, tls: {certificate: {secret: store:x}, min_version: '1.0'}}}"), [(5, "roles.web.endpoints.h.tls.min_version", "must be")]),
    "one alone": (role("endpoints: {h: {port: 1-2, target: 1, visibility: instance, sticky: source}}"), [(5, "roles.web.endpoints.h.sticky", "one instance")]),
    "options of an internal one": (role("endpoints: {h: {target: 1, visibility: internal, proxy_protocol: true}}"), [(5, "roles.web.endpoints.h.proxy_protocol", "not on the VIP")]),
    "internal on the VIP": (role("endpoints: {h: {port: 1, target: 1, visibility: internal}}"), [(5, "roles.web.endpoints.h", "target only")]),
    "check path": (role('endpoints: {h: {port: 1, protocol: http, check: {path: "/a b"}}}'), [(5, "roles.web.endpoints.h.check.path", "path of a URL")]),
    "check injects": (role(r'endpoints: {h: {port: 1, protocol: http, check: {path: "/\n  bind :1"}}}'), [(5, "roles.web.endpoints.h.check.path", "path of a URL")]),
    "two keys": (role("instances: 1\n    instances: 2"), [(6, "roles.web.instances", "is given twice")]),
    "a port twice": (role("endpoints: {a: {port: 80}, b: {port: 80}}"), [(5, "roles.web.endpoints.b.port", "roles.web.endpoints.a has it already")]),
    "a port in a range": (role("endpoints: {a: {port: 80-90, target: 1, visibility: instance}, b: {port: 85}}"), [(5, "roles.web.endpoints.b.port", "port 85 is given twice")]),
    "short range": (role("instances: 3\n    endpoints: {a: {port: 1-2, target: 1, visibility: instance}}"), [(6, "roles.web.endpoints.a.port", "2 ports for 3 instances")]),
    "relative file": (role("setup: {files: [{path: etc/x, content: a}]}"), [(5, "roles.web.setup.files[0].path", "absolute path")]),
    "mode": (role('setup: {files: [{path: /x, content: a, mode: "999"}]}'), [(5, "roles.web.setup.files[0].mode", "must be four octal digits, like 0644, got '999'")]),
    "key of two lines": (role(r'setup: {ssh_authorized_keys: ["a\nb"]}'), [(5, "roles.web.setup.ssh_authorized_keys[0]", "must be one line")]),
    "user data": (role("setup: {user_data: echo}"), [(5, "roles.web.setup.user_data", "#cloud-config")]),
    "user data with a date": (role("setup: {user_data: {a: 2024-01-01}}"), [(5, "roles.web.setup.user_data.a", "is read as a date")]),
    "setting": (role('setup: {settings: {"a b": c}}'), [(5, "roles.web.setup.settings.a b", "must be letters")]),
    "time": (role("ready: {timeout: 5}"), [(5, "roles.web.ready.timeout", "must be a time like")]),
    "everything at once": (
        "service: hello\nroles:\n  web:\n    instances: x\n    size: {vcpus: 0}\n  b:\n    image: 5\n",
        [(3, "roles.web.image", "is missing"), (4, "roles.web.instances", "whole number"), (5, "roles.web.size.vcpus", "got 0"), (7, "roles.b.image", "must be a text")],
    ),
    "tabs": ("service: a\nroles:\n\tweb: {}", [(3, "", "is not YAML: it has a tab"), (3, "roles.web.image", "is missing")]),
    "no end": ("service: {a", [(1, "", "is not YAML")]),
    "two documents": ("--- a\n--- b", [(2, "", "is not YAML")]),
    "a Python object": ("!!python/object:os.system x", [(1, "", "has the tag '!!python/object:os.system'")]),
    "no such date": (role("instances: 2024-99-99"), [(5, "roles.web.instances", "month must be in 1..12")]),
    "a date": (role("setup: {settings: {A: 2024-01-01}}"), [(5, "roles.web.setup.settings.A", "put it in quotes")]),
    "no digits": (role("instances: 0x_"), [(5, "roles.web.instances", "is read as a number, but is none")]),
    "itself": (role("setup: &a {run: [*a]}"), [(5, "roles.web.setup.run[0]", "holds itself")]),
    "its own merge": (role("setup: &a {<<: *a}"), [(5, "roles.web.setup.<<", "holds itself"), (5, "roles.web.setup.<<", "must be an alias")]),
    "a bad merge": (role("setup: {<<: 5}"), [(5, "roles.web.setup.<<", "must be an alias of a mapping")]),
    "a deep pit": ("service:\n " + "[" * 3000, [(2, "", "is nested too deeply")]),
    "an endless number": (role("instances: " + "1" * 5000), [(5, "roles.web.instances", "too large a number")]),
    "not a finite number": (role("setup: {user_data: {d: .nan}}"), [(5, "roles.web.setup.user_data.d", "too large a number, or none")]),
    "a strange tag and more": (role("instances: !foo 5\n    size: {vcpus: 0}"), [(5, "roles.web.instances", "has the tag '!foo'"), (6, "roles.web.size.vcpus", "must be at least 1, got 0")]),
    "a tagged mapping": (role("size: !foo {vcpus: 0}"), [(5, "roles.web.size", "has the tag"), (5, "roles.web.size.vcpus", "at least 1")]),
    "bytes": (role("setup: {settings: {A: !!binary aGk=}}"), [(5, "roles.web.setup.settings.A", "has the tag '!!binary'")]),
    "a tab and more": ("service: a\nroles:\n\tweb:\n\t\timage: b\n\t\tinstances: 0\n", [(3, "", "a tab"), (4, "", "a tab"), (5, "", "a tab"), (5, "roles.web.instances", "at least 1")]),
    "a control character": ("service: a\x07b\nroles: {w: {image: a, x: 1}}", [(1, "", "U+0007 in column 11"), (1, "service", "is not a name"), (2, "roles.w.x", "not a field")]),
    "keys that are no texts": (role("1: 2\n    yes: 3\n    ? [a]\n    : 4"), [(5, "roles.web.1", "not a text"), (5, "roles.web.1", "not a field"), (6, "roles.web.yes", "not a text"), (6, "roles.web.yes", "not a field"), (7, "roles.web", "has a key that no field could have")]),
    "a key that no terminal shows": (role(r'"\e[2J": 1'), [(5, r"roles.web.'\x1b[2J'", "is not a field here")]),
    "half characters": (role(r'"\ud800": 1'+"\n"+r'    setup: {user_data: {a: "\ud800"}, settings: {A: "\udc80"}}'), [(5, "roles.web", "no field could have"), (6, "roles.web.setup.settings.A", "half of a character"), (6, "roles.web.setup.user_data.a", "half")]),
    "user data's keys": (role("setup: {user_data: {on: 1, a: {2: 3}}}"), [(5, "roles.web.setup.user_data.a.2", "put it in quotes"), (5, "roles.web.setup.user_data.on", "put it in quotes")]),
    "user data as a text": (role("setup:\n      user_data: |\n        #cloud-config\n        a: 1\n        a: !x 2\n        d: 2024-13-01"), [(9, "roles.web.setup.user_data.a", "has the tag"), (9, "roles.web.setup.user_data.a", "is given twice"), (10, "roles.web.setup.user_data.d", "read as a date")]),
    "user data that is no YAML": (role("setup:\n      user_data: |\n        #cloud-config\n        a: ["), [(9, "roles.web.setup.user_data", "is not YAML")]),
    "user data of nothing": (role('setup: {user_data: "#cloud-config"}'), [(5, "roles.web.setup.user_data", "must be a mapping")]),
    "a text beside a list": (
        role("setup:\n      settings: {A: b}\n      files: [{path: /x, content: a}]\n      run: [a]\n      ssh_authorized_keys: [k]\n      user_data:\n        runcmd: null\n        ssh_authorized_keys: {}\n        write_files: a"),
        [(12, "roles.web.setup.user_data.ssh_authorized_keys", "must be a list"), (13, "roles.web.setup.user_data.write_files", "setup.files")],
    ),
    "a text beside a mapping": (role("setup: {ntp: {servers: [a]}, user_data: {ntp: true}}"), [(5, "roles.web.setup.user_data.ntp", "must be a mapping: it is joined to that of setup.ntp")]),
    "no vendor data": (role("setup: {user_data: {vendor_data: {enabled: false}}}"), [(5, "roles.web.setup.user_data.vendor_data", "cannot be changed")]),
    "much memory": (role("size: {memory: 2TiB, disk: 3TiB}"), [(5, "roles.web.size.disk", "must be at most 2TiB"), (5, "roles.web.size.memory", "must be at most 1TiB, got 2TiB")]),
    "a long time": (role("ready: {timeout: 25h}"), [(5, "roles.web.ready.timeout", "must be at most 24h, got 25h")]),
    "stop": (role("stop: {drain: 25h, timeout: 0s, keep_overlay: 721h, x: 1}"), [(5, "roles.web.stop.drain", "24h"), (5, "roles.web.stop.keep_overlay", "720h"), (5, "roles.web.stop.timeout", "at least 1s"), (5, "roles.web.stop.x", "not a field")]),
    "repair": (role("repair: {grace: 25h, max_percent: 0, restart: {tries: -1, wait: x, y: 1}, z: 1}"), [(5, "roles.web.repair.grace", "24h"), (5, "roles.web.repair.max_percent", "at least 1"), (5, "roles.web.repair.restart.tries", "at least 0"), (5, "roles.web.repair.restart.wait", ""), (5, "roles.web.repair.restart.y", "not a field"), (5, "roles.web.repair.z", "not a field")]),
    "repair on": (role("repair: on"), [(5, "roles.web.repair", "must be off, or a mapping")]),
    "repair of nothing": (role("repair:"), [(5, "roles.web.repair", "must be off, or a mapping")]),
    "a reversed range": (role("endpoints: {h: {port: 9109-9100, target: 1, visibility: instance}}"), [(5, "roles.web.endpoints.h.port", "ends before it begins: say 9100-9109")]),
    "no services": (role("ready: {services: 5}"), [(5, "roles.web.ready.services", "must be auto or a list of services")]),
    "a service that is none": (role('ready: {services: [a, 5, "b\\nc"]}'), [(5, "roles.web.ready.services[1]", "must be a text"), (5, "roles.web.ready.services[2]", "a service's name")]),
    "commands": (
        role(r'setup: {run: ["", [], [""], 5, [a, 5], "a\0b", "\ud800", null]}'),
        [(5, f"roles.web.setup.run[{n}]", said) for n, said in enumerate(["is an empty command", "is an empty command", "is an empty command", "must be a shell line", "must be a shell line", "holds a NUL", "half of a character", "must be a shell line"])],
    ),
    "owner": (role("setup: {files: [{path: /x, content: a, owner: root}]}"), [(5, "roles.web.setup.files[0].owner", "must be user:group, like www-data:www-data, got 'root'")]),
    "a mode without quotes": (role("setup: {files: [{path: /x, content: a, mode: 0644}]}"), [(5, "roles.web.setup.files[0].mode", 'in quotes, like "0644"')]),
    "a small disk": (role("volumes: {d: {size: 15MiB, mount: /srv}}"), [(5, "roles.web.volumes.d.size", "must be at least 16MiB, got 15MiB")]),
    "a disk of nothing": (role("local_storage: {d: {}}"), [(5, "roles.web.local_storage.d.mount", "is missing"), (5, "roles.web.local_storage.d.size", "is missing")]),
    "a disk's root folder": (role("volumes: {d: {size: 1GiB, mount: /srv, owner: Root, mode: 7}}"), [(5, "roles.web.volumes.d.mode", "four octal digits"), (5, "roles.web.volumes.d.owner", "user:group")]),
    "clean volumes": (role("volumes: {d: {size: 1GiB, mount: /srv, clean_on_reimage: true}}"), [(5, "roles.web.volumes.d.clean_on_reimage", "not a field")]),
    "perhaps clean": (role("local_storage: {d: {size: 1GiB, mount: /srv, clean_on_reimage: 1}}"), [(5, "roles.web.local_storage.d.clean_on_reimage", "must be true or false")]),
    "two disks at one place": (
        role("local_storage:\n      cache: {size: 1GiB, mount: /srv}\n    volumes:\n      data:\n        size: 5GiB\n        mount: /srv\n      cache: {size: 1GiB, mount: /c}"),
        [(10, "roles.web.volumes.data.mount", "'/srv' is taken: roles.web.local_storage.cache has the same mount"), (11, "roles.web.volumes.cache", "has the same name")],
    ),
    "many disks": (role("volumes: {" + ", ".join(f"d{n}: {{size: 1GiB, mount: /d{n}}}" for n in range(21)) + "}"), [(3, "roles.web", "has 21 disks; 20 are the most")]),
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


def problems_of(path: Path, content: bytes) -> list[str]:
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        load(path, any_image)
    return [str(problem) for problem in caught.value.problems]


def test_bytes_that_are_no_text_are_one_problem(tmp_path: Path):
    assert problems_of(tmp_path / "f", b"a: b\n" + bytes(range(256))) == [
        "line 2: is binary, not a text: it holds a NUL"
    ]
    assert problems_of(tmp_path / "f", GOOD.encode("utf-16"))[0].startswith("line 1: is binary")


def test_a_byte_of_another_encoding_is_told_with_everything_else(tmp_path: Path):
    text = role('instances: 0\n    setup: {run: ["echo Grüße"]}').encode("latin-1")
    assert problems_of(tmp_path / "f", text) == [
        "line 5: roles.web.instances: must be at least 1, got 0",
        "line 6: is not UTF-8: byte 0xfc in column 27",
    ]


def test_a_small_file_that_stands_for_a_billion_values_is_a_problem():
    lines = ["a0: &a0 [" + "x, " * 9 + "x]", *(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 10}]" for n in range(1, 9))]
    with pytest.raises(InvalidInput) as caught:
        parse("\n".join([*lines, role("x: *a8")]), "f")
    told = [problem for problem in caught.value.problems if "is too large" in problem.message]
    assert [(problem.line, problem.path) for problem in told] == [(6, "a5")]


def test_a_chain_of_aliases_is_as_deep_as_it_stands_for():
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 2000))]
    with pytest.raises(InvalidInput, match="too deep, once its aliases are filled in"):
        parse("\n".join(lines), "f")


def test_aliases_and_merges_are_what_they_stand_for():
    text = "service: a\nroles:\n  b: &b\n    image: c\n    instances: 2\n  d: {<<: *b, instances: 3}\n  e: *b\n"
    assert [(role.name, role.image, role.instances) for role in parse(text, "f").roles] == [
        ("b", "c", 2), ("d", "c", 3), ("e", "c", 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "mount",
    ["/", "srv", "/srv/", "/srv//a", "/a/../b", "/.", "/a b", "/proc", "/run/x", "/etc", "/tmp", "", "5", "/" + "a" * 100],
)  # fmt: skip
def test_where_no_disk_can_be_mounted(mount):
    with pytest.raises(InvalidInput) as caught:
        parse(role(f'volumes: {{d: {{size: 1GiB, mount: "{mount}"}}}}'), "f")
    assert [(problem.line, problem.path) for problem in caught.value.problems] == [(5, "roles.web.volumes.d.mount")]


# Words that YAML or a service file gives a meaning, so that random texts get further than the first character.
WORDS = [
    *"-:[]{},&*!|>'\"%@`#?=\t\n\0\ufeff\x85\u2028é", "\n  ", "\n    ", ": ", "- ", "&a ", "*a", "<<: ", "!!int ", "!!python/name:x ",
    "!!timestamp ", "!!set ", "? ", "0x", "1:1", "1e9", ".inf", "2024-99-99", "null", "yes", "\\ud800", "\\UFFFFFFFF", "%YAML 9",
    "\n---\n", "service: ", "roles: ", "web: ", "image: ", "endpoints: ", "port: ", "setup: ", "user_data: ", "run: ", "volumes: ",
    "size: ", "mount: ", "#cloud-config\n", "ready: ", "9" * 5000,
]  # fmt: skip


def is_service_or_problems(data: bytes) -> bool:
    try:
        return isinstance(parse(data.decode(errors="surrogateescape"), "f"), Service)
    except InvalidInput as error:
        str(error).encode()  # can be printed
        return bool(error.problems) and all(problem.line >= 1 for problem in error.problems)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(WORDS) | st.text(max_size=5), max_size=30).map("".join))
def test_any_text_is_a_service_or_a_list_of_problems(text):
    assert is_service_or_problems(text.encode(errors="surrogatepass"))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, len(GOOD)), st.integers(0, 12), st.sampled_from(WORDS).map(str.encode) | st.binary(max_size=5))
def test_a_good_file_with_an_accident_is_a_service_or_a_list_of_problems(place, length, accident):
    data = GOOD.encode()
    assert is_service_or_problems(data[:place] + accident + data[place + length :])


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
        "line 5: roles.web.instances: must be at least 1, got 0",
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
