"""Figures of a delta: heatmaps of layers × matrices, cumulative curves, heads, and what was compared."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.heatmap import Heatmap, Quantity, heatmaps, in_order, plain, ratio
from readwrite_edit.report.probe_figures.plan import Plan, TextTable
from readwrite_edit.report.probe_figures.plots import logarithmic, mean_over, small_multiples, spaced, thin_lines
from readwrite_edit.report.svg import FIRST, INK, SECOND

_LONGEST_LIST = 40
_QUIET = {"measured", "identical"}
QUANTITIES = (
    Quantity(
        "Read ÷ isotropic null",
        "‖ΔW U‖² / ‖ΔW‖² over k/d_in: 1 is what a delta of no direction gives",
        ratio("read_fraction", "read_isotropic_null"),
        against_null=True,
    ),
    Quantity(
        "Read ÷ energy null",
        "the same over tr(UᵀCU)/tr(C): 1 is what the input's shape gives by itself",
        ratio("read_fraction", "read_energy_null"),
        against_null=True,
    ),
    Quantity(
        "Write ÷ isotropic null",
        "‖Vᵀ ΔW‖² / ‖ΔW‖² over k/d_out, V the prediction subspace",
        ratio("write_fraction", "write_isotropic_null"),
        against_null=True,
    ),
    Quantity(
        "Write ÷ energy null",
        "the same over tr(VᵀDV)/tr(D), D the second moment of the output's gradient",
        ratio("write_fraction", "write_energy_null"),
        against_null=True,
    ),
    Quantity("Relative norm", "‖ΔW‖ / ‖W‖, Frobenius", plain("relative_norm")),
    Quantity("Changed entries", "share of entries that differ", plain("changed_fraction")),
    Quantity(
        "Under the step",
        "share of ‖ΔW‖² in entries that moved by one rounding step or less",
        plain("under_step_fraction"),
    ),
    Quantity("Effective rank", "exp of the entropy of the normalised squared singular values", plain("effective_rank")),
)
MEASURES = (
    "read_fraction", "read_isotropic_null", "read_energy_null", "write_fraction", "write_isotropic_null",
    "write_energy_null", "relative_norm", "changed_fraction", "under_step_fraction", "effective_rank",
)  # fmt: skip


def matrix_maps(table: pd.DataFrame) -> list[Heatmap]:
    """Heatmaps of one delta; several matrices of one layer and role (experts) show their mean."""
    means = table.groupby(["layer", "module"], as_index=False).mean(numeric_only=True)
    return heatmaps(means.to_dict("records"), QUANTITIES)


GEOMETRY_MAPS = Plan(
    "Layers and matrices",
    "One row per layer, one column per matrix. Shading follows the printed figure; where a null is divided out, 1.00 "
    "is blank and a ratio below 1 is set in italics.",
    "geometry",
    matrix_maps,
    labels=("module",),
    numbers=("layer",),
    optional=MEASURES,
)
_CURVE = (
    "Fraction inside the first k directions, both axes logarithmic. Solid: mean over layers; faint: each layer. "
    "Dashed: isotropic null k/d with the 95 % interval of one matrix shaded. Dash-dotted: energy "
    "null, mean over layers."
)


def curves_plan(side: str) -> Plan:
    """The cumulative curves of one side, a panel per role."""
    return Plan(
        f"Cumulative curves, {side} side",
        _CURVE,
        "curves",
        lambda table: _curves(table[table["side"] == side], f"curves-{side}"),
        labels=("module", "side"),
        numbers=("layer", "k", "fraction"),
        optional=("isotropic_null", "isotropic_low", "isotropic_high", "energy_null"),
    )


def _curves(table: pd.DataFrame, prefix: str) -> str:
    modules = in_order(table["module"])
    return small_multiples(modules, lambda axes, name: _curve(axes, table[table["module"] == name]), prefix=prefix)


def _curve(axes: Axes, table: pd.DataFrame) -> None:
    shown = table[table["k"].isin(spaced(table["k"])) & (table["fraction"] > 0)]
    thin_lines(axes, shown, "k", "fraction", "layer", label="each layer")
    low, high = (shown.groupby("k")[f"isotropic_{end}"].mean() for end in ("low", "high"))
    axes.fill_between(low.index, low, high, color=INK, alpha=0.22, linewidth=0, label="95 % of isotropic deltas")
    for column, colour, dash, label in (
        ("isotropic_null", INK, "--", "isotropic null"),
        ("energy_null", SECOND, "-.", "energy null"),
        ("fraction", FIRST, "-", "mean over layers"),
    ):
        points = mean_over(shown, "k", column)
        if len(points):
            axes.plot(points.index, points, color=colour, linestyle=dash, label=label)
    axes.set_xlabel("k")
    logarithmic(axes)


def _head_maps(table: pd.DataFrame) -> list[Heatmap]:
    found = []
    for module, side in dict.fromkeys(zip(table["module"], table["side"], strict=True)):
        part = table[(table["module"] == module) & (table["side"] == side)]
        title, note = f"{module}, {side} side", "fraction ÷ isotropic null; a column per head"
        quantity = Quantity(title, note, ratio("fraction", "isotropic_null"), against_null=True)
        found += heatmaps(part.to_dict("records"), (quantity,), column="head")
    return found


HEADS = Plan(
    "By head",
    "One row per layer, one column per head. All heads of a layer share one null: 1.00 is blank, below 1 in italics.",
    "heads",
    _head_maps,
    labels=("module", "side"),
    numbers=("layer", "head"),
    optional=("fraction", "isotropic_null"),
)


def _compared(table: pd.DataFrame) -> TextTable:
    counts = table["status"].value_counts()
    rows = [(f"{count} tensors", status, "") for status, count in counts.items()]
    odd = table[~table["status"].isin(_QUIET)]
    rows += [tuple(row) for row in odd[["name", "status", "detail"]].head(_LONGEST_LIST).to_numpy().tolist()]
    if len(odd) > _LONGEST_LIST:
        rows.append((f"and {len(odd) - _LONGEST_LIST} more in tensors.csv", "", ""))
    return TextTable(("tensor", "status", "detail"), [tuple(cell or MISSING for cell in row) for row in rows])


COMPARED = Plan(
    "What was compared",
    "Every tensor of both sides by what became of it; those that were not measured one by one.",
    "tensors",
    _compared,
    labels=("status",),
    texts=("name", "detail"),
)
DELTA = (GEOMETRY_MAPS, curves_plan("read"), curves_plan("write"), HEADS, COMPARED)
