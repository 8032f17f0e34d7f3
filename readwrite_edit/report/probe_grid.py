"""A delta's geometry for the terminal: a line per module, and a character per layer and module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from readwrite_edit.report.probe_modules import column, module_rows, ratio_of
from readwrite_edit.terminal import printable

_HEADER = ("module", "layers", "read÷k/d", "÷energy", "write÷k/d", "÷energy", "norm/‖W‖", "changed")
_LEGEND = "digit: times k/d; =: within the 95 % interval of k/d; -: below; ·: not measured"


def geometry_lines(geometry: pd.DataFrame, width: int) -> list[str]:
    """Means by module, then, where they fit, grids of the read and the write side.

    Args:
        geometry: Rows of layer × matrix with the columns of the delta probe.
        width: Columns of the terminal.
    """
    rows = module_rows(geometry)
    if not rows:
        return []
    lines = aligned([_HEADER, *(tuple(map(printable, row.cells)) for row in rows)])
    grids = [line for side in ("read", "write") for line in _grid(geometry, side, [row.module for row in rows], width)]
    return [*lines, *(["", *grids, _LEGEND] if grids else [])]


def _grid(geometry: pd.DataFrame, side: str, modules: Sequence[str], width: int) -> list[str]:
    """A line per module with a character per layer; nothing where it does not fit or nothing was measured."""
    marks = _marks(geometry, side)
    layers = sorted({layer for _, layer in marks})
    names = {module: printable(module) for module in modules}
    label = max(map(len, names.values()))
    shown = [module for module in modules if any(marks.get((module, layer), "·") != "·" for layer in layers)]
    if not shown or label + 2 + len(layers) > width:
        return []
    title = f"{side} ÷ k/d by layer, {layers[0]:g} to {layers[-1]:g}"
    body = ["".join(marks.get((module, layer), "·") for layer in layers) for module in shown]
    return [title, *(f"{names[module]:<{label}}  {line}" for module, line in zip(shown, body, strict=True))]


def _marks(geometry: pd.DataFrame, side: str) -> dict[tuple[str, float], str]:
    names = ("fraction", "isotropic_low", "isotropic_high")
    fractions, low, high = (column(geometry, f"{side}_{name}") for name in names)
    ratios = ratio_of(geometry, f"{side}_fraction", f"{side}_isotropic_null")
    layers = column(geometry, "layer")
    cells = zip(geometry["module"].map(str), layers, fractions, low, high, ratios, strict=True)
    return {(module, layer): mark(*rest) for module, layer, *rest in cells if np.isfinite(layer)}


def mark(fraction: float, low: float, high: float, ratio: float) -> str:
    """One matrix as one character; ``_LEGEND`` says which."""
    if not np.isfinite(ratio):
        return "·"
    if fraction < low:
        return "-"
    return "=" if fraction <= high else str(min(9, int(ratio)))


def aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Cells in columns: the first to the left, the others to the right. Cells must be safe to print."""
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)] if rows else []
    return ["  ".join(_padded(row, widths)).rstrip() for row in rows]


def _padded(row: tuple[str, ...], widths: list[int]) -> list[str]:
    cells = enumerate(zip(row, widths, strict=True))
    return [cell.rjust(width) if place else cell.ljust(width) for place, (cell, width) in cells]
