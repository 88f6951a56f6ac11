"""What pydantic found wrong, as a user reads it. Apart from the forms, which take long to load."""

from __future__ import annotations

# How pydantic's own words are said to a user; the rest of its messages are plain enough.
WORDS = {
    "missing": "is missing",
    "extra_forbidden": "is not a field here",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "list_type": "must be a list",
    "too_short": "must not be empty",
}
PHRASES = {
    "Value error, ": "",
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "List should have": "must have",
    " after validation": "",
}


def in_words(found: object) -> str:
    """One of pydantic's errors as a user reads it."""
    details = dict(found)  # type: ignore[call-overload]
    kind, message = details["type"], str(details["msg"])
    if kind in WORDS:
        return WORDS[kind]
    for theirs, ours in PHRASES.items():
        message = message.replace(theirs, ours)
    is_plain = isinstance(details.get("input"), int | str) and kind != "value_error"
    return f"{message}, got {details['input']!r:.60}" if is_plain else message
