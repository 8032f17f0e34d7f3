"""Rows of an edit's tables as a table to read: only what is known, only the first rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.words import figure
from readwrite_edit.report.record import is_number
from readwrite_edit.terminal import printable

MOST_ROWS = 16
_MOST_COLUMNS = 10
_LONGEST = 90

Row = Any  # a named tuple of ``DataFrame.itertuples``


class Column(NamedTuple):
    """One column to show: its heading and the cell of a row."""

    heading: str
    of: Callable[[Row], str]


def listing(table: pd.DataFrame, columns: Sequence[Column], *, file: str) -> TextTable | None:
    """The columns in which any row has something, and the first rows; None where there is nothing.

    Args:
        table: Cleaned.
        columns: What to show.
        file: Name of the table, for a last line that tells of further rows.
    """
    rows = list(table.head(MOST_ROWS).itertuples())
    cells = [[column.of(row) for row in rows] for column in columns]
    kept = [place for place, column in enumerate(cells) if any(cell not in ("", MISSING) for cell in column)]
    if not rows or not kept:
        return None
    body = [tuple(cells[place][row] or MISSING for place in kept) for row in range(len(rows))]
    if len(table) > MOST_ROWS:
        body.append((f"{len(table) - MOST_ROWS:,} more rows stand in {file}.csv", *[""] * (len(kept) - 1)))
    return TextTable(tuple(columns[place].heading for place in kept), body)


def matrix(row: Row) -> str:
    """Layer and role of a row."""
    return f"layer {row.layer:.0f} {row.module}" if is_number(row.layer) else row.module


def text(name: str) -> Callable[[Row], str]:
    """A text, cut where it is long."""

    def of(row: Row) -> str:
        value = str(getattr(row, name))
        return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"

    return of


def number(name: str) -> Callable[[Row], str]:
    """A number to three digits."""
    return lambda row: figure(getattr(row, name))


def count(name: str) -> Callable[[Row], str]:
    """A whole number."""

    def of(row: Row) -> str:
        value = getattr(row, name)
        return f"{value:,.0f}" if is_number(value) else MISSING

    return of


def percent(name: str) -> Callable[[Row], str]:
    """A share."""

    def of(row: Row) -> str:
        value = getattr(row, name)
        return f"{100 * value:.3g} %".replace("-", "\N{MINUS SIGN}") if is_number(value) else MISSING

    return of


def change(before: str, after: str, form: Callable[[str], Callable[[Row], str]] = number) -> Callable[[Row], str]:
    """Before → after; a dash where neither is known."""

    def of(row: Row) -> str:
        sides = [form(name)(row) for name in (before, after)]
        return MISSING if sides == [MISSING, MISSING] else " → ".join(side or MISSING for side in sides)

    return of


def plain_plan(name: str, table: pd.DataFrame) -> Plan:
    """A table that no figure is known for, as its first rows and columns.

    Args:
        name: Of the table.
        table: As it was written.
    """
    names = [str(column) for column in table.columns][:_MOST_COLUMNS]
    is_text = {column: not pd.api.types.is_numeric_dtype(table[column]) for column in names}
    texts = tuple(column for column in names if is_text[column])
    left = len(table.columns) - len(names)

    def make(clean: pd.DataFrame) -> TextTable | None:
        clean = clean.set_axis([f"c{place}" for place in range(clean.shape[1])], axis=1)  # any name will do
        order = {column: f"c{place}" for place, column in enumerate((*texts, *numbers))}
        forms = {column: text if is_text[column] else number for column in names}
        shown = [Column(printable(column.replace("_", " ")), forms[column](order[column])) for column in names]
        return listing(clean, shown, file=name)

    numbers = tuple(column for column in names if not is_text[column])
    more = f" {left} more columns stand there." if left else ""
    title = printable(name.replace("_", " ")).capitalize()
    return Plan(title, f"The first rows of {printable(name)}.csv.{more}", name, make, texts=texts, optional=numbers)
