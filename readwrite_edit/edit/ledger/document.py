"""``ledger.json``: the file that says which edits there are, read as what anyone may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from readwrite_edit.durable import write_json
from readwrite_edit.edit.ledger.entries import Entry
from readwrite_edit.edit.ledger.naming import NAME_FORM
from readwrite_edit.errors import EditError
from readwrite_edit.models.identity import Base
from readwrite_edit.recipe.wording import shown

FILE = "ledger.json"
SCHEMA = 1
_DAMAGED = ": the ledger is damaged or not ours; put a copy of the file back, or move {} away to begin a new ledger"
_EXPECTED = {
    "bool_type": "true or false",
    "string_type": "text",
    "string_pattern_mismatch": NAME_FORM,
    "float_type": "a number",
    "finite_number": "a finite number",
    "tuple_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "timezone_aware": "a time with its zone",
    "datetime_parsing": "a time as ISO 8601 writes it",
    "datetime_from_date_parsing": "a time as ISO 8601 writes it",
    "datetime_type": "a time as ISO 8601 writes it",
}


class Document(BaseModel):
    """Contents of a ledger: its base, and its entries from the first to the last."""

    model_config = ConfigDict(strict=True, frozen=True)

    base: Base
    entries: tuple[Entry, ...] = ()


def read_document(path: Path) -> Document:
    """Read a ``ledger.json``.

    Raises:
        EditError: It is missing, damaged, not ours, or of a newer schema.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
    except FileNotFoundError:
        raise EditError(f"{path.parent} is no ledger: it has no {FILE}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise EditError(f"{path} {_unreadable(error)}{_DAMAGED.format(path.parent)}") from None
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise EditError(f"{path} has no schema number{_DAMAGED.format(path.parent)}")
    if schema > SCHEMA:
        raise EditError(f"{path} has schema {schema}, this version reads up to {SCHEMA}; upgrade")
    return _checked(path, text)


def write_document(path: Path, document: Document) -> None:
    """Replace a ``ledger.json``, whole or not at all.

    Raises:
        OSError: The disk refuses; the previous file stays.
    """
    write_json(path, {"schema": SCHEMA, **document.model_dump(mode="json")})


def _checked(path: Path, text: str) -> Document:
    try:
        document = Document.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        raise EditError(f"{path} {_worded(fault)}{_DAMAGED.format(path.parent)}") from None
    names = [entry.name.casefold() for entry in document.entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EditError(f"{path} names '{twice}' twice{_DAMAGED.format(path.parent)}")
    return document


def _unreadable(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON from line {error.lineno}, column {error.colno} on"
    if isinstance(error, OSError):
        return f"can not be read ({error.strerror or error})"
    return "is not text in UTF-8" if isinstance(error, UnicodeDecodeError) else "is nested too deeply to be read"


def _worded(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"])) or "text"
    if fault["type"] == "missing":
        return f"lacks {place}"
    expected = _EXPECTED.get(fault["type"], "another value")
    return f"has a wrong {place} ({shown(fault['input'])}; expected {expected})"
