"""What the list of runs says in words: how many there are of which status, and more on the chosen one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.text import Text

from readwrite_edit.runs.wording import age_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.home.listing import RunRow
from readwrite_edit.tui.home.run_columns import STATUSES


def census(rows: Sequence[RunRow]) -> str:
    """How many rows there are of each status."""
    counts = Counter(row.view.status for row in rows)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]) or "no runs"


def account(row: RunRow) -> Text:
    """Two lines on the chosen row: what does not fit into its columns."""
    view = row.view
    first = Text.assemble((row.name, "bold"), f"  {row.reason}" if row.reason else "")
    if row.item is not None or view.status == "broken":
        return first
    facts = [f"segment {view.segment}"] if view.segment else []
    facts += [f"last sign {age_text(view.age_s)} ago by pid {view.pid} on {printable(view.hostname)}"]
    facts += [f"tags: {row.tags}"] if row.tags else []
    facts += [f"note: {row.note}"] if row.note else []
    return Text.assemble(first, "\n", "   ".join(facts))
