"""Rows of text as a table on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from readwrite_edit.terminal import printable

_LONGEST_CELL = 48


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; long cells are cut, the last one of a row is not.

    Args:
        rows: Of one length; the first holds the headings. Whatever they hold, nothing but text reaches the terminal.
    """
    cells = [[_cell(text) for text in row[:-1]] + [printable(row[-1])] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _cell(text: str) -> str:
    safe = printable(text)
    return safe if len(safe) <= _LONGEST_CELL else safe[: _LONGEST_CELL - 1] + "…"
