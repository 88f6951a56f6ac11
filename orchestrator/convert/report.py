"""What became of everything that was read, beside the service file itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum

from orchestrator.model.text import line

Path_ = tuple[str | int, ...]


class Kind(Enum):
    """DROPPED: not in the service file. CHANGED: there, but not as it was. DECIDE: a person has to look at it."""

    DROPPED = "dropped"
    CHANGED = "changed"
    DECIDE = "decide"
    SECRET = "secret"  # noqa: S105 - a kind of note, no secret


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file, from 1."""

    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Note:
    """``subject``: what it is about, as the input says it. ``file``, ``line``: of the input, from 1 (0: of no line)."""

    kind: Kind
    subject: str
    text: str
    line: int = 0
    file: str = ""

    def __str__(self) -> str:
        where = f" ({printable(self.file)}, line {self.line})" if self.line else ""
        return f"{self.kind.value}: {printable(self.subject)}{where}: {printable(self.text)}"

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"kind": self.kind.value}


@dataclass
class Draft:
    """A service file in the making: plain values, comments by path, and the notes of the report.

    ``secrets``: the name of each secret that is referred to → what it is.
    """

    value: dict[str, object] = field(default_factory=dict)
    comments: dict[Path_, list[str]] = field(default_factory=dict)
    told: dict[Note, None] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> list[Note]:
        """In the order that they came in, none twice."""
        return list(self.told)

    def note(self, kind: Kind, subject: str, text: str, at: Place | None = None) -> None:
        where = (at.line, at.file) if at is not None else (0, "")
        self.told.setdefault(Note(kind, subject, text, *where))

    def comment(self, path: Path_, text: str) -> None:
        """A comment above the field at ``path``."""
        self.comments.setdefault(path, []).append(text)

    def decide(self, path: Path_, subject: str, text: str, at: Place | None = None) -> None:
        """Something that a person has to decide: told in the file and in the report."""
        self.comment(path, f"decide: {text}")
        self.note(Kind.DECIDE, subject, text, at)


def printable(text: str) -> str:
    """One line that no terminal and no YAML reader can take for anything but a line."""
    return line("".join(letter if letter.isprintable() else " " for letter in text))
