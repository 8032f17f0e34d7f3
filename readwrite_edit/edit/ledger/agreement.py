"""Edits that can not be in force together: contradictions, and the same thing twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from readwrite_edit.edit.ledger.entries import Entry, Fact
from readwrite_edit.errors import EditError


def check_facts(entries: Iterable[Entry], facts: Sequence[Fact], otherwise: str = "") -> None:
    """Refuse facts that an edit in force contradicts, or makes already.

    Args:
        entries: Edits in force.
        facts: Those of another one.
        otherwise: What else the user can do, for the message.

    Raises:
        EditError: One question would have two answers, or one answer twice.
    """
    for entry in entries:
        if entry.contradicts(facts):
            raise EditError(f"this contradicts '{entry.name}' ({entry.title}), {_undo(entry)}{otherwise}")
        made = entry.made_of(facts)
        if made is not None:
            fact = f"{made.question[0]} → {made.answer}"
            raise EditError(f"'{entry.name}' makes the fact '{fact}' already, {_undo(entry)}{otherwise}")


def same_change(entry: Entry, otherwise: str = "") -> EditError:
    """The error to raise for an edit that changes what an edit in force changes, by the same."""
    return EditError(
        f"this is the same change as '{entry.name}' ({entry.title}) and would count twice: it is one "
        f"{_undo(entry)}{otherwise}"
    )


def sharing_facts(entry: Entry, entries: Iterable[Entry]) -> tuple[str, ...]:
    """Names of edits in force that make a fact of another one too: both in a stack, it counts twice.

    Args:
        entry: Of a ledger.
        entries: Those of the ledger that are in force.
    """
    return tuple(other.name for other in entries if other.name != entry.name and other.made_of(entry.facts))


def _undo(entry: Entry) -> str:
    return f"which is in force: take that out first with readwrite-edit edit undo {entry.name}"
