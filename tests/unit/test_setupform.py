# ruff: noqa: E501 - a table reads best with one file a line
"""The ``setup`` section: every field as a value, and every problem with its path, local files and parts included."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config.servicefile import parse
from orchestrator.errors import InvalidInput
from orchestrator.model.secret import SecretRef
from orchestrator.model.setup import Certificate, Command, File, Join, Setup, Shell, User, When

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
ALL = f"""\
service: hello
roles:
  web:
    image: debian-12
    setup:
      hostname: "{{{{instance}}}}-x"
      timezone: Europe/Berlin
      locale: de_DE.UTF-8
      keyboard: de
      users:
        - {{name: app, full_name: The App, groups: [adm], password: {{secret: file:/pw}}, ssh_authorized_keys: [k], admin: true, shell: /bin/sh}}
        - {{name: old, password_hash: $6$a$b}}
        - {{name: new, password_hash: {{secret: env:H}}}}
      administrator: {{password: {{secret: store:root}}}}
      ssh_authorized_keys: [k]
      files:
        - {{path: /a, content: "{{{{dip}}}}", mode: "0600", owner: app:app}}
        - {{path: /b, secret: file:key, template: false}}
      packages: [vim, nginx=1.22-1]
      run: [echo hi, [touch, /x], {{run: [a, b], name: c, timeout: 90s}}, {{script: "#!/bin/bash\\n", name: s}}]
      run_every_boot: [{{run: every}}]
      startup_tasks: [{{name: t, powershell: Get-Date}}]
      certificates: [{{name: web, content: "{PEM.strip().replace(chr(10), chr(92) + "n")}", password: {{secret: env:P}}}}]
      trusted_certificates: [{{name: ca, secret: file:ca.pem}}]
      ntp: {{servers: [192.0.2.1, ntp.example.org]}}
      dns: {{servers: ["192.0.2.2"], search: [example.org]}}
      network: static
      domain_join: {{domain: ad.example.org, user: joiner, password: {{secret: env:J}}, unit: "OU=x"}}
      license_key: {{secret: env:L}}
      settings: {{B: b, A: "{{{{role}}}}"}}
      user_data: {{a: 1}}
      unattend: <unattend/>
"""


def setup_of(text: str, folder: Path | None = None) -> Setup:
    return parse(text, "hello.yaml", folder=folder).roles[0].setup


def role(fields: str) -> str:
    return f"service: hello\nroles:\n  web:\n    image: debian-12\n    setup:\n      {fields}\n"


def test_every_field_is_a_value():
    assert setup_of(ALL) == Setup(
        hostname="{{instance}}-x",
        timezone="Europe/Berlin",
        locale="de_DE.UTF-8",
        keyboard="de",
        users=(
            User(
                "app", ("adm",), SecretRef("file:/pw"), "", ("k",), is_admin=True, shell="/bin/sh", full_name="The App"
            ),
            User("old", password_hash="$6$a$b"),
            User("new", password_hash=SecretRef("env:H")),
        ),
        administrator_password=SecretRef("store:root"),
        ssh_authorized_keys=("k",),
        files=(File("/a", "{{dip}}", "0600", "app:app"), File("/b", SecretRef("file:key"), is_template=False)),
        packages=("vim", "nginx=1.22-1"),
        commands=(
            Command("echo hi"),
            Command(("touch", "/x")),
            Command(("a", "b"), name="c", timeout_s=90.0),
            Command("#!/bin/bash\n", name="s"),
            Command("every", When.EVERY_BOOT),
            Command("Get-Date", When.START_UP, Shell.POWERSHELL, "t"),
        ),
        certificates=(
            Certificate("web", PEM.strip(), password=SecretRef("env:P")),
            Certificate("ca", SecretRef("file:ca.pem"), is_root=True),
        ),
        ntp_servers=("192.0.2.1", "ntp.example.org"),
        dns_servers=("192.0.2.2",),
        dns_search=("example.org",),
        is_static=True,
        join=Join("ad.example.org", "joiner", SecretRef("env:J"), "OU=x"),
        license_key=SecretRef("env:L"),
        settings=(("A", "{{role}}"), ("B", "b")),
        user_data='{"a": 1}',
        unattend="<unattend/>",
    )


# fields of setup → (path below roles.web.setup, a part of the message) of every problem
BAD: dict[str, tuple[str, list[tuple[str, str]]]] = {
    "unknown": ("hostnam: a", [("hostnam", "is not a field here")]),
    "user parts": ("user_parts: []", [("user_parts", "is not a field here")]),
    "hostname": ('hostname: "a b"', [("hostname", "is no host name")]),
    "long hostname": (f'hostname: "{{{{role}}}}-{"a" * 60}.{"b" * 20}"', [("hostname", "is no host name")]),
    "hostname's variable": ('hostname: "{{nobody}}"', [("hostname", "{{nobody}}, which is no variable")]),
    "timezone": ("timezone: ../etc", [("timezone", "like Europe/Berlin")]),
    "locale": ('locale: "de_DE; rm"', [("locale", "like de_DE.UTF-8")]),
    "keyboard": ('keyboard: "de\\n"', [("keyboard", "keyboard layout")]),
    "user": (
        "users: [{name: a/b, groups: ['B,b'], shell: sh}]",
        [
            ("users[0].groups[0]", "group's name"),
            ("users[0].name", "account's name"),
            ("users[0].shell", "absolute path"),
        ],
    ),
    "two users": ("users: [{name: a}, {name: a}]", [("", "two users named a")]),
    "two passwords": (
        'users: [{name: a, password: {secret: env:A}, password_hash: "$6$a$b"}]',
        [("users[0]", "give one")],
    ),
    "a clear password": ("users: [{name: a, password: clear}]", [("users[0].password", "must be a mapping")]),
    "a clear hash": ("users: [{name: a, password_hash: clear}]", [("users[0]", "openssl passwd -6")]),
    "a hash of two lines": (r'users: [{name: a, password_hash: "$6$a$b\nroot:x"}]', [("users[0]", "crypt(3)")]),
    "full name": ("users: [{name: a, full_name: 'a:b'}]", [("users[0]", "cannot hold")]),
    "root twice": (
        "users: [{name: root}], administrator: {password: {secret: env:A}}",
        [("", "user root beside administrator")],
    ),
    "administrator": ("administrator: {}", [("administrator.password", "is missing")]),
    "no secret": (
        "administrator: {password: {secret: s3cret}}",
        [("administrator.password.secret", "must say where the secret is")],
    ),
    "a variable's name": (
        "administrator: {password: {secret: 'env:a b'}}",
        [("administrator.password.secret", "env:NAME")],
    ),
    "no content": ("files: [{path: /x}]", [("files[0]", "exactly one of content, secret")]),
    "two contents": ("files: [{path: /x, content: a, secret: env:A}]", [("files[0]", "exactly one of")]),
    "up": ("files: [{path: /a/../b, content: a}]", [("files[0].path", "absolute path")]),
    "file's variable": (
        'files: [{path: "/{{a}}", content: "{{b}}"}, {path: "/{{c}}", content: "{{d}}", template: false}]',
        [("files[0].content", "{{b}}"), ("files[0].path", "{{a}}"), ("files[1].path", "{{c}}")],
    ),
    "packages": (
        'packages: ["-y", "a b", vim]',
        [("packages[0]", "package's name"), ("packages[1]", "package's name")],
    ),
    "command": (
        "run: [5, {}, {run: a, script: b}, {name: x}, {script: ''}]",
        [
            ("run[0]", "must be a shell line"),
            ("run[1]", "exactly one of"),
            ("run[2]", "exactly one of"),
            ("run[3]", "exactly one of"),
            ("run[4].script", "must not be empty"),
        ],
    ),
    "command's fields": (
        "startup_tasks: [{run: a, timeout: 0s, name: '', x: 1}]",
        [
            ("startup_tasks[0].name", "one line"),
            ("startup_tasks[0].timeout", "at least 1s"),
            ("startup_tasks[0].x", "not a field"),
        ],
    ),
    "two tasks": ("startup_tasks: [{run: a, name: x}, {run: b, name: x}]", [("", "two startup_tasks named x")]),
    "command's variable": (
        'run: ["{{a}}", [b, "{{c}}"], {script: "{{d}}"}]',
        [("run[0]", "{{a}}"), ("run[1][1]", "{{c}}"), ("run[2].script", "{{d}}")],
    ),
    "certificate": ("certificates: [{name: a/b, content: x}]", [("certificates[0].name", "letters, digits")]),
    "certificate's content": (
        "certificates: [{name: a, content: x}], trusted_certificates: [{name: b}, {name: c, content: y}]",
        [
            ("certificates[0]", "no certificate in PEM"),
            ("trusted_certificates[0]", "exactly one"),
            ("trusted_certificates[1]", "no certificate in PEM"),
        ],
    ),
    "two certificates": (
        "certificates: [{name: a, secret: env:A}], trusted_certificates: [{name: a, secret: env:A}]",
        [("", "two certificates named a")],
    ),
    "ntp": ("ntp: {servers: []}", [("ntp.servers", "must not be empty")]),
    "ntp server": ("ntp: {servers: ['a b']}", [("ntp.servers[0]", "name or an address")]),
    "dns": (
        "dns: {servers: [ns.example.org], search: [a b]}",
        [("dns.search[0]", "name or an address"), ("dns.servers[0]", "an IP address")],
    ),
    "network": ("network: bridged", [("network", "dhcp or static")]),
    "join": ("domain_join: {domain: a}", [("domain_join.password", "is missing"), ("domain_join.user", "is missing")]),
    "license": ("license_key: 5", [("license_key", "must be a text or {secret")]),
    "license secret": ("license_key: {secret: x}", [("license_key.secret", "must say where the secret is")]),
    "setting's variable": ('settings: {A: "{{a}}"}', [("settings.A", "{{a}}")]),
    "user data's variable": ('user_data: {a: ["{{b}}"]}', [("user_data.a[0]", "{{b}}")]),
    "user data": ("user_data: 5", [("user_data", "must be a mapping, a list of parts")]),
    "user data of a kind": ("user_data: |\n        nothing", [("user_data", "must be a mapping, a list of parts")]),
    "parts": (
        "user_data: [a, {type: text/plain}, {content: x}, {type: a b, content: x}, {content: '#!x', x: 1}]",
        [
            ("user_data[0]", "{type, content}"),
            ("user_data[1]", "{type, content}"),
            ("user_data[2]", "give it a type"),
            ("user_data[3]", "give it a type"),
            ("user_data[4]", "{type, content}"),
        ],
    ),
    "a part that is no mapping": (
        "user_data: [{content: '#cloud-config\n[a]'}]",
        [("user_data[0].content", "must be a mapping")],
    ),
    "a part's YAML": (
        "user_data:\n        - content: |\n            #cloud-config\n            a: [",
        [("user_data[0].content", "is not YAML")],
    ),
    "a part's vendor data": (
        "user_data: [{content: '#cloud-config\n\nvendor_data: {enabled: false}'}]",
        [("user_data.vendor_data", "cannot be changed")],
    ),
    "a secret in user-data": (
        'user_data: {chpasswd: {users: [{password: {secret: "env:A"}}]}, a: {secret: x}}',
        [("user_data.chpasswd.users[0].password", "cannot be a secret here")],
    ),
    "a secret as content": (
        'files: [{path: /a, content: {secret: "env:A"}}, {path: /b, content: 5}]',
        [("files[0].content", "a secret takes its place"), ("files[1].content", "must be a text")],
    ),
    "no MIME": (
        "user_data: |\n        Content-Type: multipart/mixed; boundary=x\n        MIME-Version: 1.0\n\n        nothing",
        [("user_data", "is not MIME")],
    ),
    "unattend": ("unattend: <a>", [("unattend", "is not XML")]),
    "no folder": ("files: [{path: /x, source: a}]", [("files[0].source", "in no folder")]),
}


@pytest.mark.parametrize("name", BAD)
def test_every_problem_is_told_with_its_place(name):
    fields, wanted = BAD[name]
    text = "{" + fields + "}" if not fields.rstrip().endswith(("|", "nothing", "[")) else fields
    with pytest.raises(InvalidInput) as caught:
        parse(role(text) if text == fields else role("").replace("setup:\n      \n", f"setup: {text}\n"), "hello.yaml")
    found = sorted((problem.path, problem.message) for problem in caught.value.problems)
    assert [path for path, _message in found] == [f"roles.web.setup.{path}".rstrip(".") for path, _part in wanted]
    for (_path, message), (_wanted, part) in zip(found, wanted, strict=True):
        assert part in message


def test_a_secret_that_was_written_out_is_not_repeated():
    with pytest.raises(InvalidInput) as caught:
        parse(role("administrator: {password: {secret: hunter2}}"), "hello.yaml")
    assert "hunter2" not in str(caught.value) + repr(caught.value.problems)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.text(max_size=8) | st.none() | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["run", "source", "content", "name", "secret", "path", "type", "template"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=6,
    ),
    st.sampled_from(
        [
            "users",
            "files",
            "run",
            "startup_tasks",
            "certificates",
            "user_data",
            "unattend",
            "ntp",
            "settings",
            "hostname",
            "administrator",
        ]
    ),
)
def test_whatever_is_written_is_a_setup_or_told(value, field):
    problems = []
    try:
        setup_of(role(f"{field}: {json.dumps(value)}"))
    except InvalidInput as error:
        problems = [problem.path for problem in error.problems]
    assert all(path.startswith("roles.web") for path in problems)
