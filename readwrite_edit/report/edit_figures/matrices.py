"""Figures of edits that change many matrices: what each keeps or loses."""

from __future__ import annotations

import pandas as pd

from readwrite_edit.report.heatmap import Heatmap, Quantity, heatmaps, plain
from readwrite_edit.report.probe_figures.plan import Plan

_RETAINED = (
    Quantity("Retained energy", "‖kept‖² / ‖ΔW‖² of the whole change", plain("retained_fraction")),
    Quantity("In the subspace", "share of the change's energy that lies in it", plain("subspace_energy_fraction")),
    Quantity("Retained of that", "what the rank keeps of it", plain("retained_of_projected_fraction")),
    Quantity("Rank", "of the adapter", plain("rank")),
    Quantity("Norm of the change", "‖ΔW‖, Frobenius", plain("norm")),
)
_REMOVED = (
    Quantity("Energy removed", "share of what the matrix reads or writes", plain("energy_removed_fraction")),
    Quantity("Relative norm", "‖ΔW‖ / ‖W‖, Frobenius", plain("norm_fraction")),
)


def _retained(table: pd.DataFrame) -> list[Heatmap]:
    return heatmaps(table.to_dict("records"), _RETAINED)


def _removed(table: pd.DataFrame) -> list[Heatmap]:
    return heatmaps(table.to_dict("records"), _REMOVED)


MATRICES = (
    Plan(
        "Retained energy",
        "One row a layer, one column a matrix: how much of the tuned model's change the adapter holds.",
        "matrices",
        _retained,
        labels=("module",),
        numbers=("layer",),
        optional=(
            "retained_fraction", "subspace_energy_fraction", "retained_of_projected_fraction", "rank", "norm",
        ),
    ),
    Plan(
        "What was projected",
        "Energy on the statistics' text: of the output on the write side, of the input on the read side.",
        "projections",
        _removed,
        labels=("module",),
        numbers=("layer",),
        optional=("energy_removed_fraction", "norm_fraction"),
    ),
)  # fmt: skip
