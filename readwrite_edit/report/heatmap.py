"""Heatmaps of a run's geometry: layers × modules, with the figure printed in every cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
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
class Quantity:
    """What a heatmap shows of a matrix; ``against_null`` shades ratios by their distance from 1."""

    title: str
    note: str
    of: Callable[[Mapping[str, Any]], float | None]
    against_null: bool = False


def heatmaps(
    matrices: Iterable[Mapping[str, Any]], quantities: Sequence[Quantity] | None = None, *, column: str = "module"
) -> list[Heatmap]:
    """Layers down, modules (or what else ``column`` names) across; by default what an alignment run logs.

    Args:
        matrices: One entry per adapted matrix, such as the lines of ``geometry.jsonl``.
        quantities: What to show.
        column: The entry's name of what stands across.

    Returns:
        One map per quantity that was measured on at least one matrix; it
        leaves out columns without any figure.
    """
    maps = (_heatmap(quantity, list(matrices), column) for quantity in quantities or RUN_QUANTITIES)
    return [one for one in maps if one is not None]


def in_order(modules: Iterable[Any]) -> list[Any]:
    """Distinct modules as they stand in a layer, unknown ones last; numbers by size."""
    known = {module: place for place, module in enumerate(MODULE_ORDER)}
    return sorted(set(modules), key=lambda module: (known.get(module, 99), module))


def _heatmap(quantity: Quantity, matrices: list[Mapping[str, Any]], column: str) -> Heatmap | None:
    values = {(entry["layer"], entry[column]): quantity.of(entry) for entry in matrices}
    known = [value for value in values.values() if value is not None]
    if not known:
        return None
    modules = in_order(module for (_, module), value in values.items() if value is not None)
    power = 0 if quantity.against_null else _common_power(known)
    paint = _against_null(known) if quantity.against_null else _from_zero(known, power)
    layers = sorted({layer for layer, _ in values})
    rows = [(layer, [paint(values.get((layer, module))) for module in modules]) for layer in layers]
    scale = f" (×10{str(power).translate(_SUPERSCRIPTS)})" if power else ""
    return Heatmap(quantity.title + scale, quantity.note, [str(module) for module in modules], rows)


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


def ratio(fraction: str, null: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Quotient of two entries; None where one is missing or the lower one is not positive."""

    def of(entry: Mapping[str, Any]) -> float | None:
        above, below = entry.get(fraction), entry.get(null)
        return above / below if is_number(above) and is_number(below) and below > 0 else None

    return of


def plain(name: str) -> Callable[[Mapping[str, Any]], float | None]:
    """An entry as it stands; None where it is no number."""

    def of(entry: Mapping[str, Any]) -> float | None:
        value = entry.get(name)
        return value if is_number(value) else None

    return of


RUN_QUANTITIES = (
    Quantity(
        "Read fraction ÷ energy null",
        "‖ΔW U‖² / ‖ΔW‖² over the input energy in U: 1 is what the input's shape gives by itself",
        ratio("read_fraction", "read_energy_null"),
        against_null=True,
    ),
    Quantity(
        "Read fraction ÷ isotropic null",
        "the same over k/d_in: 1 is what a delta of no direction gives",
        ratio("read_fraction", "read_isotropic_null"),
        against_null=True,
    ),
    Quantity(
        "Write fraction ÷ isotropic null",
        "‖Vᵀ ΔW‖² / ‖ΔW‖² over k/d_out, V the prediction subspace",
        ratio("write_fraction", "write_isotropic_null"),
        against_null=True,
    ),
    Quantity("Norm of the delta", "‖ΔW‖, Frobenius", plain("norm")),
    Quantity("Price", "tr(ΔW C ΔWᵀ)/d_out on the protected text: mean squared change of the output", plain("price")),
    Quantity("Output energy", "the same on the alignment text: what the change is for", plain("output_energy")),
)
