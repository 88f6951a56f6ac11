"""The image repository: read-only qcow2 files named by the digest of their content, and an index from names to them.

A file gets its final name only when it is whole; the index is replaced, never edited. Each run has a folder of its own
for what is on its way in, and holds a lock as long as it lives: what a run that is gone left behind, whatever it was
doing, is cleared by the next one. Entries of older versions keep the digest of their file's bytes as their name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from orchestrator.drivers._files import locked, sync_folder, write_durably
from orchestrator.drivers.imaging.digest import content_digest, first_bytes, stored_disk
from orchestrator.drivers.imaging.opening import synced
from orchestrator.engine.inspector.traits import BYTES_LOOKED_AT, guess_traits
from orchestrator.errors import NoRoom, NotFound, Refused, UserError
from orchestrator.model.image import VERSION_RULE, Image, is_version
from orchestrator.model.names import NAME_RULE, is_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from orchestrator.model.image import Admission, Traits
    from orchestrator.ports import Clock

_REFERENCE = re.compile(r"(?P<name>[^:@]+)(?::(?P<version>[^@]+))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?")

_INDEX = TypeAdapter(list[Image])  # fields that older versions did not write have their defaults


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
            found = _INDEX.validate_json(self._index.read_bytes())
        except ValidationError as error:
            raise Refused(
                f"the image index {self._index} is damaged: {_first(error)}", "restore it from a copy"
            ) from error
        return tuple(sorted(found, key=lambda image: (image.name, image.added)))

    def find(self, reference: str) -> Image:
        """The image that ``name``, ``name:version`` or either with ``@sha256:…`` means: the newest. Raises NotFound.

        An image that is leaving is found only by its version or digest.
        """
        match = _REFERENCE.fullmatch(reference)
        wanted = match.groupdict() if match else {"name": reference, "version": None, "digest": None}
        is_bare = wanted["version"] is None and wanted["digest"] is None
        fitting = [
            image
            for image in self.images()
            if image.name == wanted["name"]
            and wanted["version"] in {None, image.version}
            and wanted["digest"] in {None, image.digest}
            and not (is_bare and image.leaving)
        ]
        if not fitting:
            known = ", ".join(sorted({image.name for image in self.images()})) or "none"
            raise NotFound(
                f"there is no image {reference}; known: {known}",
                "`vmrole image build NAME` builds one of the recipes, `vmrole image add` takes one in; "
                "`vmrole image ls` lists what is there",
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
        """A folder for files on their way in, alone for us; what earlier runs left behind is removed."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            self._clear()
            (self._folder / "incoming").mkdir(mode=0o700, exist_ok=True)
            folder = self._folder / "incoming" / secrets.token_hex(8)
            folder.mkdir(mode=0o700)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            with _room(self._folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)

    def keep(self, file: Path, *, name: str, recipe: str) -> Image:
        """Take a whole qcow2 from the incoming folder into the repository, as the newest version of ``name``."""
        digest = content_digest(file)
        traits = guess_traits(first_bytes(file, BYTES_LOOKED_AT))
        return self.admit(file, Image(name, "", digest, 0, 0, 0.0, recipe=recipe, hashed="content", traits=traits))

    def check_free(self, name: str, version: str) -> None:
        """Raise UserError unless an image may be given this name, and this version ("" is one that is filled in)."""
        if not is_name(name):
            raise UserError(f"{name!r} cannot name an image", NAME_RULE)
        if version and not is_version(version):
            raise UserError(f"{version!r} cannot be a version of an image", VERSION_RULE)
        if version and any(image.reference == f"{name}:{version}" for image in self.images()):
            raise UserError(
                f"there is an image {name}:{version} already", "give it another version, or remove that one"
            )

    def admit(self, file: Path, image: Image) -> Image:
        """Give a whole file of our layout its place and its entry; sizes, time and a version that is "" are filled in.

        Content that is there already is not stored again, unless what is there is damaged, and its trial counts for
        the new entry too. Raises UserError when the version is taken.
        """
        self.check_free(image.name, image.version)
        synced(file)
        with self._alone(), _room(self._folder):
            version = image.version or self._free_version(image.name)
            self.check_free(image.name, version)
            blob = self._blob(image.digest)
            if self.damage(image):
                blob.parent.mkdir(mode=0o700, exist_ok=True)
                file.chmod(0o444)
                file.replace(blob)
                sync_folder(blob.parent)
            now, stored, seen = self._clock.now(), blob.stat().st_size, disk_size(blob)
            known = self.images()
            tried = next((each.admission for each in known if each.digest == image.digest), image.admission)
            whole = replace(image, version=version, added=now, size_bytes=stored, virtual_bytes=seen, admission=tried)
            self._write([*known, whole])
        return whole

    def damage(self, image: Image, on_progress: Callable[[int], None] = lambda _done: None) -> str:
        """What is wrong with an image's file, "" if nothing is: all of it is read and hashed again."""
        blob = self._blob(image.digest)
        if not blob.exists():
            return "its file is gone"
        try:
            found = content_digest(blob, on_progress) if image.hashed == "content" else file_digest(blob)
        except (Refused, OSError) as error:
            return str(error)
        return "" if found == image.digest else f"its content is {found}"

    def tag(self, image: Image, name: str, version: str) -> Image:
        """Give an image one more name; a version that is "" is filled in. Raises UserError when it is taken.

        It is as old as the image: a bare name goes on to mean the newest content, not the newest tag.
        """
        with self._alone():
            known = next((each for each in self.images() if each.reference == image.reference), None)
            if known is None:
                raise NotFound(f"there is no image {image.reference} any more")
            version = version or self._free_version(name)
            self.check_free(name, version)
            added = replace(known, name=name, version=version, leaving=False)
            self._write([*self.images(), added])
        return added

    def describe(self, image: Image, traits: Traits) -> None:
        """Say what machines made of an image should be like."""
        with self._alone():
            changed = (
                replace(each, traits=traits) if each.reference == image.reference else each for each in self.images()
            )
            self._write(list(changed))

    def judge(self, digest: str, admission: Admission) -> None:
        """Store what came of a trial; it is of the content, whatever names that has."""
        with self._alone():
            known = self.images()
            self._write([replace(each, admission=admission) if each.digest == digest else each for each in known])

    def mark_leaving(self, references: Iterable[str]) -> None:
        """These go as soon as somebody finds them unused."""
        wanted = frozenset(references)
        with self._alone():
            self._write([replace(each, leaving=each.leaving or each.reference in wanted) for each in self.images()])

    def forget(self, references: Iterable[str]) -> None:
        """Remove entries, and the files that no other entry needs."""
        gone = frozenset(references)
        with self._alone():
            self._write([each for each in self.images() if each.reference not in gone])
            self._clear()

    def clear(self) -> None:
        """Remove what interrupted runs left behind."""
        if self._folder.exists():
            with self._alone():
                self._clear()

    def _clear(self) -> None:
        """Folders whose run is gone, and files that no entry knows; the lock is ours."""
        incoming, blobs = self._folder / "incoming", self._folder / "blobs"
        for path in incoming.iterdir() if incoming.exists() else ():
            if _is_abandoned(path):
                shutil.rmtree(path, ignore_errors=True)
        known = {self._blob(image.digest).name for image in self.images()}
        for path in blobs.iterdir() if blobs.exists() else ():
            if path.name not in known:
                path.unlink()

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return locked(self._folder / "lock")

    def _write(self, images: Iterable[Image]) -> None:
        write_durably(self._index, json.dumps([asdict(image) for image in images], indent=1))

    def _free_version(self, name: str) -> str:
        """Today's date, with a number if today has one already."""
        today = datetime.fromtimestamp(self._clock.now(), UTC).date().isoformat()
        taken = {image.version for image in self.images() if image.name == name}
        candidates = (today, *(f"{today}.{number}" for number in range(2, len(taken) + 3)))
        return next(version for version in candidates if version not in taken)

    def _blob(self, digest: str) -> Path:
        return self._folder / "blobs" / f"{digest.removeprefix('sha256:')}.qcow2"


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)[0]
    return f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}"


def file_digest(path: Path) -> str:
    """``sha256:`` and the hash of a file's bytes."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def disk_size(path: Path) -> int:
    """How large a disk a stored image is to its guest. Raises Refused."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return stored_disk(handle, path.name).virtual_bytes
    finally:
        os.close(handle)


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[None]:
    """A full disk, in words."""
    try:
        yield
    except OSError as error:
        if error.errno in {28, 122}:  # ENOSPC, EDQUOT
            hint = "make room there, then run the same command again; nothing of this one is left"
            raise NoRoom(f"the disk of the image repository {folder} is full", hint) from error
        raise


def _is_abandoned(path: Path) -> bool:
    """Whether nobody holds the lock on a folder of incoming files: its run has ended, however."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return True
