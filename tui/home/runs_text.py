"""What the list of runs says in words: how many there are of which status, and more on the chosen one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from readwrite_edit.runs.absence import METRICS, unread_text
from readwrite_edit.runs.wording import sign_text
from readwrite_edit.terminal import printable
from readwrite_edit.tui.actions import BY_ID
from readwrite_edit.tui.home.listing import RunRow
from readwrite_edit.tui.home.run_columns import STATUSES
from readwrite_edit.tui.home.sparkline import Trace
from readwrite_edit.tui.wording import how_to_begin

if TYPE_CHECKING:
    from readwrite_edit.tui.app import RunsApp


def census(rows: Sequence[RunRow]) -> str:
    """How many rows there are of each status."""
    counts = Counter(row.view.status for row in rows)
    return ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status]) or "no runs"


def nothing_yet(root: Path, desk: RunsApp) -> str:
    """What stands in place of the list where there is no run."""
    new_key = desk.key_text(BY_ID["runs.new"], first=True)
    return f"No runs in {printable(str(root))} yet.\n\n{how_to_begin(new_key)}"


def account(row: RunRow, trace: Trace) -> Text:
    """Two lines on the chosen row: what does not fit into its columns."""
    view = row.view
    first = Text.assemble((row.name, "bold"), f"  {row.reason}" if row.reason else "")
    if row.item is not None or view.status == "broken":
        return first
    facts = [f"segment {view.segment}"] if view.segment else []
    facts += [unread_text(METRICS, trace.problem)] if trace.problem else []
    sign = sign_text(view.age_s, view.ahead_s)
    facts += [f"last sign {sign} by pid {view.pid} on {printable(view.hostname)}"]
    facts += [f"tags: {row.tags}"] if row.tags else []
    facts += [f"note: {row.note}"] if row.note else []
    return Text.assemble(first, "\n", "   ".join(facts))
