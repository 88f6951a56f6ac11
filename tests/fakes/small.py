"""Fakes of a few lines: images, secrets, seeds and the loop's lease."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.errors import NotFound, Refused
from orchestrator.model.secret import Secret, SecretRef
from orchestrator.model.world import Notice


def digest_of(name: str) -> str:
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


class FakeImages:
    """Every image of these names is there; its bytes are nobody's business."""

    def __init__(self, *names: str) -> None:
        self._names = set(names)

    def resolve(self, reference: str) -> str:
        if reference not in self._names:
            raise NotFound(f"there is no image {reference}")
        return digest_of(reference)

    def blob(self, digest: str) -> Path:
        if digest not in {digest_of(name) for name in self._names}:
            raise NotFound(f"the image {digest} is not in the repository")
        return Path("/nowhere") / digest


class FakeSecrets:
    """The values that a test keeps, by their keys."""

    def __init__(self) -> None:
        self.kept: dict[str, Secret] = {}

    def reveal(self, ref: SecretRef) -> Secret:
        if ref.key not in self.kept:
            raise Refused(f"the secret {ref.source} is not in this home's store: run `vmrole up FILE` again")
        return self.kept[ref.key]


class FakeSeeds:
    """A disc that can be read back with json."""

    def disc(self, label: str, files: dict[str, bytes]) -> bytes:
        return json.dumps({"label": label, "files": {n: c.decode() for n, c in files.items()}}).encode()


class FakeBoard:
    """What was posted last, however long ago."""

    def __init__(self) -> None:
        self.told: dict[str, Notice] = {}

    def post(self, told: Mapping[str, Notice], now: float) -> None:  # noqa: ARG002
        self.told = dict(told)

    def read(self, now: float) -> dict[str, Notice]:  # noqa: ARG002
        return dict(self.told)


class FakeLease:
    """``other`` not "": somebody else has it. ``asked``: how often a controller is still asked to let go."""

    def __init__(self, other: str = "", asked: int = 0) -> None:
        self.other = other
        self.asked = asked
        self.held = 0

    @contextlib.contextmanager
    def try_hold(self, *, as_controller: bool = False) -> Iterator[bool]:  # noqa: ARG002
        self.held += not self.other
        yield not self.other

    def is_asked(self) -> bool:
        self.asked -= self.asked > 0
        return self.asked > 0

    def holder(self) -> str:
        return self.other
