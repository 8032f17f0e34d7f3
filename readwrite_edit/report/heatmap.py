"""Heatmaps of a run's geometry: layers × modules, with the figure printed in every cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from readwrite_edit.report.figures_table import MISSING
from readwrite_edit.report.record import is_number

MODULE_ORDER = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Cell:
    """One matrix: its figure as text, its shade in [0, 1], and whether it lies below the null."""

    text: str
    shade: float
    below: bool = False


@dataclass(frozen=True)
class Heatmap:
    """One quantity over layers and modules; ``rows`` holds (layer, one cell per module)."""

    title: str
    note: str
    modules: list[str]
    rows: list[tuple[int, list[Cell]]]


@dataclass(frozen=True)
class _Quantity:
    title: str
    note: str
    of: Callable[[dict[str, Any]], float | None]
    against_null: bool = False


def heatmaps(matrices: list[dict[str, Any]]) -> list[Heatmap]:
    """Read and write fraction over their nulls, norm and price, of each adapted matrix.

    Args:
        matrices: One entry of ``geometry.jsonl`` per adapted matrix.

    Returns:
        One map per quantity that was measured on at least one matrix.
    """
    known = {module: place for place, module in enumerate(MODULE_ORDER)}
    modules = sorted({entry["module"] for entry in matrices}, key=lambda module: (known.get(module, 99), module))
    maps = (_heatmap(quantity, matrices, modules) for quantity in _QUANTITIES)
    return [one for one in maps if one is not None]


def _heatmap(quantity: _Quantity, matrices: list[dict[str, Any]], modules: list[str]) -> Heatmap | None:
    values = {(entry["layer"], entry["module"]): quantity.of(entry) for entry in matrices}
    known = [value for value in values.values() if value is not None]
    if not known:
        return None
    power = 0 if quantity.against_null else _common_power(known)
    paint = _against_null(known) if quantity.against_null else _from_zero(known, power)
    layers = sorted({layer for layer, _ in values})
    rows = [(layer, [paint(values.get((layer, module))) for module in modules]) for layer in layers]
    scale = f" (×10{str(power).translate(_SUPERSCRIPTS)})" if power else ""
    return Heatmap(quantity.title + scale, quantity.note, modules, rows)


def _against_null(known: list[float]) -> Callable[[float | None], Cell]:
    """Shade by the logarithm of the ratio: 1 is blank, the farthest ratio is full (at least a factor of 2)."""
    reach = max(math.log(2), *(abs(math.log(value)) for value in known if value > 0), 0.0)

    def paint(value: float | None) -> Cell:
        if value is None:
            return Cell(MISSING, 0.0)
        distance = -reach if value <= 0 else math.log(value)
        return Cell(f"{value:.1f}" if value >= 10 else f"{value:.2f}", round(abs(distance) / reach, 3), distance < 0)

    return paint


def _from_zero(known: list[float], power: int) -> Callable[[float | None], Cell]:
    largest = max(known)

    def paint(value: float | None) -> Cell:
        if value is None:
            return Cell(MISSING, 0.0)
        scaled = value / 10.0**power
        text = f"{scaled:.3g}" if scaled >= 100 else f"{scaled:.1f}" if scaled >= 10 else f"{scaled:.2f}"
        return Cell(text, round(max(0.0, value) / largest, 3) if largest > 0 else 0.0)

    return paint


def _common_power(known: list[float]) -> int:
    """Power of ten to take out of a whole map, so that its cells stay short."""
    largest = max(abs(value) for value in known)
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    return 0 if -1 <= power <= 2 else power


def _ratio(fraction: str, null: str) -> Callable[[dict[str, Any]], float | None]:
    def of(entry: dict[str, Any]) -> float | None:
        above, below = entry.get(fraction), entry.get(null)
        return above / below if is_number(above) and is_number(below) and below > 0 else None

    return of


def _plain(name: str) -> Callable[[dict[str, Any]], float | None]:
    def of(entry: dict[str, Any]) -> float | None:
        value = entry.get(name)
        return value if is_number(value) else None

    return of


_QUANTITIES = (
    _Quantity(
        "Read fraction ÷ energy null",
        "‖ΔW U‖² / ‖ΔW‖² over the input energy in U: 1 is what the input's shape gives by itself",
        _ratio("read_fraction", "read_energy_null"),
        against_null=True,
    ),
    _Quantity(
        "Read fraction ÷ isotropic null",
        "the same over k/d_in: 1 is what a delta of no direction gives",
        _ratio("read_fraction", "read_isotropic_null"),
        against_null=True,
    ),
    _Quantity(
        "Write fraction ÷ isotropic null",
        "‖Vᵀ ΔW‖² / ‖ΔW‖² over k/d_out, V the prediction subspace",
        _ratio("write_fraction", "write_isotropic_null"),
        against_null=True,
    ),
    _Quantity("Norm of the delta", "‖ΔW‖, Frobenius", _plain("norm")),
    _Quantity("Price", "tr(ΔW C ΔWᵀ)/d_out on the protected text: mean squared change of the output", _plain("price")),
    _Quantity("Output energy", "the same on the alignment text: what the change is for", _plain("output_energy")),
)
