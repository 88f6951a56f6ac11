"""Values that nobody may see, on a real guest: they are in its own file, and nowhere else on the machine.

The answer file's disc brings them, and is gone as soon as the guest is ready; a guest reboots without it.
"""

import base64
import contextlib
import json
import os
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import CACHE, eventually, service, write

pytestmark = pytest.mark.vm

SEED_S = 5.0  # so long after it was ready a seed may be there
MOST_BYTES = 64 * 1024**2
# How each value is said in a guest: where it is, and who may read it.
PLACES = {"file": "/etc/app/from-file", "env": "/etc/app/from-env", "store": "/etc/app/from-store"}


@pytest.fixture
def canaries():
    """Values found nowhere else in the world, one for each kind of source."""
    return {kind: f"canary-{kind}-{os.urandom(12).hex()}" for kind in PLACES}


@pytest.fixture
def secret_service(lab, tmp_path, canaries):
    """A service file with all kinds, and the environment to run it in."""
    folder = tmp_path / "service"
    folder.mkdir()
    (folder / "secret.txt").write_text(canaries["file"])
    (folder / "named.txt").write_text(canaries["store"])
    lab.ok("secret", "set", "app-key", "--file", str(folder / "named.txt"))
    (folder / "named.txt").unlink()
    sources = {"file": "file:secret.txt", "env": "env:APP_PASSWORD", "store": "store:app-key"}
    files = [{"path": PLACES[kind], "secret": source, "mode": "0600"} for kind, source in sources.items()]
    file = write(folder / "keep.yaml", service("keep", setup={"files": files}, ready={"timeout": "2m"}))
    return file, {"APP_PASSWORD": canaries["env"]}


def spellings(value):
    """A value as it is, and in base64 at each of the three places that a text may begin at."""
    plain = value.encode()
    ends = [base64.b64encode(b" " * shift + plain)[4 * bool(shift) : -4] for shift in range(3)]
    return [plain, plain.hex().encode(), *ends]


def searched(paths, needles):
    """(file, canary) of each file that holds one, whichever way it is spelled; below folders, every file."""
    found = []
    for top in paths:
        every = [top] if top.is_file() else [Path(at) / name for at, _dirs, names in os.walk(top) for name in names]
        for path in every:
            with contextlib.suppress(OSError):
                if path.is_file() and not path.is_symlink() and path.stat().st_size <= MOST_BYTES:
                    data = path.read_bytes()
                    found += [(str(path), value) for value in needles if any(s in data for s in spellings(value))]
    return found


def memory_of_processes(needles):
    """(what, canary) of arguments and environments of all processes but ourselves and what runs us."""
    found = []
    for proc in Path("/proc").iterdir():
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                data = (proc / name).read_bytes() if proc.name.isdigit() else b""
                found += [(f"{proc}/{name}", value) for value in needles if any(s in data for s in spellings(value))]
    return found


class Watch:
    """Looks at the pool, ten times a second, for when a machine's seed was there and who could read it."""

    def __init__(self, lab):
        self._lab = lab
        self._end = threading.Event()
        self.seen = {}  # file → (mode, uid) of the last look
        self.gone = {}  # file → when it was first not there any more
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_error):
        self._end.set()
        self._thread.join()

    def _look(self):
        while not self._end.wait(0.1):
            now = {path.name: path for path in self._lab.home.rglob("*.seed.iso")}
            for name, path in now.items():
                with contextlib.suppress(OSError):
                    found = path.stat()
                    self.seen.setdefault(name, set()).add((oct(found.st_mode & 0o777), found.st_uid))
            for name in self.seen.keys() - now.keys():
                self.gone.setdefault(name, time.time())


def seeds(lab):
    return [volume for volume in lab.volumes() if volume.endswith(".seed.iso")]


def told(lab, *args, env):
    done = lab.run(*args, env=env)
    assert done.code == 0, done.err
    return done.out + done.err


def check_seed(lab, watch, generation):
    """The seed was there for its owner alone, and went within five seconds; nothing says its name any more."""
    instance = lab.instance("keep", "web-0")
    name = f"{instance['domain']}.seed.iso"
    assert instance["generation"] == generation
    assert {mode for mode, _uid in watch.seen[name]} == {"0o600"}
    eventually(lambda: name in watch.gone, "the seed is gone", SEED_S)
    late = watch.gone[name] - instance["timeline"]["services"]
    assert late <= SEED_S
    for kind in ((), ("--inactive",)):
        assert ".seed.iso" not in lab.virsh("dumpxml", *kind, instance["domain"])
    assert seeds(lab) == []
    return late


def inside(lab, *argv):
    return lab.ok("exec", "keep/web-0", "--", *argv).out


def check_guest(lab, canaries):
    for kind, path in PLACES.items():
        assert inside(lab, "cat", path) == canaries[kind]
        assert inside(lab, "stat", "-c", "%U:%G %a", path) == "root:root 600\n"
    holders = inside(
        lab, "sh", "-c", f"find /etc /var /run /root /tmp -type f -exec grep -lE '{'|'.join(canaries.values())}' {{}} +"
    ).split()
    assert set(PLACES.values()) <= set(holders)


def test_a_canary_is_found_nowhere_but_in_the_guest(lab, secret_service, canaries, capsys):
    file, env = secret_service
    values = list(canaries.values())
    with Watch(lab) as watch:
        said = [told(lab, "plan", file, env=env), told(lab, "-vv", "up", file, env=env)]
        first = check_seed(lab, watch, 1)
        check_guest(lab, canaries)
        said += [told(lab, *args, env={}) for args in (
            ("status", "keep", "--json"), ("status", "keep"), ("events", "keep"), ("ls", "--json"), ("secret", "ls"),
            ("secret", "ls", "--json"),
        )]  # fmt: skip
        domain = lab.instance("keep", "web-0")["domain"]
        said += [lab.virsh("dumpxml", *kind, "--security-info", domain) for kind in ((), ("--inactive",))]
        assert [
            (n, v) for n, text in enumerate(said) for v in values if any(s in text.encode() for s in spellings(v))
        ] == []
        assert memory_of_processes(values) == []
        overlay = f"{domain}.overlay.qcow2"  # the guest's own disk
        hits = searched([lab.home, Path("/tmp"), Path("/var/log"), CACHE / "images"], values)
        assert [hit for hit in hits if not hit[0].endswith((overlay, "service/secret.txt"))] == []
        assert "reached services" in told(lab, "events", "keep", env={})
        check_reboot(lab)
        lab.ok("reimage", "keep/web-0")  # without the environment: the store has it
        second = check_seed(lab, watch, 2)
        check_guest(lab, canaries)
    with capsys.disabled():
        print(f"\nthe seed was gone {first:.2f} s and {second:.2f} s after ready; modes {watch.seen}")
    check_changes(lab, file, env)
    refused = lab.run("secret", "rm", "app-key")
    assert (refused.code, "keep refers to" in refused.err) == (2, True)
    lab.forget_all()
    lab.ok("secret", "rm", "app-key")
    assert json.loads(lab.ok("secret", "ls", "--json").out) == []


def check_reboot(lab):
    """A boot without the disc is the same instance's: nothing of setup is done again."""
    before = inside(lab, "sh", "-c", "cat /var/lib/cloud/data/instance-id /etc/dropbear/*_host_key | md5sum")
    inside(lab, "sh", "-c", "echo mine >/etc/app/from-file; sync")
    lab.ok("reboot", "keep/web-0")
    assert inside(lab, "sh", "-c", "cat /var/lib/cloud/data/instance-id /etc/dropbear/*_host_key | md5sum") == before
    assert inside(lab, "cat", "/etc/app/from-file") == "mine\n"
    assert json.loads(inside(lab, "cat", "/run/cloud-init/result.json"))["v1"]["datasource"] == "DataSourceNoCloud"
    assert seeds(lab) == []


def check_changes(lab, file, env):
    """The same value is the same machine; another one is another; one that is not there is told, with its path."""
    assert "nothing to change" in told(lab, "up", file, env=env)
    lost = lab.run("up", file)
    assert lost.code == 2
    assert "roles.web.setup.files[1]" in lost.err
    assert "APP_PASSWORD" in lost.err
    changed = told(lab, "up", file, env={"APP_PASSWORD": "another"})
    assert "is ready" in changed
    assert lab.instance("keep", "web-0")["generation"] == 3
    assert inside(lab, "cat", PLACES["env"]) == "another"
