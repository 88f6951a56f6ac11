"""Local files that a service file names, and the user's own user-data in every form that cloud-init knows."""

import json

import pytest

from orchestrator.config.servicefile import load, parse
from orchestrator.config.sources import MAX_BYTES
from orchestrator.errors import InvalidInput
from orchestrator.model.setup import Certificate, Command, File, Shell, When

from .test_setupform import PEM, role, setup_of

MIME = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="b"

--b
Content-Type: text/cloud-config

packages: [vim]
--b
Content-Type: text/x-shellscript; charset="utf-8"
Content-Transfer-Encoding: base64

IyEvYmluL3NoCmVjaG8gw6QK
--b--
"""
SCRIPT = ("text/x-shellscript", "#!/bin/sh\necho ä\n")


@pytest.mark.parametrize(
    ("given", "config", "parts"),
    [
        (MIME, {"packages": ["vim"]}, (SCRIPT,)),
        (SCRIPT[1], {}, (SCRIPT,)),
        ("#cloud-config\npackages: [vim]", {"packages": ["vim"]}, ()),
        ("#cloud-boothook\nx", {}, (("text/cloud-boothook", "#cloud-boothook\nx"),)),
        (
            "## template: jinja\n#cloud-config\na: {{{{ b }}",
            {},
            (("text/jinja2", "## template: jinja\n#cloud-config\na: {{{{ b }}"),),
        ),
        ([{"content": SCRIPT[1]}, {"type": "text/cloud-config", "content": "a: 1"}], {"a": 1}, (SCRIPT,)),
        (
            [{"content": "#cloud-config\na: [1]\nb: 1"}, {"content": "#cloud-config\na: [2]\nb: 2"}],
            {"a": [1, 2], "b": 2},
            (),
        ),
        (
            "#cloud-config-archive\n- content: |\n    #cloud-config\n    a: 1\n- {type: text/x, content: y}",
            {"a": 1},
            (("text/x", "y"),),
        ),
        (
            [{"content": "#cloud-config\nmerge_how: x\na: 1"}],
            {},
            (("text/cloud-config", "#cloud-config\nmerge_how: x\na: 1"),),
        ),
        ([], {}, ()),
    ],
)
def test_user_data_in_every_form(given, config, parts):
    found = setup_of(role(f"user_data: {json.dumps(given)}"))
    assert (json.loads(found.user_data or "{}"), found.user_parts) == (config, parts)


def test_local_files_are_read_where_the_service_file_is(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, data in {
        "a.txt": "ä".encode(),
        "b.bin": b"\xff\0",
        "c.sh": b"#!/bin/sh\n",
        "d.ps1": b"Get-Date",
        "sub/ca.pem": PEM.encode(),
        "u.xml": "<u>ä</u>".encode("utf-16"),
        "p": b"#!/bin/sh\n",
        "k.p12": b"\xff",
    }.items():
        (tmp_path / name).write_bytes(data)
    text = role("""files: [{path: /a, source: a.txt}, {path: /b, source: b.bin}]
      run: [{source: c.sh}]
      startup_tasks: [{source: d.ps1}]
      trusted_certificates: [{name: ca, source: sub/ca.pem}]
      certificates: [{name: own, source: k.p12}]
      user_data: [{source: p}]
      unattend: {source: u.xml}""")
    (tmp_path / "hello.yaml").write_text(text)
    found = load(tmp_path / "hello.yaml", lambda _reference: "").roles[0].setup
    assert found.files == (File("/a", "ä"), File("/b", "/wA=", is_template=False, is_base64=True))
    assert found.commands == (Command("#!/bin/sh\n"), Command("Get-Date", When.START_UP, Shell.POWERSHELL))
    assert found.certificates == (Certificate("own", "/w=="), Certificate("ca", PEM, is_root=True))
    assert (found.user_parts, found.unattend) == ((("text/x-shellscript", "#!/bin/sh\n"),), "<u>ä</u>")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-8"])
def test_an_answer_file_is_read_in_the_encoding_that_it_says(tmp_path, encoding):
    declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>'
    (tmp_path / "u.xml").write_bytes(f"{declared}\n<u>ä</u>".encode(encoding))
    (tmp_path / "hello.yaml").write_text(role("unattend: {source: u.xml}"))
    (found,) = load(tmp_path / "hello.yaml", lambda _reference: "").roles
    assert found.setup.unattend == "\n<u>ä</u>"


def test_local_files_that_cannot_be_read_are_told_all_at_once(tmp_path):
    (tmp_path / "large").write_bytes(bytes(MAX_BYTES + 1))
    (tmp_path / "variable").write_text("{{nobody}}")
    (tmp_path / "folder").mkdir()
    text = role("""files:
        - {path: /a, source: nowhere}
        - {path: /b, source: folder}
        - {path: /c, source: large}
        - {path: /d, source: variable}
        - {path: /e, source: variable, content: x}
        - {path: /f, source: 5}
        - {path: /g, source: ""}
      run: [{source: nowhere, name: x}]
      user_data: [{source: nowhere}]
      unattend: {source: nowhere}""")
    with pytest.raises(InvalidInput) as caught:
        parse(text, "hello.yaml", folder=tmp_path)
    found = {
        problem.path.removeprefix("roles.web.setup."): (problem.line, problem.message)
        for problem in caught.value.problems
    }
    assert found.pop("files[3]")[1].startswith("speaks of {{nobody}}")
    told = {path: message for path, (_line, message) in found.items()}
    assert told.pop("files[1].source") == "'folder' is not a regular file"
    assert "is too large" in told.pop("files[2].source")
    assert "has both content and source" in told.pop("files[4].source")
    assert told.pop("files[5].source") == told.pop("files[6].source") == "must be the path of a local file"
    assert set(told) == {"files[0].source", "run[0].source", "user_data[0].source", "unattend.source"}
    assert set(told.values()) == {"'nowhere' cannot be read: No such file or directory"}
    assert found["files[0].source"][0] == 7


def test_all_local_files_together_are_not_too_many(tmp_path):
    (tmp_path / "a").write_bytes(b"a" * MAX_BYTES)
    items = "".join("\n        - {path: /a, source: a}" for _n in range(6))
    with pytest.raises(InvalidInput) as caught:
        parse(role(f"files:{items}"), "hello.yaml", folder=tmp_path)
    assert [problem.path[-16:] for problem in caught.value.problems] == ["files[4].source", "files[5].source"] or len(
        caught.value.problems
    ) == 2
