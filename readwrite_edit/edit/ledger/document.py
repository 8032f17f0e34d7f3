"""``ledger.json``: the file that says which edits there are, read as what anyone may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from readwrite_edit.durable import write_json
from readwrite_edit.edit.ledger.base import Base
from readwrite_edit.edit.ledger.entries import Entry
from readwrite_edit.errors import EditError

FILE = "ledger.json"
SCHEMA = 1


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
        raise EditError(f"{path} can not be read ({error}): the ledger is damaged; put a copy of it back") from None
    schema = value.get("schema") if isinstance(value, dict) else None
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise EditError(f"{path} has no schema number: the ledger is damaged or not ours")
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
        raise EditError(f"{path} {_worded(fault)}: the ledger is damaged or not ours") from None
    names = [entry.name.casefold() for entry in document.entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise EditError(f"{path} names '{twice}' twice: the ledger is damaged")
    return document


def _worded(fault: Any) -> str:
    place = ".".join(map(str, fault["loc"]))
    return f"lacks {place}" if fault["type"] == "missing" else f"has a wrong {place or 'text'} ({fault['msg']})"
