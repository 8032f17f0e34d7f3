"""Texts and chat messages of data rows: what they must look like."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from readwrite_edit.align.records import kind_of

ROLES = ("system", "developer", "user", "assistant", "tool")
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


class BadRowError(ValueError):
    """What is wrong with one row; the caller adds its place."""


def checked_messages(key: str, value: list[Any]) -> list[dict[str, Any]]:
    """Messages with known roles and text contents.

    Fields that are null, which columnar formats put wherever another row has
    the field, are left out.

    Args:
        key: Name of the field, for the report.
        value: What should be a list of messages.

    Raises:
        BadRowError: It is empty or some message is malformed.
    """
    if not value:
        raise BadRowError(f"{key} is an empty list")
    for number, message in enumerate(value, 1):
        problem = _message_problem(message)
        if problem:
            raise BadRowError(f"message {number} of {key} {problem}")
    check_characters(key, value)
    return [
        {name: item for name, item in message.items() if item is not None or name == "content"} for message in value
    ]


def check_characters(key: str, value: Any) -> None:
    """Refuse characters that no text should hold and tokenizers stumble over.

    Raises:
        BadRowError: A NUL character, or half of a surrogate pair.
    """
    for text in _texts(value):
        if "\0" in text:
            raise BadRowError(f"{key} holds a NUL character")
        if _HALF_A_PAIR.search(text):
            raise BadRowError(f"{key} holds half of a surrogate pair, which is no character")


def short(value: Any) -> str:
    """A value for a message, cut where it is long."""
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, Mapping):
        return f"is {kind_of(message)}; expected an object with role and content"
    if "role" not in message:
        return f"has no role (its fields: {short(', '.join(map(str, message)))})"
    if message["role"] not in ROLES:
        return f"has the unknown role {short(message['role'])}; expected one of {', '.join(ROLES)}"
    content = message.get("content")
    if isinstance(content, str) or (content is None and message.get("tool_calls")):
        return None
    return "has no content" if "content" not in message else f"has a content that is {kind_of(content)}, not a text"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
