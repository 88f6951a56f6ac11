"""Building the base images whose recipes come with vmrole: a folder each, whose ``build`` writes a raw disk.

What was built is remembered for the machine by the recipe's digest, so a second home takes it without building again,
as long as it is not older than a week (the packages inside get their security updates only by a new build).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.drivers._files import locked, sync_folder
from orchestrator.drivers.imaging.opening import synced
from orchestrator.drivers.imaging.qemu_img import LAYOUT
from orchestrator.drivers.process import run, stream
from orchestrator.errors import Missing, NotFound

if TYPE_CHECKING:
    from orchestrator.drivers.images import Repository
    from orchestrator.model.image import Image
    from orchestrator.ports import Clock, Progress

MAX_AGE_S = 7 * 24 * 3600.0
CONVERT_S = 600.0


def recipes_folder() -> Path:
    """Where the recipes are: beside the package in a source tree, inside it when installed."""
    package = Path(__file__).resolve().parent.parent
    beside = package.parent / "images"
    return beside if beside.is_dir() else package / "recipes"


def recipe_names() -> tuple[str, ...]:
    folder = recipes_folder()
    return tuple(sorted(path.parent.name for path in folder.glob("*/build"))) if folder.is_dir() else ()


def recipe_digest(name: str) -> str:
    """Identifies a recipe by its files' names, modes and bytes. Raises NotFound."""
    folder = recipes_folder()
    if name not in recipe_names():
        known = ", ".join(recipe_names()) or "none"
        raise NotFound(f"there is no recipe for an image {name!r}", f"there are recipes for: {known}")
    shared = [path for path in folder.iterdir() if path.is_file() and path.suffix == ".sh"]
    own = [path for path in (folder / name).rglob("*") if path.is_file() and path.suffix != ".md"]
    total = hashlib.sha256()
    for path in sorted(shared + own):
        mode = stat.S_IMODE(path.stat().st_mode) & 0o111
        total.update(f"{path.relative_to(folder)} {mode:o} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def build(name: str, *, repository: Repository, cache: Path, clock: Clock, report: Progress) -> tuple[Image, bool]:
    """Bring the image of a recipe into the repository; whether it had to be built. Raises NotFound, Missing."""
    recipe = recipe_digest(name)
    known = [image for image in repository.images() if image.name == name and image.recipe == recipe]
    if known and clock.now() - known[-1].added < MAX_AGE_S:
        return known[-1], False
    kept = cache / "images" / f"{name}.{recipe[:16]}.qcow2"
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with repository.incoming() as folder:
        disk = folder / "disk.qcow2"
        # Two homes that want it at once: the second takes what the first has built, and neither sees half a file.
        with locked(kept.with_name(f"{name}.lock"), lambda: report("waiting for another run that builds it")):
            is_fresh = kept.exists() and clock.now() - kept.stat().st_mtime < MAX_AGE_S
            if is_fresh:
                report("taking the disk that was built on this machine before")
                shutil.copyfile(kept, disk)
            else:
                _build_disk(name, folder, disk, report)
                _remember(disk, kept)
        report("taking it into the repository")
        return repository.keep(disk, name=name, recipe=recipe), not is_fresh


def _build_disk(name: str, folder: Path, disk: Path, report: Progress) -> None:
    script = recipes_folder() / name / "build"
    missing = _missing_packages(script.parent / "packages")
    if missing:
        raise Missing(
            f"building {name} needs Debian packages that are not installed: {' '.join(missing)}",
            "install them with apt-get, or run `make setup`",
        )
    raw = folder / "disk.raw"
    with tempfile.TemporaryDirectory(prefix="vmrole-build-", dir=folder) as scratch:
        stream([str(script), str(raw)], report, env={**os.environ, "TMPDIR": scratch})
    report("converting the disk")
    run(["qemu-img", "convert", "-f", "raw", *LAYOUT, str(raw), str(disk)], timeout_s=CONVERT_S)
    raw.unlink()


def _missing_packages(path: Path) -> tuple[str, ...]:
    names = path.read_text().split() if path.exists() else []
    installed = run(["dpkg-query", "--show", "--showformat", "${Package} ${Status}\n"]).stdout.splitlines()
    present = {row.split()[0] for row in installed if row.endswith(" installed")}
    return tuple(name for name in names if name not in present)


def _remember(disk: Path, kept: Path) -> None:
    """Keep a copy for other homes on this machine; older builds of the same image go. The caller has the lock."""
    name = kept.name.partition(".")[0]
    for old in kept.parent.glob(f"{name}.*.qcow2"):
        old.unlink(missing_ok=True)
    fresh = kept.with_name(f"{name}.new")
    shutil.copyfile(disk, fresh)
    synced(fresh)
    fresh.replace(kept)
    sync_folder(kept.parent)
