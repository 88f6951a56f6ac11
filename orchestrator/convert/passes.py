"""Whether an answer file has the form that `up` takes: passes with components, each with a name, in one namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.convert.report import printable
from orchestrator.errors import InvalidInput
from orchestrator.render.answerfile import NS, PASSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.convert.tree import Element
    from orchestrator.errors import Problem

OFFLINE = ("urn:schemas-microsoft-com:cpi", "offlineImage")


def check(root: Element, source: str) -> None:
    """Raises InvalidInput with every problem, each with its line and column."""
    if root.namespace == NS and (found := tuple(_problems(root, source))):
        raise InvalidInput(source, found)


def _problems(root: Element, source: str) -> Iterator[Problem]:
    for step in root.children:
        if (step.namespace, step.name) == OFFLINE:
            continue
        if (step.namespace, step.name) != (NS, "settings"):
            yield step.problem(source, f"<{_shown(step.name)}> cannot be in <unattend>, which has: settings")
        elif step.get("pass") not in PASSES:
            told = f"there is no pass {step.get('pass')!r:.60}; there are: {', '.join(PASSES)}"
            yield step.problem(source, told)
        for part in step.children:
            yield from _component(part, source)


def _component(part: Element, source: str) -> Iterator[Problem]:
    if part.name != "component" or part.namespace != NS:
        yield part.problem(source, f"<{_shown(part.name)}> cannot be in <settings>, which has: component")
    elif not part.get("name"):
        yield part.problem(source, "<component> needs the attribute name")
    for below in _all(part):
        if below.namespace != NS:
            told = f"<{_shown(below.name)}> is in the namespace {below.namespace!r:.60}, not in {NS}"
            yield below.problem(source, told)


def _all(element: Element) -> Iterator[Element]:
    for child in element.children:
        yield child
        yield from _all(child)


def _shown(name: str) -> str:
    return printable(name)[:60]
