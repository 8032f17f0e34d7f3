"""Figures of a trajectory: how fractions and norm of the deltas move over the steps of training."""

from __future__ import annotations

from collections.abc import Hashable

import pandas as pd
from matplotlib.axes import Axes

from readwrite_edit.report.heatmap import Heatmap
from readwrite_edit.report.probe_figures.geometry import MEASURES, matrix_maps
from readwrite_edit.report.probe_figures.plan import Plan
from readwrite_edit.report.probe_figures.plots import at_null, named_lines, small_multiples, styles, whole_steps

_NORM = "‖ΔW‖ / ‖W‖"
_PANELS = {
    "Read ÷ isotropic null": ("read_fraction", "read_isotropic_null"),
    "Read ÷ energy null": ("read_fraction", "read_energy_null"),
    "Write ÷ isotropic null": ("write_fraction", "write_isotropic_null"),
    "Write ÷ energy null": ("write_fraction", "write_energy_null"),
}
_AGAINST = {"first": "the first checkpoint", "previous": "the checkpoint before"}


def _plan(against: str) -> Plan:
    what = _AGAINST[against]
    return Plan(
        f"Against {what}",
        f"Delta of each checkpoint to {what}, mean over layers, a line per role. A dashed line marks a ratio of 1: "
        "what the null gives by itself.",
        "geometry",
        lambda table: _curves(table[table["against"] == against], f"steps-{against}"),
        labels=("module", "against"),
        numbers=("layer", "step"),
        optional=MEASURES,
    )


def _curves(table: pd.DataFrame, prefix: str) -> str:
    shown = table.assign(**{name: table[above] / table[below] for name, (above, below) in _PANELS.items()})
    shown[_NORM] = shown["relative_norm"]
    of = styles(shown["module"])
    panels = [name for name in (*_PANELS, _NORM) if shown[name].notna().any()]

    def draw(axes: Axes, name: Hashable) -> None:
        named_lines(axes, shown[shown[str(name)].notna()], "step", str(name), "module", of)
        whole_steps(axes, "step")
        if name in _PANELS:
            at_null(axes)

    return small_multiples(panels, draw, prefix=prefix)


def _last(table: pd.DataFrame) -> list[Heatmap]:
    first = table[table["against"] == "first"]
    return matrix_maps(first[first["step"] == first["step"].max()])


TRAJECTORY = (
    _plan("first"),
    _plan("previous"),
    Plan(
        "Layers and matrices at the last step",
        "Delta of the last checkpoint to the first. Where a null is divided out, 1.00 is blank and a ratio below 1 is "
        "set in italics.",
        "geometry",
        _last,
        labels=("module", "against"),
        numbers=("layer", "step"),
        optional=MEASURES,
    ),
)
