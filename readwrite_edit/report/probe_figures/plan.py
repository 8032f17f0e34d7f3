"""How a figure is made of a table that may be missing, empty or not what it should be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from readwrite_edit.report.heatmap import Heatmap
from readwrite_edit.terminal import printable

_WHOLE = frozenset({"layer", "head", "k", "step", "tokens", "index", "seed"})
_LARGEST_WHOLE = 2.0**53


@dataclass(frozen=True)
class TextTable:
    """A table to read: names of the columns, then rows of cells."""

    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Figure:
    """One figure of a page: a drawing, heatmaps or a table, with what is to be said of it."""

    title: str
    caption: str
    svg: str = ""
    maps: tuple[Heatmap, ...] = ()
    table: TextTable | None = None


@dataclass(frozen=True)
class Plan:
    """A figure to make where its table is there.

    Attributes:
        title: Heading.
        caption: What is drawn, and how to read it.
        table: Name of the table.
        make: Gives SVG, heatmaps or a table for the cleaned table; something empty where there is nothing to show.
        labels: Columns of text that must be there.
        numbers: Columns of numbers that must be there; rows without them are left out.
        optional: Further columns of numbers; filled with NaN where they are not there.
        texts: Further columns of text; filled with empty text where they are not there.
    """

    title: str
    caption: str
    table: str
    make: Callable[[pd.DataFrame], str | list[Heatmap] | TextTable | None]
    labels: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


def carry_out(plans: Iterable[Plan], tables: Mapping[str, pd.DataFrame]) -> tuple[list[Figure], list[str]]:
    """Every figure that can be made, and a sentence for each that can not."""
    figures, absent = [], []
    for plan in plans:
        outcome = _carried_out(plan, tables.get(plan.table))
        if isinstance(outcome, Figure):
            figures.append(outcome)
        else:
            absent.append(f"{plan.title}: {outcome}.")
    return figures, absent


def _carried_out(plan: Plan, table: pd.DataFrame | None) -> Figure | str:
    if table is None or not len(table):
        return f"there is no table {plan.table}" if table is None else f"table {plan.table} is empty"
    if missing := [name for name in (*plan.labels, *plan.numbers) if name not in table.columns]:
        return f"table {plan.table} has no column {', '.join(missing)}"
    clean = cleaned(plan, table)
    try:
        made = plan.make(clean) if len(clean) else None
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # one figure must not cost the page
        return f"table {plan.table} can not be drawn ({type(error).__name__}: {error})"
    return _figure(plan, made) if made else f"table {plan.table} has no figures for it"


def _figure(plan: Plan, made: str | list[Heatmap] | TextTable) -> Figure:
    if isinstance(made, str):
        return Figure(plan.title, plan.caption, svg=Markup(made))  # matplotlib escapes what it draws
    if isinstance(made, TextTable):
        return Figure(plan.title, plan.caption, table=made)
    return Figure(plan.title, plan.caption, maps=tuple(made))


def cleaned(plan: Plan, table: pd.DataFrame) -> pd.DataFrame:
    """The plan's columns: finite numbers or NaN, text that is safe to show, counts as integers."""
    columns: dict[str, pd.Series] = {}
    for name in (*plan.labels, *plan.texts):
        columns[name] = _texts(table[name]) if name in table.columns else pd.Series("", index=table.index)
    for name in (*plan.numbers, *plan.optional):
        columns[name] = numbers(table[name]) if name in table.columns else pd.Series(np.nan, index=table.index)
    clean = pd.DataFrame(columns).dropna(subset=list(plan.numbers))
    for name in _WHOLE.intersection(plan.numbers):
        clean = clean[clean[name].abs() < _LARGEST_WHOLE].astype({name: "int64"})
    return clean


def numbers(column: pd.Series) -> pd.Series:
    """Numbers as floats; NaN for all else, infinity included."""
    found = pd.to_numeric(column, errors="coerce").astype("float64")
    return found.where(np.isfinite(found))


def _texts(column: pd.Series) -> pd.Series:
    return column.map(lambda value: "" if _is_missing(value) else printable(str(value))).astype(object)


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA
