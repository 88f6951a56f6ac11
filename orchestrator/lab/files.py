"""What a lab keeps on disk: `HOME/lab/lab.json`, a folder for each node, and `HOME/site.json` for the rest of vmrole.

A host's folder is its disk: it survives a loss of all processes, and libvirt finds its pools and domains in it again.
"""

from __future__ import annotations

import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.config.site import SITE_FILE, Accelerator, Site, site_to_json
from orchestrator.drivers._files import write_durably
from orchestrator.lab import keeper, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

NWFILTERS = Path("/etc/libvirt/nwfilter")
STATE_PATTERNS = ("vmrole.db*", "vmrole.lock", "loop.lock", "run")  # goes with the lab; `images/` is precious and stays
LIBVIRT_FOLDERS = {"etc": 0o755, "lib": 0o755, "log": 0o755, "cache": 0o711, "lib/images": 0o711}

LIBVIRTD_CONF = """\
# Written by `vmrole lab up`. Root alone may connect; several hosts on one machine need a UUID each.
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0600"
unix_sock_ro_perms = "0600"
unix_sock_admin_perms = "0600"
host_uuid = "{host_uuid}"
"""

QEMU_CONF = """\
# Written by `vmrole lab up`.
# AppArmor and SELinux policies name the machine's own paths, and would be changed for the whole machine.
security_driver = "none"
# The node has a mount namespace and a bare /dev already; another one for each guest only costs time.
namespaces = []
# The machine's cgroup tree is not the lab's to write in.
cgroup_controllers = []
# The owner of an image is remembered in attributes that a power cut leaves wrong.
remember_owner = 0
"""


@dataclass(frozen=True, slots=True)
class Record:
    """What `lab.json` holds: the lab's share of the machine's addresses, its size, and how its guests run."""

    slot: int | None
    hosts: int
    accelerator: Accelerator


def lab_folder(home: Path) -> Path:
    return home / "lab"


def read_record(home: Path) -> Record | None:
    """The lab that ``home`` holds, running or not. A damaged file counts as none: `lab up` writes it again."""
    try:
        raw = json.loads((lab_folder(home) / "lab.json").read_text())
        return Record(raw["slot"], int(raw["hosts"]), "kvm" if raw["accelerator"] == "kvm" else "tcg")
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write_record(home: Path, record: Record) -> None:
    raw = {"slot": record.slot, "hosts": record.hosts, "accelerator": record.accelerator}
    lab_folder(home).mkdir(mode=0o700, exist_ok=True)
    write_durably(lab_folder(home) / "lab.json", json.dumps(raw))


def has_site(home: Path, site: Site) -> bool:
    path = home / SITE_FILE
    return path.exists() and path.read_text() == site_to_json(site)


def write_site(home: Path, site: Site) -> None:
    write_durably(home / SITE_FILE, site_to_json(site))


def write_node(home: Path, node: str, accelerator: Accelerator) -> None:
    """Make a node's folder, or bring its settings up to date; what libvirt keeps there is left alone."""
    folder = lab_folder(home) / node
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "hosts").write_text(plan.hosts_file(node))
    (folder / "sysctls").write_text(plan.sysctls(node))
    if plan.host_number(node) is None:
        return
    for name, mode in LIBVIRT_FOLDERS.items():
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(mode)
    host_uuid = uuid.uuid5(uuid.NAMESPACE_URL, f"vmrole-lab:{home}:{node}")
    (folder / "etc/libvirtd.conf").write_text(LIBVIRTD_CONF.format(host_uuid=host_uuid))
    (folder / "etc/qemu.conf").write_text(QEMU_CONF)
    if NWFILTERS.is_dir() and not (folder / "etc/nwfilter").exists():
        shutil.copytree(NWFILTERS, folder / "etc/nwfilter")
    _set_present(folder / keeper.PROVEN_KVM, accelerator == "kvm")


def last_log_lines(home: Path, node: str, count: int = 3) -> str:
    """The end of the host's libvirtd log, on one line."""
    path = lab_folder(home) / node / "log/libvirtd.log"
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return " / ".join(lines[-count:]) or "its log is empty"


def of_lab(home: Path) -> Iterator[Path]:
    """What is on disk of the lab itself."""
    yield from (path for path in (lab_folder(home), home / SITE_FILE) if path.exists())


def remove(home: Path) -> None:
    """Remove the lab and the state of the services that ran in it; the image repository stays."""
    doomed = [*of_lab(home), *(path for pattern in STATE_PATTERNS for path in home.glob(pattern))]
    for path in doomed:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _set_present(path: Path, wanted: bool) -> None:
    if wanted:
        path.touch()
    else:
        path.unlink(missing_ok=True)
