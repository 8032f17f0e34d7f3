"""The edits of models as ``edit ls --json`` lists them; whatever the answer holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.edit_price import cell

MARK, IN_FORCE, UNDONE = "●", "✓ in force", "○ undone"
COLUMNS = ("", "edit", "state", "kind", "entered", "damage", "what")


@dataclass(frozen=True)
class LedgerRow:
    """An edit of a ledger. Its strings are data from files: ``printable`` before they are shown.

    Attributes:
        folder: Of the ledger.
        model: As the ledger names it.
        name, kind, title, created: Of the edit.
        active: Whether it is in force.
        damage: Predicted, or None.
        run: Folder of its run where it was then; empty where that is unknown.
    """

    folder: str
    model: str
    name: str
    kind: str
    title: str
    created: str
    active: bool
    damage: float | None
    run: str

    def cells(self, marked: bool) -> tuple[str, ...]:
        """A cell for each of ``COLUMNS``."""
        return (
            MARK if marked else " ",
            printable(self.name),
            IN_FORCE if self.active else UNDONE,
            printable(self.kind),
            printable(self.created[:16].replace("T", " ")),
            cell(self.damage),
            printable(" ".join(self.title.split())),
        )


def ledger_rows(answer: str) -> list[LedgerRow] | None:
    """The rows of an answer; None where it is not of that form."""
    try:
        ledgers = json.loads(answer)
    except (ValueError, RecursionError):
        return None
    if not isinstance(ledgers, list):
        return None
    found = [one for one in ledgers if isinstance(one, dict) and isinstance(one.get("entries"), list)]
    return [_row(ledger, entry) for ledger in found for entry in ledger["entries"] if isinstance(entry, dict)]


def ls_arguments(model: str, folder: str) -> list[str]:
    """The command that lists the edits of a model, or of all where none is named."""
    return ["edit", "ls", *(["--model", model] if model else []), *_ledger(folder), "--json"]


def entry_arguments(action: str, row: LedgerRow) -> list[str]:
    """The command that undoes or redoes an edit."""
    return ["edit", action, row.name, "--ledger", row.folder]


def stack_arguments(rows: Sequence[LedgerRow], to: Path) -> list[str]:
    """The command that writes edits of one ledger as one adapter."""
    return ["edit", "stack", *(row.name for row in rows), "--to", str(to), "--ledger", rows[0].folder]


def _ledger(folder: str) -> list[str]:
    return ["--ledger", folder] if folder not in ("", "edits") else []


def _row(ledger: dict[str, Any], entry: dict[str, Any]) -> LedgerRow:
    base = ledger.get("base")
    damage = entry.get("predicted_damage")
    return LedgerRow(
        folder=str(ledger.get("folder") or ""),
        model=str(base.get("source") or "") if isinstance(base, dict) else "",
        name=str(entry.get("name") or ""),
        kind=str(entry.get("kind") or ""),
        title=str(entry.get("title") or ""),
        created=str(entry.get("created") or ""),
        active=entry.get("active") is True,
        damage=float(damage) if isinstance(damage, int | float) and not isinstance(damage, bool) else None,
        run=str(entry.get("run") or ""),
    )
