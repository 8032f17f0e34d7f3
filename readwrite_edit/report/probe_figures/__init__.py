"""Figures of each kind of probe, made of the tables that it wrote."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from readwrite_edit.report.probe_figures.causal import CAUSAL
from readwrite_edit.report.probe_figures.contrast import CONTRAST
from readwrite_edit.report.probe_figures.geometry import DELTA
from readwrite_edit.report.probe_figures.gradients import GRADIENTS
from readwrite_edit.report.probe_figures.plan import Figure, Plan, TextTable, carry_out
from readwrite_edit.report.probe_figures.sensitivity import SENSITIVITY
from readwrite_edit.report.probe_figures.spectra import ACTIVATIONS
from readwrite_edit.report.probe_figures.trajectory import TRAJECTORY

__all__ = ["Figure", "TextTable", "figures_of"]

PLANS: Mapping[str, tuple[Plan, ...]] = {
    "delta": DELTA,
    "activations": ACTIVATIONS,
    "gradients": GRADIENTS,
    "trajectory": TRAJECTORY,
    "contrast": CONTRAST,
    "causal": CAUSAL,
    "sensitivity": SENSITIVITY,
}


def figures_of(probe: str, tables: Mapping[str, pd.DataFrame]) -> tuple[list[Figure], list[str]]:
    """Figures of a probe.

    Args:
        probe: Kind of probe; of an unknown one nothing is drawn.
        tables: Its tables by name.

    Returns:
        The figures that its tables give, and a sentence for each that could not be made.
    """
    return carry_out(PLANS.get(probe, ()), tables)
