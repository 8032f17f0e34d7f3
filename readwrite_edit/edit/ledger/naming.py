"""Names of edits: which are allowed, which are free, and which one was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from itertools import islice
from typing import Annotated

from pydantic import Field

from readwrite_edit.errors import EditError

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,59}$"
NAME_FORM = "up to 60 letters, digits, '_', '.' and '-', the first a letter or digit"
_MOST_LISTED = 20

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


def check_name(name: str) -> None:
    """Refuse a name that is not of the form.

    Raises:
        EditError: It is not.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise EditError(f"name {name!r}: expected {NAME_FORM}")


def is_taken(name: str, names: Iterable[str]) -> bool:
    """Whether an edit has the name; upper and lower case are alike, as on many file systems."""
    return name.casefold() in {known.casefold() for known in names}


def free_name(kind: str, names: Iterable[str]) -> str:
    """``<kind>-<number>``, the number one more than there are names, or the next that is free."""
    taken = tuple(names)
    stem, number = kind.replace("_", "-"), len(taken) + 1
    while is_taken(f"{stem}-{number}", taken):
        number += 1
    return f"{stem}-{number}"


def meant(name: str, names: Iterable[str]) -> str:
    """The name that is nearest to a wrong one as a question, ``did you mean 'tower'? ``; empty where none is near."""
    folded = {known.casefold(): known for known in names}
    near = get_close_matches(name.casefold(), folded, n=1)
    return f"did you mean '{folded[near[0]]}'? " if near else ""


def listed(names: Iterable[str]) -> str:
    """The first names in a line; the rest as an ellipsis."""
    first = list(islice(names, _MOST_LISTED + 1))
    return ", ".join(first[:_MOST_LISTED]) + (", …" if len(first) > _MOST_LISTED else "")
