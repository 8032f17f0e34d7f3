"""Figures of output gradients: spectra and prediction energy of the same rows under several objectives."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.heatmap import in_order
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import (
    at_null,
    logarithmic,
    mean_over,
    named_lines,
    short,
    small_multiples,
    spaced,
    styles,
    whole_steps,
)
from readwrite_edit.report.probe_figures.spectra import spectra
from readwrite_edit.report.probe_figures.words import figure
from readwrite_edit.report.svg import INK

_PLACE = ("objective", "module")
_MEASURES = {
    "prediction_relative": "gradient energy in the prediction subspace ÷ k/d",
    "pair_prediction_relative": "the same of the sum over a pair",
    "write_relative_isotropic": "write fraction of the weight gradient ÷ k/d",
    "read_relative_isotropic": "read fraction of the weight gradient ÷ k/d",
}


def _by_layer(table: pd.DataFrame, column: str, prefix: str, *, error: str | None = None) -> str:
    known, of = table[table[column].notna()], styles(table["objective"])

    def draw(axes: Axes, module: Hashable) -> None:
        part = known[known["module"] == module]
        named_lines(axes, part, "layer", column, "objective", of)
        whole_steps(axes, "layer")
        if error:
            _error_bands(axes, part, column, error, of)
            at_null(axes)
        axes.set_ylim(bottom=0)

    return small_multiples(in_order(known["module"]), draw, prefix=prefix)


def _error_bands(axes: Axes, table: pd.DataFrame, column: str, error: str, of: Mapping[str, Any]) -> None:
    for name, (colour, _, _) in of.items():
        part = table[table["objective"] == name].sort_values("layer")
        low, high = part[column] - part[error], part[column] + part[error]
        axes.fill_between(part["layer"], low, high, color=colour, alpha=0.18, linewidth=0)


def _curves(table: pd.DataFrame, prefix: str) -> str:
    shown, of = table[table["k"].isin(spaced(table["k"])) & (table["fraction"] > 0)], styles(table["objective"])

    def draw(axes: Axes, module: Hashable) -> None:
        _curve(axes, shown[shown["module"] == module], of)

    return small_multiples(in_order(shown["module"]), draw, prefix=prefix)


def _curve(axes: Axes, table: pd.DataFrame, of: Mapping[str, Any]) -> None:
    for name, (colour, dash, mark) in of.items():
        part = table[table["objective"] == name]
        points, energy = mean_over(part, "k", "fraction"), mean_over(part, "k", "energy_null")
        axes.plot(points.index, points, color=colour, linestyle=dash, label=short(name))
        style: dict[str, Any] = {"linewidth": 0.7, "marker": mark, "markersize": 2.4, "markevery": 4}
        axes.plot(energy.index, energy, color=colour, linestyle=dash, label=f"energy null, {short(name)}", **style)
    low, high = (mean_over(table, "k", f"isotropic_{end}") for end in ("low", "high"))
    axes.fill_between(low.index, low, high.reindex(low.index), color=INK, alpha=0.22, linewidth=0, label="95 % of them")
    null = mean_over(table, "k", "isotropic_null")
    axes.plot(null.index, null, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), label="isotropic null")
    axes.set_xlabel("k")
    logarithmic(axes)


def _curves_plan(side: str, space: str) -> Plan:
    return Plan(
        f"Weight gradient, {side} side",
        f"Share of the summed weight gradient inside the first k directions of {space}, mean over layers, both axes "
        "logarithmic. Marked thin lines: energy null of each objective.",
        "curves",
        lambda table: _curves(table[table["side"] == side], f"curves-{side}"),
        labels=(*_PLACE, "side"),
        numbers=("layer", "k", "fraction"),
        optional=("isotropic_null", "isotropic_low", "isotropic_high", "energy_null"),
    )


def _comparison(table: pd.DataFrame) -> TextTable:
    header = ("measure", "first", "second", "mean, first", "mean, second", "ratio", "p", "layers")
    rows = [
        (
            _MEASURES.get(row.measure, row.measure.replace("_", " ")),
            row.first,
            row.second,
            *map(figure, (row.first_mean, row.second_mean, row.ratio, row.p, row.layers)),
        )
        for row in table.itertuples()
    ]
    return TextTable(header, rows)


GRADIENTS = (
    Plan(
        "Objectives side by side",
        "Means over matrices; ratio: geometric mean over layers, with the two-sided p-value of a signed-rank test.",
        "comparison",
        _comparison,
        labels=("measure", "first", "second"),
        optional=("first_mean", "second_mean", "ratio", "p", "layers"),
    ),
    Plan(
        "Energy in the prediction subspace",
        "Share of the gradient's energy in the prediction subspace over k/d, by layer; the dashed line is a gradient "
        "of no direction. A line per objective, the same rows for all; bands: one standard error over pairs.",
        "layers",
        lambda table: _by_layer(table, "prediction_relative", "prediction", error="prediction_relative_se"),
        labels=_PLACE,
        numbers=("layer",),
        optional=("prediction_relative", "prediction_relative_se"),
    ),
    Plan(
        "Effective rank by layer",
        "Exp of the entropy of the normalised eigenvalues of E[δ δᵀ]; low is sharp. A line per objective.",
        "layers",
        lambda table: _by_layer(table, "effective_rank", "ranks"),
        labels=_PLACE,
        numbers=("layer",),
        optional=("effective_rank",),
    ),
    Plan(
        "Spectra",
        "Share of each eigenvalue in the trace, largest first, both axes logarithmic. Strong: mean over layers; faint: "
        "each layer.",
        "spectra",
        lambda table: spectra(table, "module", "objective", "spectra"),
        labels=_PLACE,
        numbers=("layer", "index", "eigenvalue", "cumulative"),
    ),
    _curves_plan("write", "the prediction subspace"),
    _curves_plan("read", "the read subspace"),
)
