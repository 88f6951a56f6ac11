"""What goes wrong in a fake world: effects that raise, and the moment at which the process is killed."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field


class Killed(BaseException):
    """The process was killed: not an error that anything may handle."""


class Harm(AssertionError):
    """Something was about to be done that must never be done, whatever the state of the world."""


@dataclass
class Faults:
    """``lives``: how many effects are had before the process dies (None: it does not).

    ``broken``: (effect, object) → errors to raise, one a call; an object "" is any. ``gates``: the same → nothing of it
    is done until the gate is open; ``held``: what has had to wait there. ``before``: called before each effect is had.
    """

    lives: int | None = None
    broken: dict[tuple[str, str], list[Exception]] = field(default_factory=dict)
    gates: dict[tuple[str, str], threading.Event] = field(default_factory=dict)
    held: list[tuple[str, str]] = field(default_factory=list)
    done: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[], None] | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def effect(self, name: str, subject: str) -> None:
        """Called before anything is changed; and once more in the middle of what is changed in two parts."""
        for gate in filter(None, (self.gates.get((name, subject)), self.gates.get((name, "")))):
            self.held += [] if gate.is_set() else [(name, subject)]
            gate.wait()
        with self._lock:
            if self.lives is not None and self.lives <= len(self.done):
                raise Killed
            if self.before is not None:
                self.before()
            for key in ((name, subject), (name, "")):
                if self.broken.get(key):
                    raise self.broken[key].pop(0)
            self.done.append((name, subject))
