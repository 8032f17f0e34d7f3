"""A delta's geometry by module: means over layers, as numbers and as cells to show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.heatmap import in_order
from readwrite_edit.report.probe_figures.plan import numbers

LEVEL = 0.05
HEADER = ("module", "layers", "read ÷ k/d", "read ÷ energy", "write ÷ k/d", "write ÷ energy", "‖ΔW‖/‖W‖", "changed")
RATIOS = (
    ("read_fraction", "read_isotropic_null"),
    ("read_fraction", "read_energy_null"),
    ("write_fraction", "write_isotropic_null"),
    ("write_fraction", "write_energy_null"),
)


@dataclass(frozen=True)
class ModuleRow:
    """One role over all layers.

    Attributes:
        module: The role.
        layers: How many layers were measured.
        ratios: Mean of fraction ÷ null, in the order of ``RATIOS``; NaN where not defined.
        relative_norm: Mean ‖ΔW‖/‖W‖.
        changed: Mean share of entries that differ.
    """

    module: str
    layers: int
    ratios: tuple[float, ...]
    relative_norm: float
    changed: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As text, in the order of ``HEADER``."""
        ratios = (MISSING if np.isnan(value) else f"{value:.2f}" for value in self.ratios)
        norm = MISSING if np.isnan(self.relative_norm) else f"{self.relative_norm:.2e}" if self.relative_norm else "0"
        changed = MISSING if np.isnan(self.changed) else f"{100 * self.changed:.1f} %"
        return self.module, str(self.layers), *ratios, norm, changed


def module_rows(geometry: pd.DataFrame) -> list[ModuleRow]:
    """Means over the layers of each role; none where the table is not one of geometry.

    Args:
        geometry: Rows of layer × matrix with the columns of the delta probe.
    """
    if "module" not in geometry.columns or "layer" not in geometry.columns:
        return []
    named = geometry.assign(module=geometry["module"].map(str))
    return [_row(module, named[named["module"] == module]) for module in in_order(named["module"])]


def _row(module: str, part: pd.DataFrame) -> ModuleRow:
    ratios = tuple(float(ratio_of(part, fraction, null).mean()) for fraction, null in RATIOS)
    norm, changed = (float(column(part, name).mean()) for name in ("relative_norm", "changed_fraction"))
    return ModuleRow(module, part["layer"].nunique(), ratios, norm, changed)


def ratio_of(table: pd.DataFrame, fraction: str, null: str) -> pd.Series:
    """Fraction ÷ null of each row; NaN where one is missing or the null is not positive."""
    below = column(table, null)
    return column(table, fraction) / below.where(below > 0)


def column(table: pd.DataFrame, name: str) -> pd.Series:
    """A column as finite floats; NaN throughout where the table lacks it."""
    return numbers(table[name]) if name in table.columns else pd.Series(np.nan, index=table.index)
