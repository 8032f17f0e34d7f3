"""Figures of rank-1 interventions: dose-response, and effects beside the distribution of their controls."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.heatmap import in_order
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import logarithmic, named_lines, small_multiples, strips, styles
from readwrite_edit.report.probe_figures.words import figure, spanned
from readwrite_edit.report.svg import FIRST, SECOND

_MOST_PANELS = 12
_LINES = (("principal", FIRST, "-", "tested edit"), ("sign_flip", SECOND, "--", "its opposite"))
# As many as can be told apart.
_DOSED = (
    "principal", "sign flip", "random, energy", "random, frobenius", "complement, energy", "bottom, energy",
    "rotated, energy", "random output",
)  # fmt: skip
_PLACE = ("layer", "module", "direction")
_EFFECT = (
    "direction", "relative_norm", "kl", "low", "high", "control_median", "ratio", "ratio_low", "ratio_high", "p_value",
    "prompt_p_value", "q_value", "target_change", "target_p_value",
)  # fmt: skip


def _effects(table: pd.DataFrame) -> TextTable:
    header = (
        "matrix", "against random", "at ε/‖W‖", "KL, nats per token (95 %)", "controls' median", "ratio (95 %)",
        "p", "p, by prompt", "q", "log p of target", "p",
    )  # fmt: skip
    rows = [
        (
            f"layer {row.layer} {row.module}, direction {row.direction:.0f}",
            f"{row.factor}s, {row.matching}",
            figure(row.relative_norm),
            spanned(row.kl, row.low, row.high),
            figure(row.control_median),
            spanned(row.ratio, row.ratio_low, row.ratio_high),
            figure(row.p_value),
            figure(row.prompt_p_value),
            figure(row.q_value),
            figure(row.target_change),
            figure(row.target_p_value),
        )
        for row in table.itertuples()
    ]
    return TextTable(header, rows)


def _panels(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each matrix and direction by its title; at most so many."""
    order = table.sort_values(["layer", "direction"])
    keys = list(dict.fromkeys(zip(*(order[name] for name in _PLACE), strict=True)))
    keys.sort(key=lambda key: (in_order(table["module"]).index(key[1]), key[0], key[2]))
    several = table["direction"].nunique() > 1
    titles = {key: f"{key[1]}, layer {key[0]}" + (f", direction {key[2]:.0f}" if several else "") for key in keys}
    return {titles[key]: table[(table[list(_PLACE)] == list(key)).all(axis=1)] for key in keys[:_MOST_PANELS]}


def _dose_response(table: pd.DataFrame) -> str:
    positive = table[(table["kl"] > 0) & (table["dose"] > 0)]
    named = positive.assign(name=_family_names(positive))
    named = named[named["name"].isin(_DOSED)]
    of = styles(name for name in _DOSED if (named["name"] == name).any())
    panels = _panels(named)

    def draw(axes: Axes, title: Hashable) -> None:
        named_lines(axes, panels[str(title)], "dose", "kl", "name", of)
        axes.set(xlabel="dose: ε / ‖W‖", ylabel="KL, nats per token")
        logarithmic(axes)

    return small_multiples(list(panels), draw, prefix="dose", row_in=2.6)


def _family_names(table: pd.DataFrame) -> pd.Series:
    family, matching = table["family"].str.replace("_", " "), table["matching"]
    return family.where(matching.isin(["both", ""]), family + ", " + matching)


def _controls(table: pd.DataFrame) -> str:
    """Strips of controls at the dose that has most of them, with the tested edit as a line through all strips."""
    positive = table[table["kl"] > 0]
    dose = positive.groupby("dose").size().idxmax() if len(positive) else None
    at_dose = positive[positive["dose"] == dose]
    panels = _panels(at_dose.assign(name=_family_names(at_dose)))

    def draw(axes: Axes, title: Hashable) -> None:
        strips(axes, panels[str(title)], "kl", _LINES, label="KL, nats per token")
        logarithmic(axes, y=False)

    return small_multiples(list(panels), draw, prefix="controls", row_in=2.9)


CAUSAL = (
    Plan(
        "Effects",
        "Each tested direction beside random directions of the same norm (frobenius) or the same output energy "
        "(energy). Ratio: KL over the controls' median.",
        "effects",
        _effects,
        labels=("module",),
        numbers=("layer",),
        optional=_EFFECT,
        texts=("factor", "matching"),
    ),
    Plan(
        "Effect and controls",
        "Dots: one control each; short bars: their medians; the line through all rows: the tested edit. At the dose of "
        "the tests.",
        "controls",
        _controls,
        labels=("module", "family"),
        numbers=("layer", "dose", "kl"),
        optional=("direction",),
        texts=("matching",),
    ),
    Plan(
        "Dose-response",
        "Mean KL against the norm of the edit relative to its matrix, both axes logarithmic; further families "
        "stand in dose.csv.",
        "dose",
        _dose_response,
        labels=("module", "family"),
        numbers=("layer", "dose", "kl"),
        optional=("direction",),
        texts=("matching",),
    ),
)
