"""Images on real guests: every format boots, the admission test tells, new ones are made, none in use is lost."""

import json

import pytest

from tests.e2e.conftest import fetch, service, write

pytestmark = pytest.mark.vm


@pytest.fixture
def images(lab):
    """The lab; images that a test has added are removed after it."""
    before = {f"{i['name']}:{i['version']}" for i in listed(lab)}
    yield lab
    lab.forget_all()
    for image in listed(lab):
        reference = f"{image['name']}:{image['version']}"
        if reference not in before:
            lab.ok("image", "rm", reference)


def listed(lab):
    return json.loads(lab.ok("image", "ls", "--json").out)


def digest(lab, name):
    return json.loads(lab.ok("image", "show", name, "--json").out)["digest"]


def test_every_format_comes_back_and_boots(images, tmp_path):
    value = service("formats")
    web = value["roles"].pop("web")
    for number, kind in enumerate(("vhd", "vhdx", "vmdk")):
        file = tmp_path / f"disk.{kind}"
        images.ok("image", "export", "tiny", str(file), "--format", kind, timeout=120)
        images.ok("image", "add", f"from-{kind}", str(file), timeout=120)
        port = {"http": {"port": 80 + number, "target": 80, "protocol": "http"}}
        value["roles"][kind] = {**web, "image": f"from-{kind}", "endpoints": port}
    assert digest(images, "from-vhdx") == digest(images, "tiny") == digest(images, "from-vmdk")
    images.ok("up", write(tmp_path / "formats.yaml", value))
    vip = images.status("formats")["vip"]
    assert [fetch(f"http://{vip}:{80 + n}/").split()[0] for n in range(3)] == ["vhd-0", "vhdx-0", "vmdk-0"]


def test_the_admission_test_tells_and_up_warns(images, tmp_path):
    images.ok("image", "tag", "tiny", "tried:1")
    file = write(tmp_path / "tried.yaml", service("tried", image="tried"))
    told = json.loads(images.ok("image", "test", "tried", "--json", "--memory", "128MiB").out)
    assert (told["passed"], told["firmware"], told["setup"]) == (True, "bios", "finished without errors")
    assert "httpd" in told["services"]
    assert [stage for stage, _seconds in told["seconds"]] == ["agent", "setup", "services"]
    assert told["agent"]
    assert images.remains() == []  # the machine and its network are gone
    assert "never passed" not in images.ok("up", file).err
    assert "passed at" in images.ok("image", "show", "tried").out


def test_an_image_is_customized_and_captured(images, tmp_path):
    images.ok("image", "tag", "tiny", "plain:1")
    (tmp_path / "page.html").write_bytes(b"mine \xff\n")
    copy = f"{tmp_path / 'page.html'}:/var/www/mine.html"
    plain = ("image", "customize", "plain", "--memory", "128MiB")
    failed = images.run(*plain, "--run", "echo no way >&2; exit 3", "--as", "unfit")
    assert failed.code == 1
    assert "ended with 3" in failed.err
    assert "no way" in failed.err
    assert images.remains() == []
    assert not [i for i in listed(images) if i["name"] == "unfit"]
    images.ok(*plain, "--copy", copy, "--run", "echo built > /root/built", "--as", "mine:1")
    done = images.ok("up", write(tmp_path / "mine.yaml", service("mine", image="mine")))
    assert "never passed" in done.err
    assert images.ok("exec", "mine/web-0", "--", "cat", "/root/built").out == "built\n"
    vip = images.status("mine")["vip"]
    assert fetch(f"http://{vip}/").startswith("web-0 generation 1 of mine")  # set up as itself, not as the trial
    assert images.ok("exec", "mine/web-0", "--", "wc", "-c", "/var/www/mine.html").out.split()[0] == "7"
    refused = images.run("image", "rm", "mine:1")  # what runs on an image keeps it
    assert refused.code == 1
    assert "mine/web-0" in refused.err
    assert "goes when nobody needs it" in images.ok("image", "rm", "mine:1", "--when-unused").out

    images.ok("exec", "mine/web-0", "--", "sh", "-c", "echo later > /root/later; sync")
    assert images.run("image", "capture", "mine/web-0", "--as", "taken").code == 1  # it runs
    images.ok("stop", "mine/web-0")
    images.ok("image", "capture", "mine/web-0", "--as", "taken", "--memory", "128MiB")
    images.ok("start", "mine/web-0")
    assert images.ok("exec", "mine/web-0", "--", "cat", "/root/later").out == "later\n"
    images.ok("up", write(tmp_path / "taken.yaml", service("taken", image="taken")))
    assert images.ok("exec", "taken/web-0", "--", "cat", "/root/built", "/root/later").out == "built\nlater\n"
    assert fetch(f"http://{images.status('taken')['vip']}/").startswith("web-0 generation 1 of taken")
    images.ok("down", "mine", "--yes")
    assert not [i for i in listed(images) if i["name"] == "mine"]  # it was to go as soon as nobody needs it
