r"""Values of a recipe as text in a form, and as text behind ``--set``.

A form shows texts as they are. One that holds a control character is shown in
quotes with escapes, as in JSON, and is read so; a text that only looks like that
is shown in quotes too, so that each text stands for one value.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe.yaml_nodes import read_document
from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.schema import Field

_NUMBERS = re.compile(r"[-+.\deE]+(\s*,\s*[-+.\deE]+)+")


class UnreadableError(RecipeError):
    """What was typed is no value of any kind; its message says why."""


def text_of(field: Field, value: Any) -> str:
    """A value as a form shows it: safe for the terminal, and :func:`value_of` gives the value back."""
    if value is None:
        return ""
    if field.kind in ("switch", "choice"):
        return printable(value if isinstance(value, str) else flow(value))
    if field.kind == "text":
        return quoted(value) if isinstance(value, str) else flow(value)
    if field.kind in ("names", "texts", "items"):
        items = list(value) if isinstance(value, list | tuple) else [value]
        return _joined(field, items)
    return flow(value)


def value_of(field: Field, text: str) -> Any:
    """The value that a text in a form stands for.

    Raises:
        UnreadableError: It is no YAML where that is expected.
    """
    if field.kind == "text":
        return None if not text and field.nullable else unquoted(text)
    if field.kind in ("names", "texts", "items"):
        found = _items(field, text)
        return None if not found and field.nullable else found
    stripped = text.strip()
    if field.kind == "choice" and stripped not in ("true", "false", ""):
        return stripped
    if field.kind == "value" and _NUMBERS.fullmatch(stripped):
        return _yaml(f"[{stripped}]")
    return _yaml(stripped)


def flow(value: Any) -> str:
    """A value as YAML on one line, safe for the terminal: what ``--set`` takes behind the equals sign."""
    if isinstance(value, str):
        return value if value and _reads_as(value, value) else _in_quotes(value)
    return _inner(value)


def quoted(text: str) -> str:
    """A text as it is, or in quotes where control characters must be seen."""
    return json.dumps(text) if _needs_quotes(text) else text


def unquoted(text: str) -> str:
    """The text that :func:`quoted` was given."""
    inner = _json_text(text)
    return inner if inner is not None and _needs_quotes(inner) else text


def _needs_quotes(text: str) -> bool:
    if printable(text) != text:
        return True
    inner = _json_text(text)
    return inner is not None and _needs_quotes(inner)


def _json_text(text: str) -> str | None:
    """What a text in quotes means as JSON; None where it is none."""
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return None
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, str) else None


def _joined(field: Field, items: list[Any]) -> str:
    if field.kind == "names":
        return ", ".join(printable(str(item)) for item in items)
    if field.kind == "texts":
        return "\n".join(quoted(item) if isinstance(item, str) else flow(item) for item in items)
    return "\n".join(flow(_short(item)) for item in items)


def _short(item: Any) -> Any:
    """A text's section that says nothing but its path is that path."""
    return item["path"] if isinstance(item, dict) and set(item) == {"path"} else item


def _items(field: Field, text: str) -> list[Any]:
    if field.kind == "names":
        return [part.strip() for part in text.strip().removeprefix("[").removesuffix("]").split(",") if part.strip()]
    lines = [line for line in text.split("\n") if line.strip()]
    return [unquoted(line) if field.kind == "texts" else _yaml(line) for line in lines]


def _yaml(text: str) -> Any:
    try:
        document = read_document(text)
    except yaml.YAMLError as error:
        raise UnreadableError("no YAML value: put text with special signs in quotes") from error
    if document.problems:
        raise UnreadableError(document.problems[0][2])
    return document.value


def _inner(value: Any) -> str:
    """As :func:`flow`, also within a list or mapping."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_inner(name)}: {_inner(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inner, value)) + "]"
    if isinstance(value, str):
        return value if value and _reads_as(f"[{value}, {{{value}: 1}}]", [value, {value: 1}]) else _in_quotes(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def _in_quotes(text: str) -> str:
    shown = json.dumps(text, ensure_ascii=False)
    return shown if printable(shown) == shown else json.dumps(text)


def _reads_as(text: str, value: Any) -> bool:
    if printable(text) != text:
        return False
    try:
        document = read_document(text)
    except (yaml.YAMLError, RecursionError):
        return False
    found = document.value
    return not document.problems and type(found) is type(value) and bool(found == value)
