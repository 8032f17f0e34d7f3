"""Figures of the graded control: fractions against the grade, trends, and what each arm learned."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import at_null, short, small_multiples, styles
from readwrite_edit.report.probe_figures.words import figure, spanned

_QUANTITIES = {
    "relative_isotropic": "Fraction ÷ isotropic null against the grade",
    "relative_energy": "Fraction ÷ energy null against the grade",
    "fraction": "Fraction against the grade",
}
_TREND = ("slope", "slope_low", "slope_high", "change", "change_low", "change_high", "spearman", "n_seeds")
_ARM = ("steps", "loss_first", "loss_last", "held_out_accuracy", "held_out_margin", "delta_norm", "delta_relative_norm")


def _plan(quantity: str) -> Plan:
    return Plan(
        _QUANTITIES[quantity],
        "Grade 0 is cross-entropy, grade 1 the preference loss. Marks: means over seeds; bars: their 95 % intervals "
        "(none with a single seed).",
        "contrast",
        lambda table: _against_grade(table[table["quantity"] == quantity], quantity),
        labels=("side", "module", "quantity"),
        numbers=("grade", "mean"),
        optional=("low", "high"),
    )


def _against_grade(table: pd.DataFrame, quantity: str) -> str:
    of = styles(table["module"])
    titles = {f"{side} side": side for side in ("read", "write") if (table["side"] == side).any()}

    def draw(axes: Axes, title: Hashable) -> None:
        _side(axes, table[table["side"] == titles[str(title)]], of)
        axes.set_xlabel("grade")
        if quantity != "fraction":
            at_null(axes)

    return small_multiples(list(titles), draw, prefix=f"grades-{quantity}", row_in=3.0)


def _side(axes: Axes, table: pd.DataFrame, of: Mapping[str, Any]) -> None:
    """Means with their intervals, each module moved aside a little so that bars do not cover each other."""
    modules = [name for name in of if (table["module"] == name).any()]
    width = (table["grade"].max() - table["grade"].min()) * 0.012
    for place, module in enumerate(modules):
        points = table[table["module"] == module].sort_values("grade")
        colour, dash, mark = of[module]
        reach = [(points["mean"] - points["low"]).clip(lower=0), (points["high"] - points["mean"]).clip(lower=0)]
        bars = np.nan_to_num(np.array(reach))
        x = points["grade"] + width * (place - (len(modules) - 1) / 2)
        axes.errorbar(
            x, points["mean"], bars, color=colour, linestyle=dash, marker=mark, capsize=2.5, label=short(module)
        )


def _trends(table: pd.DataFrame) -> TextTable:
    rows = [
        (
            f"{row.side} side, {row.module}",
            str(row.quantity).replace("_", " "),
            spanned(row.slope, row.slope_low, row.slope_high),
            spanned(row.change, row.change_low, row.change_high),
            figure(row.spearman),
            figure(row.n_seeds),
        )
        for row in table.itertuples()
    ]
    return TextTable(("", "quantity", "slope (95 %)", "first to last (95 %)", "Spearman's ρ", "seeds"), rows)


def _arms(table: pd.DataFrame) -> TextTable:
    arms = table.drop_duplicates(["grade", "seed"]).sort_values(["grade", "seed"])
    shown = [name for name in _ARM if arms[name].notna().any()]
    rows = [
        (f"{row['grade']:g}", f"{row['seed']:g}", *(figure(row[name]) for name in shown))
        for row in arms.to_dict("records")
    ]
    return TextTable(("grade", "seed", *(name.replace("_", " ") for name in shown)), rows)


CONTRAST = (
    *map(_plan, _QUANTITIES),
    Plan(
        "Trends",
        "Slope of the value over the grade, and its change from the first to the last grade: means over seeds.",
        "trend",
        _trends,
        labels=("side", "module", "quantity"),
        optional=_TREND,
    ),
    Plan(
        "What each arm learned",
        "One row per arm: same start, same rows by seed, same steps and optimiser.",
        "arms",
        _arms,
        numbers=("grade", "seed"),
        optional=_ARM,
    ),
)
