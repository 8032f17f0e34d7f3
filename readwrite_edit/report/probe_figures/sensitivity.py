"""Figures of the sensitivity probe: the verdict's numbers under one changed definition at a time."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import at_null_upright, short, small_multiples
from readwrite_edit.report.probe_figures.words import counted, figure, spanned, unbroken
from readwrite_edit.report.svg import FAINT, FIRST, INK

_ROW_IN = 0.24
_PANELS = {
    "Read ÷ isotropic null": "read_relative_isotropic",
    "Write ÷ isotropic null": "write_relative_isotropic",
    "Read over write": "asymmetry_ratio",
    "Read ÷ energy null": "read_relative_energy",
    "Write ÷ energy null": "write_relative_energy",
}
_OTHERS = (
    "shown", "matrices", "asymmetry_low", "asymmetry_high", "asymmetry_p", "read_above_isotropic",
    "read_tested_isotropic", "write_above_isotropic", "write_tested_isotropic",
)  # fmt: skip
_NUMBERS = (*_PANELS.values(), *_OTHERS)


def _dots(table: pd.DataFrame) -> str:
    """A dot a definition, one row each; the definitions as given are the line that others are read against."""
    shown = table.reset_index(drop=True)
    panels = [title for title, column in _PANELS.items() if shown[column].notna().any()]

    def draw(axes: Axes, title: Hashable) -> None:
        _dot_panel(axes, shown, _PANELS[str(title)], named=title == panels[0])

    height = _ROW_IN * len(shown) + 0.6
    return small_multiples(panels, draw, prefix="variants", columns=len(panels), row_in=height)


def _dot_panel(axes: Axes, table: pd.DataFrame, column: str, *, named: bool) -> None:
    axes.axvline(table[column].iloc[0], color=FAINT, linewidth=0.9, label="as given")
    for judged, mark, label in ((True, "o", "verdict: shown"), (False, "s", "verdict: not shown")):
        part = table[(table["shown"] > 0) == judged].dropna(subset=[column])
        face = FIRST if judged else "none"
        if len(part):
            axes.plot(part[column], part.index, mark, color=FIRST, markerfacecolor=face, markersize=5, label=label)
    if column == "asymmetry_ratio":
        axes.hlines(table.index, table["asymmetry_low"], table["asymmetry_high"], color=INK, linewidth=0.8, zorder=1)
    at_null_upright(axes)
    axes.set_yticks(table.index, [short(name) for name in table["variant"]] if named else [""] * len(table))
    axes.set_ylim(len(table) - 0.5, -0.5)


def _table(table: pd.DataFrame) -> TextTable:
    header = (
        "definition",
        "varies",
        "verdict",
        "read ÷ k/d",
        "above it",
        "write ÷ k/d",
        "above it",
        "read over write",
        "p",
    )
    rows = [
        (
            row.variant,
            row.group,
            MISSING if pd.isna(row.shown) else "shown" if row.shown else unbroken("not shown"),
            figure(row.read_relative_isotropic),
            counted(row.read_above_isotropic, row.read_tested_isotropic),
            figure(row.write_relative_isotropic),
            counted(row.write_above_isotropic, row.write_tested_isotropic),
            spanned(row.asymmetry_ratio, row.asymmetry_low, row.asymmetry_high),
            figure(row.asymmetry_p),
        )
        for row in table.itertuples()
    ]
    return TextTable(header, rows)


SENSITIVITY = (
    Plan(
        "The verdict's numbers",
        "One row per changed definition, the first as given (the upright line). Filled circles: the verdict is shown; "
        "open squares: it is not. Bars: intervals over layers. Dashed: a ratio of 1.",
        "variants",
        _dots,
        labels=("variant",),
        optional=_NUMBERS,
    ),
    Plan(
        "Definition by definition",
        "Means over matrices, and the matrices above that null (q < 0.05) of those tested; read over write: geometric "
        "mean over layers with its 95 % interval.",
        "variants",
        _table,
        labels=("variant",),
        optional=_NUMBERS,
        texts=("group",),
    ),
)
