"""What becomes of cloud-configs that are not quite as setup has them, and of names that a Windows has no room for."""

import base64
import gzip

import pytest

from orchestrator.convert.files import Given, Wishes, convert
from orchestrator.convert.names import Computers


def made(text: str):
    return convert([Given("user-data", text.encode())], Wishes())


def test_a_file_of_bytes_is_one_in_base64():
    files = "[{path: /a, content: !!binary aGVsbG8A}, {path: /b, content: !!binary aGVsbG8A, encoding: gzip}]"
    value = made(f"#cloud-config\nwrite_files: {files}\n").value["roles"]["web"]["setup"]
    assert value["files"][0]["content"] == "hello\0"
    assert value["user_data"]["write_files"] == [{"path": "/b", "content": "aGVsbG8A", "encoding": "gz+b64"}]


@pytest.mark.parametrize(("packed", "how"), [(bytes, "b64"), (gzip.compress, "gz+b64")])
def test_base64_hides_no_secret(packed, how):
    content = base64.b64encode(packed(b"password=hunter2")).decode()
    text = f"#cloud-config\nwrite_files: [{{path: /a, content: {content}, encoding: {how}, append: true}}]\n"
    found = made(text)
    assert content not in found.text
    assert any(note.subject == "write_files//a" for note in found.notes)


def test_the_images_own_user_does_not_come_unsaid():
    alone, with_it = (made(f"#cloud-config\nusers: [{first}{{name: a}}]\n") for first in ("", "default, "))
    told = [[note for note in found.notes if note.subject == "users"] for found in (alone, with_it)]
    assert list(map(len, told)) == [1, 0]


def test_computers_have_names_that_windows_can_have():
    taken = Computers(["orderprocess", "orderprocessingweb", "orderprocessingdb", "web"])
    assert [taken.give(role, 12) for role in ("orderprocess", "orderprocessingweb", "orderprocessingdb", "web")] == [
        "", "orderproces2", "orderproces3", "",
    ]  # fmt: skip
    assert Computers(["a-very-long--name"]).give("a-very-long--name", 1) == "a-very-long"
