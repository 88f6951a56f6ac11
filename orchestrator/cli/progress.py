"""Progress while the loop runs: on a terminal one live line for each instance, elsewhere a line for each change.

Nothing waits in silence: without a terminal, what everything waits for is said again every few seconds.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Protocol

import click

from orchestrator.cli.view import duration
from orchestrator.drivers.clock import SystemClock
from orchestrator.engine.status import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from orchestrator.engine.status import InstanceStatus
    from orchestrator.ports import Clock, Progress

SILENCE_S = 4.5


class Display(Protocol):
    """Shows where instances are."""

    def say(self, text: str) -> None:
        """Something that is under way now, outside of any instance."""

    def show(self, statuses: list[InstanceStatus]) -> None: ...

    def remind(self, text: str) -> None:
        """What everything waits for, when there is no instance to say it of."""


@contextlib.contextmanager
def display() -> Iterator[Display]:
    """The display that fits where stderr goes."""
    clock = SystemClock()
    if not sys.stderr.isatty():
        yield Lines(clock)
        return
    from rich.console import Console
    from rich.live import Live

    live = _LiveTable(clock)
    console = Console(stderr=True)
    with Live(get_renderable=live.render, console=console, refresh_per_second=4, transient=True):
        yield live


@contextlib.contextmanager
def never_silent(report: Progress) -> Iterator[Progress]:
    """A ``report`` that repeats what it was told last when nothing new comes for a while."""
    last, told, over = ["working"], threading.Event(), threading.Event()

    def heard(text: str) -> None:
        last[0] = text
        told.set()
        report(text)

    def remind() -> None:
        while not over.is_set():
            if not told.wait(SILENCE_S) and not over.is_set():
                report(f"still {last[0]}")
            told.clear()

    threading.Thread(target=remind, daemon=True).start()
    try:
        yield heard
    finally:
        over.set()
        told.set()


class Lines:
    """A line when something changes, and a reminder when nothing does."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = clock.now()
        self._seen: dict[str, tuple[State, int, str]] = {}
        self._last = clock.now()

    def say(self, text: str) -> None:
        self._print(text)

    def show(self, statuses: list[InstanceStatus]) -> None:
        for status in statuses:
            name = str(status.record.id.name)
            now = (status.state, status.record.generation, status.stage.value)
            if self._seen.get(name) != now:
                self._seen[name] = now
                self._print(_sentence(status))
        waiting = [status for status in statuses if status.state is not State.READY]
        if waiting and self._clock.now() - self._last > SILENCE_S:
            for status in waiting:
                self._print(_sentence(status))

    def remind(self, text: str) -> None:
        if self._clock.now() - self._last > SILENCE_S:
            self._print(text)

    def _print(self, text: str) -> None:
        self._last = self._clock.now()
        click.echo(f"[{self._last - self._begun:6.1f} s] {text}", err=True)


def _sentence(status: InstanceStatus) -> str:
    reason = f": {status.reason}" if status.reason else ""
    return f"{status.record.id.name} {status.state.value}{reason}"


class _LiveTable:
    """The same on a terminal, drawn again four times a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._statuses: list[InstanceStatus] = []
        self._text = ""

    def say(self, text: str) -> None:
        self._text = text

    def show(self, statuses: list[InstanceStatus]) -> None:
        self._statuses, self._text = statuses, ""

    def remind(self, text: str) -> None:
        self._text = text

    def render(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, justify="right")
        table.add_column(overflow="ellipsis", no_wrap=True)
        colours = {State.READY: "green", State.FAILED: "red"}
        for status in self._statuses:
            state = Text(status.state.value, style=colours.get(status.state, "yellow"))
            since = duration(self._clock.now() - status.since)
            table.add_row(status.record.id.name, state, since, Text(status.reason, style="dim"))
        if self._text:
            table.add_row("", "", "", Text(self._text, style="dim"))
        return table
