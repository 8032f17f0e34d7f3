"""Figures of what an edit costs: predicted beforehand, measured afterwards."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.edit_figures.listing import Column, change, count, listing, matrix, number, percent, text
from readwrite_edit.report.heatmap import Heatmap, Quantity, heatmaps, plain
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import logarithmic, short, small_multiples
from readwrite_edit.report.svg import FAINT, LINES

_FEW = 12
_PRICE = (
    "layer", "rank", "norm", "relative_norm", "predicted_damage", "relative_damage", "condition", "shrinkage",
    "under_step_fraction",
)  # fmt: skip
_OVERLAP = ("layer", "cosine", "output_cosine", "read_overlap", "changes_earlier", "changed_by_earlier")
_MAPS = (
    Quantity("Relative damage", "tr(ΔW C ΔWᵀ) over tr(W C Wᵀ)", plain("relative_damage")),
    Quantity("Relative norm", "‖ΔW‖ / ‖W‖, Frobenius", plain("relative_norm")),
    Quantity(
        "Under the step", "share of entries that change by less than a rounding step", plain("under_step_fraction")
    ),
)


def _price(table: pd.DataFrame) -> TextTable | list[Heatmap] | None:
    """A table of few matrices, maps of many."""
    if len(table) > _FEW:
        return heatmaps(table.dropna(subset=["layer"]).astype({"layer": int}).to_dict("records"), _MAPS)
    return listing(
        table,
        (
            Column("matrix", matrix),
            Column("rank", count("rank")),
            Column("‖ΔW‖", number("norm")),
            Column("÷ ‖W‖", number("relative_norm")),
            Column("predicted damage", number("predicted_damage")),
            Column("÷ output energy", number("relative_damage")),
            Column("condition of C", number("condition")),
            Column("shrinkage ρ", number("shrinkage")),
            Column("under a rounding step", percent("under_step_fraction")),
        ),
        file="preflight",
    )


def _damage(table: pd.DataFrame) -> str | TextTable | None:
    """A table of few pairs, a drawing of many."""
    if len(table) > _FEW:
        return _against(table)
    return listing(
        table,
        (
            Column("text", text("text")),
            Column("matrix", matrix),
            Column("predicted", number("predicted")),
            Column("measured", number("measured")),
            Column("measured ÷ predicted", number("ratio")),
        ),
        file="damage",
    )


def _against(table: pd.DataFrame) -> str:
    known = table[(table["predicted"] > 0) & (table["measured"] > 0)]
    if not len(known):
        return ""
    modules = list(dict.fromkeys(known["module"]))
    reach = np.array([known[["predicted", "measured"]].min().min(), known[["predicted", "measured"]].max().max()])

    def draw(axes: Axes, name: Hashable) -> None:
        axes.plot(reach, reach, color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)), label="as predicted")
        own = known[known["text"] == name]
        for place, module in enumerate(modules):
            colour, _, mark = LINES[place % len(LINES)]
            points = own[own["module"] == module]
            axes.plot(points["predicted"], points["measured"], mark, color=colour, markersize=4, label=short(module))
        axes.set(xlabel="predicted", ylabel="measured")
        logarithmic(axes)

    return small_multiples(list(dict.fromkeys(known["text"])), draw, prefix="damage", row_in=2.8)


def _texts(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("text", text("text")),
            Column("tokens", count("tokens")),
            Column("KL to the base, nats per token", number("kl")),
            Column("perplexity", change("perplexity_before", "perplexity_after")),
        ),
        file="texts",
    )


def _overlaps(table: pd.DataFrame) -> TextTable | None:
    return listing(
        table,
        (
            Column("earlier edit", text("entry")),
            Column("matrix", matrix),
            Column("cosine", number("cosine")),
            Column("of outputs", number("output_cosine")),
            Column("inputs shared", percent("read_overlap")),
            Column("adds there, ÷ the earlier", number("changes_earlier")),
            Column("and the reverse", number("changed_by_earlier")),
        ),
        file="overlaps",
    )


PRICE = (
    Plan(
        "Price",
        "Known before anything was written. Predicted damage: tr(ΔW C ΔWᵀ), the mean squared length of what the change "
        "adds to a matrix's output on the statistics' text; beside it as a share of the output's own energy. Under a "
        "rounding step: entries that a merged copy in the model's own type would lose.",
        "preflight",
        _price,
        labels=("module",),
        optional=_PRICE,
    ),
    Plan(
        "Neutral texts",
        "Texts that chose nothing, read with and without the edit.",
        "texts",
        _texts,
        labels=("text",),
        optional=("kl", "perplexity_before", "perplexity_after", "tokens"),
    ),
    Plan(
        "Predicted and measured damage",
        "Mean squared length of what the change adds to a matrix's output: in closed form on the statistics' text, and "
        "counted on the neutral text.",
        "damage",
        _damage,
        labels=("text", "module"),
        optional=("layer", "predicted", "measured", "ratio"),
    ),
    Plan(
        "Earlier edits in the same matrices",
        "Cosine: of the updates; of outputs: of what they add on the statistics' text. 1 is the same change, −1 its "
        "opposite, 0 nothing in common.",
        "overlaps",
        _overlaps,
        labels=("entry", "module"),
        optional=_OVERLAP,
    ),
)
