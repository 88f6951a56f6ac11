"""Where secrets are named inside the model's frozen values, wherever that is: a new field needs nothing here."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.model.secret import SecretRef

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Path = tuple[str | int, ...]
T = TypeVar("T")


def refs(value: object, path: Path = ()) -> Iterator[tuple[Path, SecretRef]]:
    """Every reference inside a value, with its path as in a service file: a thing that has a name is known by it."""
    if isinstance(value, SecretRef):
        yield path, value
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from refs(item, (*path, _part(number, item, path)))
    elif is_dataclass(value):
        for field in fields(value):
            yield from refs(getattr(value, field.name), (*path, field.name))


def _part(number: int, item: object, path: Path) -> str | int:
    """Roles and their endpoints are mappings in a service file; all else is a list."""
    return str(getattr(item, "name", number)) if path[-1:] in {("roles",), ("endpoints",)} else number


def with_refs(value: T, become: Callable[[SecretRef], SecretRef]) -> T:
    """The same value with every reference in it replaced."""
    return _with_refs(value, become)  # type: ignore[no-any-return]


def _with_refs(value: Any, become: Callable[[SecretRef], SecretRef]) -> Any:  # noqa: ANN401 - any of the model's
    if isinstance(value, SecretRef):
        return become(value)
    if isinstance(value, tuple):
        return tuple(_with_refs(item, become) for item in value)
    if not is_dataclass(value) or isinstance(value, type):
        return value
    parts = {field.name: getattr(value, field.name) for field in fields(value)}
    changed = {name: _with_refs(part, become) for name, part in parts.items()}
    return value if changed == parts else replace(value, **changed)
