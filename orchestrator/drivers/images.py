"""The image repository: read-only qcow2 files named by the digest of their bytes, and an index from names to them.

A file gets its final name only when it is whole; the index is replaced, never edited. What an interrupted run left
behind lies in the ``incoming`` folder and is cleared by the next one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from orchestrator.drivers._files import locked, sync_folder, write_durably
from orchestrator.errors import NotFound, Refused
from orchestrator.model.names import is_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.ports import Clock

_REFERENCE = re.compile(r"(?P<name>[^:@]+)(?::(?P<version>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?")


@dataclass(frozen=True, slots=True)
class Image:
    """An entry of the index. ``size_bytes`` is the file's, ``virtual_bytes`` what a guest sees; ``added`` Unix seconds.

    ``recipe``: the digest of the recipe that it was built from ("" if it was not built here).
    """

    name: str
    version: str
    digest: str
    size_bytes: int
    virtual_bytes: int
    added: float
    recipe: str = ""


class Repository:
    """The repository in a folder, which is made when first needed."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._index = folder / "index.json"
        self._clock = clock

    def images(self) -> tuple[Image, ...]:
        """All entries, by name, the newest of a name last. Raises Refused when the index is damaged."""
        if not self._index.exists():
            return ()
        try:
            found = [Image(**raw) for raw in json.loads(self._index.read_text())]
        except (ValueError, TypeError) as error:
            raise Refused(f"the image index {self._index} is damaged: {error}", "restore it from a copy") from error
        return tuple(sorted(found, key=lambda image: (image.name, image.added)))

    def find(self, reference: str) -> Image:
        """The image that ``name``, ``name:version`` or either with ``@sha256:…`` means: the newest. Raises NotFound."""
        match = _REFERENCE.fullmatch(reference)
        wanted = match.groupdict() if match else {"name": reference, "version": None, "digest": None}
        fitting = [
            image
            for image in self.images()
            if image.name == wanted["name"]
            and wanted["version"] in {None, image.version}
            and wanted["digest"] in {None, image.digest}
        ]
        if not fitting:
            known = ", ".join(sorted({image.name for image in self.images()})) or "none"
            raise NotFound(
                f"there is no image {reference}; known: {known}",
                "`vmrole image build NAME` builds one of the recipes; `vmrole image ls` lists what is there",
            )
        return fitting[-1]

    def resolve(self, reference: str) -> str:
        return self.find(reference).digest

    def blob(self, digest: str) -> Path:
        path = self._blob(digest)
        if not path.exists():
            raise NotFound(f"the image {digest} is not in the repository", "build or add it again")
        return path

    def virtual_bytes(self, digest: str) -> int:
        """How large a disk the image is to its guest. Raises NotFound."""
        found = [image.virtual_bytes for image in self.images() if image.digest == digest]
        if not found:
            raise NotFound(f"the image {digest} is not in the repository")
        return found[0]

    @contextlib.contextmanager
    def incoming(self) -> Iterator[Path]:
        """A folder for files on their way in, alone for us; what an earlier run left in it is removed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = self._folder / "incoming"
        with locked(self._folder / "lock"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def keep(self, file: Path, *, name: str, recipe: str) -> Image:
        """Take a whole qcow2 from the incoming folder into the repository, as the newest version of ``name``."""
        if not is_name(name):
            raise NotFound(f"{name!r} cannot name an image")
        digest = file_digest(file)
        size_bytes, virtual_bytes = file.stat().st_size, qcow2_virtual_bytes(file)
        blob = self._blob(digest)
        blob.parent.mkdir(mode=0o700, exist_ok=True)
        file.chmod(0o444)
        _sync(file)
        file.replace(blob)
        sync_folder(blob.parent)
        now = self._clock.now()
        image = Image(name, self._free_version(name), digest, size_bytes, virtual_bytes, now, recipe)
        kept = [asdict(known) for known in self.images()]
        write_durably(self._index, json.dumps([*kept, asdict(image)], indent=1))
        return image

    def _free_version(self, name: str) -> str:
        """Today's date, with a number if today has one already."""
        today = datetime.fromtimestamp(self._clock.now(), UTC).date().isoformat()
        taken = {image.version for image in self.images() if image.name == name}
        candidates = (today, *(f"{today}.{number}" for number in range(2, len(taken) + 3)))
        return next(version for version in candidates if version not in taken)

    def _blob(self, digest: str) -> Path:
        return self._folder / "blobs" / f"{digest.removeprefix('sha256:')}.qcow2"


def file_digest(path: Path) -> str:
    """``sha256:`` and the hash of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def qcow2_virtual_bytes(path: Path) -> int:
    """The disk size in a qcow2's header: 8 bytes, big-endian, at 24 (QEMU, docs/interop/qcow2). Raises Refused."""
    with path.open("rb") as file:
        header = file.read(72)
    if len(header) < 72 or header[:4] != b"QFI\xfb":
        raise Refused(f"{path.name} is not a qcow2 file")
    return int.from_bytes(header[24:32], "big")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
