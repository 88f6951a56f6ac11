"""`vmrole image …` as people and scripts use it, with hosts of libvirt's own test driver: real answers, no guests."""

import hashlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.drivers.sqlite import SqliteStore
from orchestrator.model.names import base_volume
from orchestrator.model.rollout import Good
from orchestrator.model.spec import Platform
from orchestrator.wiring import make_home, owner_of
from tests.contract.corpus import disk_bytes
from tests.fakes.build import WEB, deployment, record, web

VMROLE = Path(__file__).resolve().parents[2] / ".venv/bin/vmrole"
NODE = """<node><pool type='dir'><name>vmrole-{owner}</name>
<target><path>/nowhere</path></target>{volumes}</pool></node>"""
OVERLAY = """<volume type='file'><name>{name}</name><capacity>1048576</capacity>
<target><path>/nowhere/{name}</path><format type='qcow2'/></target>
<backingStore><path>/nowhere/{base}</path><format type='qcow2'/></backingStore></volume>"""


class Home:
    """A state folder and the command line on it."""

    def __init__(self, folder):
        self.folder = make_home(folder / "home")
        self.node = folder / "node.xml"
        self.has_overlays()

    def has_overlays(self, **bases):
        """The one host's pool has these: instance → digest of the base."""
        volumes = "".join(OVERLAY.format(name=web(int(n[1:])).overlay, base=base_volume(d)) for n, d in bases.items())
        self.node.write_text(NODE.format(owner=owner_of(self.folder), volumes=volumes))
        self.is_on(f"test://{self.node}")

    def is_on(self, uri):
        host = {"name": "h0", "uri": uri, "dip_pool": "198.18.0.0/16", "forward": "open", "accelerator": "tcg"}
        site = {"hosts": [host], "vip_pool": "198.51.100.0/24", "balancer": [], "vip_device": "lo"}
        (self.folder / "site.json").write_text(json.dumps(site))

    def run(self, *args, code=0, stdin=b""):
        env = {**os.environ, "VMROLE_HOME": str(self.folder)}
        argv = [VMROLE, "image", *map(str, args)]
        done = subprocess.run(argv, env=env, capture_output=True, input=stdin, check=False, timeout=60)
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, said
        assert "Traceback" not in said
        return said

    def json(self, *args, code=0):
        env = {**os.environ, "VMROLE_HOME": str(self.folder)}
        done = subprocess.run([VMROLE, "image", *map(str, args), "--json"], env=env, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    def store(self):
        return SqliteStore(self.folder / "vmrole.db", owner_of(self.folder))


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


@pytest.fixture
def disk(tmp_path):
    def make(seed):
        path = tmp_path / f"{seed}.raw"
        path.write_bytes(disk_bytes(seed))
        return path

    return make


def test_add_show_tag_set_ls(home, disk):
    assert "web:1 added" in home.run("add", "web:1", disk(1), "--os", "linux", "--disk", "8GiB", "--note", "mine")
    home.run("set", "web:1", "--firmware", "uefi", "--tpm")
    home.run("tag", "web:1", "web:proven")
    shown = home.json("show", "web:1")
    assert shown["traits"] == {"os": "linux", "firmware": "uefi", "secure_boot": False, "tpm": True, "virtio": True,
                               "disk_bytes": 8 * 1024**3, "note": "mine", "drivers": ""}  # fmt: skip
    assert {found["version"] for found in home.json("ls")} == {"1", "proven"}
    assert "firmware uefi" in home.run("show", "web")
    assert "used by:  nobody" in home.run("show", "web")


def test_drivers_are_a_disc_of_the_repository_for_a_windows_only(home, disk):
    home.run("add", "virtio-win:1", disk(1))
    for said in (("--os", "linux"), ()):
        refused = home.run("add", "web:1", disk(2), "--drivers", "virtio-win", *said, code=2)
        assert "web gets no disc of drivers (--drivers): its " in refused
        assert "only a Windows is set up with one" in refused
        assert "say --os windows if it is one, else --drivers ''" in refused
    assert [found["name"] for found in home.json("ls")] == ["virtio-win"]
    home.run("add", "web:1", disk(2))
    assert "web:1 gets no disc of drivers" in home.run("set", "web:1", "--drivers", "virtio-win", code=2)
    assert home.json("show", "web")["traits"]["drivers"] == ""
    home.run("add", "win:1", disk(2), "--os", "windows", "--drivers", "virtio-win")
    assert home.json("show", "win")["traits"]["drivers"] == home.json("show", "virtio-win")["digest"]
    assert "win:1 gets no disc of drivers" in home.run("set", "win:1", "--os", "linux", code=2)
    assert "No such option" in home.run("build", "win", "--drivers", "virtio-win", code=2)


def test_standard_input_and_json(home, disk):
    raw = disk(1).read_bytes()
    sha256 = hashlib.sha256(raw).hexdigest()
    said = home.run("add", "web:1", "-", "--sha256", sha256, stdin=raw)
    assert home.json("show", "web")["digest"] in said
    assert "empty" in home.run("add", "web:2", "-", stdin=b"", code=2)


@pytest.mark.parametrize(
    "args",
    [("add", "Bad", "{}"), ("add", "a:-v", "{}"), ("add", "a", "/nonexistent"), ("add", "a", "{}", "--sha256", "12"),
     ("add", "a", "{}", "--format", "vdi"), ("add", "a", "{}", "--disk", "much"), ("add", "a", "{}", "--parent", "x"),
     ("show", "none"), ("tag", "none", "x"), ("rm", "none"), ("verify", "none"), ("export", "none", "x")],
    ids=str,
)  # fmt: skip
def test_wrong_input_ends_with_2_and_changes_nothing(home, disk, args):
    path = str(disk(1))
    home.run(*(path if part == "{}" else part for part in args), code=2)
    assert home.json("ls") == []


def test_an_image_that_something_stands_on_is_not_removed(home, disk):
    home.run("add", "web:1", disk(1))
    home.run("add", "web:2", disk(2))
    digest = home.json("show", "web:1")["digest"]
    home.has_overlays(w0=digest, w7=digest)
    said = home.run("rm", "web:1", code=1)
    assert "hello/web-0 on host h0" in said
    assert "hello/web-7 on host h0" in said
    assert home.run("rm", "web:2") == "web:2 is removed\n"
    home.has_overlays()
    assert home.run("rm", "web:1") == "web:1 is removed\n"
    assert list((home.folder / "images" / "blobs").iterdir()) == []


def test_a_rollback_without_its_disc_of_drivers_is_refused(home, disk):
    home.run("add", "web:1", disk(1))
    digests = {"web": home.json("show", "web:1")["digest"]}
    now = deployment(digests={"web": "sha256:1"}, revision=2)
    good = Good(1, now.service, digests, {"web": Platform("windows", "uefi", drivers="sha256:2")})
    store = home.store()
    store.save_deployment(replace(now, good=(good,)))
    store.close()
    env = {**os.environ, "VMROLE_HOME": str(home.folder)}
    done = subprocess.run([VMROLE, "upgrade", "rollback", "hello"], env=env, capture_output=True, check=False)
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert "the image repository no longer has the disc of drivers sha256:2 (role web)" in said
    assert "add that again, then the same command" in said


def test_what_the_store_needs_is_not_removed(home, disk):
    home.run("add", "web:1", disk(1))
    digest = home.json("show", "web:1")["digest"]
    store = home.store()
    store.save_deployment(deployment(digests={"web": digest}))
    store.save_instance(record(WEB, version=0, machine=replace(record().machine, digest=digest)))
    store.close()
    said = home.run("rm", "web:1", code=1)
    assert "hello/web-0" in said
    assert "hello (role web)" in said
    assert home.json("show", "web:1")["used_by"] == ["hello/web-0", "hello (role web)"]
    blob = home.folder / "images" / "blobs" / f"{digest[7:]}.qcow2"
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-70000])
    assert "hello/web-0" in home.run("verify", code=1)
    assert home.json("verify", code=1)[0]["used_by"] == ["hello/web-0", "hello (role web)"]


def test_a_host_that_cannot_be_asked_counts_as_in_use(home, disk):
    home.run("add", "web:1", disk(1))
    home.is_on("qemu+unix:///system?socket=/nonexistent/socket")
    assert "h0 cannot be asked" in home.run("rm", "web:1", code=1)
    assert "there is nothing to remove" in home.run("prune")
    assert "web:1" in home.run("verify")


def test_when_unused_marks_it_and_it_goes_at_the_next_chance(home, disk):
    home.run("add", "web:1", disk(1))
    home.run("add", "other:1", disk(2))
    home.has_overlays(w0=home.json("show", "web:1")["digest"])
    assert "goes when nobody needs it" in home.run("rm", "web:1", "--when-unused")
    home.run("show", "web", code=2)
    home.has_overlays()
    assert "web:1" in home.run("rm", "other:1")
    assert home.json("ls") == []


def test_prune_says_what_it_would_do_and_does_it(home, disk):
    for number in (1, 2, 3):
        home.run("add", f"web:2026-11-2{number}", disk(number))
    home.run("add", "web:mine", disk(4))
    home.run("add", "web:2026-11-24", disk(5))
    home.has_overlays(w0=home.json("show", "web:2026-11-22")["digest"])
    assert [found["image"] for found in home.json("prune", "--dry-run")] == ["web:2026-11-21", "web:2026-11-23"]
    assert len(home.json("ls")) == 5
    assert "web:2026-11-21 removed" in home.run("prune")
    assert [found["version"] for found in home.json("ls")] == ["2026-11-22", "mine", "2026-11-24"]


def test_export_prints_the_checksum_of_a_whole_file(home, disk, tmp_path):
    home.run("add", "web:1", disk(1))
    target = tmp_path / "out.vhdx"
    said = home.run("export", "web", target, "--format", "vhdx")
    assert hashlib.sha256(target.read_bytes()).hexdigest() in said
    assert "cannot be compressed" in home.run("export", "web", target, "--format", "raw", "--compress", code=2)
    assert "cannot be written" in home.run("export", "web", tmp_path / "none" / "x", code=2)
