"""Figures of an edit's effect beside its controls."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.edit_figures.listing import Column, count, listing, number
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import small_multiples, strips
from readwrite_edit.report.probe_figures.words import counted, spanned
from readwrite_edit.report.svg import FIRST, SECOND

EDIT = "edit"
_LINES = ((EDIT, FIRST, "-", "this edit"), ("sign_flip", SECOND, "--", "its opposite"))
_STRIP_IN, _AROUND_IN = 0.34, 0.75
_NUMBERS = (
    "n_controls", "effect", "control_mean", "control_median", "control_sd", "reached", "difference", "low", "high",
    "p_value", "p_value_observations", "effect_size",
)  # fmt: skip


def with_tested(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame | None:
    """The controls, and the edit itself as one more row of family ``edit``; None where there are none."""
    controls, effects = tables.get("controls"), tables.get("effects")
    if controls is None or effects is None or "effect" not in effects.columns or not len(effects):
        return controls
    tested = pd.DataFrame({"family": [EDIT], "matching": [""], "effect": [effects["effect"].iloc[0]]})
    return pd.concat([controls, tested], ignore_index=True)


def _effects(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("against", lambda row: _named(row.family, row.matching)),
            Column("controls", count("n_controls")),
            Column("reached by", lambda row: counted(row.reached, row.n_controls)),
            Column("effect", number("effect")),
            Column("controls' mean", number("control_mean")),
            Column("their SD", number("control_sd")),
            Column("difference (95 %)", lambda row: spanned(row.difference, row.low, row.high)),
            Column("÷ SD", number("effect_size")),
            Column("p", number("p_value")),
            Column("p, by prompt", number("p_value_observations")),
        ),
        file="effects",
    )


def _controls(table: pd.DataFrame) -> str:
    named = table.assign(name=[_named(*pair) for pair in zip(table["family"], table["matching"], strict=True)])
    rows = named.loc[~named["family"].isin([family for family, *_ in _LINES]), "name"].nunique()
    statistic = next((text for text in named["statistic"] if text), "effect")

    def draw(axes: Axes, _: Hashable) -> None:
        strips(axes, named, "effect", _LINES, label=statistic)

    return small_multiples([""], draw, prefix="controls", columns=1, row_in=_STRIP_IN * rows + _AROUND_IN) * (rows > 0)


def _named(family: str, matching: str) -> str:
    words = family.replace("_", " ")
    return words if matching in ("both", "") else f"{words}, same {'norm' if matching == 'frobenius' else matching}"


EFFECTS = (
    Plan(
        "Effect and controls",
        "Dots: one control each; short bars: their medians; the line through all rows: this edit. The controls have "
        "its norm or its output energy on the statistics' text, and did not have to work.",
        "controls",
        _controls,
        labels=("family",),
        numbers=("effect",),
        texts=("matching", "statistic"),
    ),
    Plan(
        "Effect in numbers",
        "Reached by: controls whose effect is at least the edit's; p counts the edit among them. The difference is "
        "from the controls' mean, its interval a bootstrap over prompts; p by prompt flips the signs of prompts.",
        "effects",
        _effects,
        labels=("family",),
        optional=_NUMBERS,
        texts=("matching",),
    ),
)
