"""XML as a tree that knows where everything stands. No document type, hence no entities; nothing is fetched.

lxml keeps no columns, so this is expat's reading.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from orchestrator.convert.report import Place
from orchestrator.errors import InvalidInput, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 60
MAX_ELEMENTS = 10_000


@dataclass
class Element:
    """``attributes`` without those of other namespaces. ``line`` and ``column`` count from 1."""

    name: str
    namespace: str
    attributes: dict[str, str]
    line: int
    column: int
    children: list[Element] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    source: str = ""

    @property
    def at(self) -> Place:
        """For a report of more than one file."""
        return Place(self.source, self.line)

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def all(self, *names: str) -> Iterator[Element]:
        """What is below, level by level, by name; ``a, b`` is every b in every a."""
        head, *rest = names
        for child in self.children:
            if child.name == head:
                yield from child.all(*rest) if rest else (child,)

    def first(self, *names: str) -> Element | None:
        return next(self.all(*names), None)

    def get(self, name: str, otherwise: str = "") -> str:
        return self.attributes.get(name, otherwise)

    def problem(self, source: str, message: str) -> Problem:
        return Problem(source, message, self.line, self.column)


class _Stop(Exception):
    """The text is not to be read any further."""


class _Builder:
    def __init__(self, source: str) -> None:
        self.source = source
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.root: Element | None = None
        self.open: list[Element] = []
        self.count = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition(" ")
        self.count += 1
        if len(self.open) >= MAX_DEPTH or self.count > MAX_ELEMENTS:
            raise _Stop("is nested too deeply, or has too many elements")
        own = {key: value for key, value in attributes.items() if " " not in key}
        place = self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber + 1
        element = Element(local, namespace, own, *place, source=self.source)
        if self.open:
            self.open[-1].children.append(element)
        else:
            self.root = element
        self.open.append(element)

    def end(self, _name: str) -> None:
        self.open.pop()

    def characters(self, text: str) -> None:
        if self.open:
            self.open[-1].parts.append(text)

    def doctype(self, *_declaration: object) -> None:
        raise _Stop("has a document type (<!DOCTYPE …>), which no such file needs")


def read(data: bytes, source: str) -> Element:
    """The root of a document. Raises InvalidInput, with line and column, when it is none."""
    builder = _Builder(source)
    try:
        builder.parser.Parse(data, True)
    except expat.ExpatError as error:
        problem = Problem(source, f"is not XML: {expat.ErrorString(error.code)}", error.lineno, error.offset + 1)
        raise InvalidInput(source, (problem,)) from error
    except (_Stop, ValueError, LookupError) as error:  # ValueError, LookupError: an encoding that there is not
        place = max(1, builder.parser.CurrentLineNumber), builder.parser.CurrentColumnNumber + 1
        raise InvalidInput(source, (Problem(source, str(error), *place),)) from error
    if builder.root is None:
        raise InvalidInput(source, (Problem(source, "is empty", 1, 1),))
    return builder.root
