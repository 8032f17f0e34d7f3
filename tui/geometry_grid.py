"""Layers × modules as a grid of digits: a colour may fade, a digit stays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from readwrite_edit.runs.state import is_finite
from readwrite_edit.runs.wording import number_text

MODULE_ORDER = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "o_proj", "down_proj")
MISSING = "·"


@dataclass(frozen=True)
class Measure:
    """What the digits of the grid say.

    Attributes:
        title: What one digit is.
        fraction: Field of a record.
        null: Field that it is divided by; None for the fraction itself.
    """

    title: str
    fraction: str
    null: str | None = None

    def value(self, record: Mapping[str, Any]) -> float | None:
        """The figure of a matrix; None where it was not measured."""
        found = record.get(self.fraction)
        if not is_finite(found) or self.null is None:
            return float(found) if is_finite(found) else None
        below = record.get(self.null)
        return float(found / below) if is_finite(below) and below > 0 else None

    def digit(self, value: float | None) -> str:
        """One character, 0 to 9: tenths of a fraction, or the whole part of a ratio; a dot where there is none."""
        if value is None:
            return MISSING
        return str(int(min(9.0, max(0.0, value if self.null else value * 10))))


MEASURES = (
    Measure("read fraction in tenths: the update's share in the read subspace", "read_fraction"),
    Measure("read fraction ÷ k/d, whole part", "read_fraction", "read_isotropic_null"),
    Measure("read fraction ÷ energy null, whole part", "read_fraction", "read_energy_null"),
    Measure("write fraction in tenths: the update's share in the prediction subspace", "write_fraction"),
    Measure("write fraction ÷ k/d, whole part", "write_fraction", "write_isotropic_null"),
)


@dataclass(frozen=True)
class GeometryGrid:
    """A snapshot by layer and module; cells hold the whole record of a matrix."""

    step: int | None
    layers: tuple[int, ...]
    modules: tuple[str, ...]
    records: dict[tuple[int, str], dict[str, Any]]

    def value(self, layer: int, module: str, measure: Measure) -> float | None:
        """A figure of a matrix; None where it was not measured."""
        return measure.value(self.records.get((layer, module), {}))


def grid(snapshot: list[dict[str, Any]]) -> GeometryGrid:
    """Order the records of one snapshot: layers ascending, modules as they stand in a layer, unknown ones last.

    Of several records of one matrix the first counts.
    """
    records = {(record["layer"], record["module"]): record for record in reversed(snapshot)}
    modules = {module for _, module in records}
    known = [module for module in MODULE_ORDER if module in modules]
    return GeometryGrid(
        step=snapshot[0]["step"] if snapshot else None,
        layers=tuple(sorted({layer for layer, _ in records})),
        modules=(*known, *sorted(modules - set(known))),
        records=records,
    )


def explain(layer: int, module: str, record: dict[str, Any] | None) -> str:
    """The exact figures behind one cell, in one line."""
    if record is None:
        return f"layer {layer} {module}: not measured"
    sides = "   ".join(_side(record, side) for side in ("read", "write"))
    return f"layer {layer} {module}: {sides}   norm {number_text(record.get('norm'))}"


def _side(record: Mapping[str, Any], side: str) -> str:
    """Fraction, both nulls and, where there is one, the p-value beside each; a dash alone for a side without."""
    parts = [f"{side} {number_text(record.get(f'{side}_fraction'))}"]
    if not is_finite(record.get(f"{side}_fraction")):
        return parts[0]
    for label, null in (("k/d", "isotropic"), ("energy null", "energy")):
        parts.append(f"{label} {number_text(record.get(f'{side}_{null}_null'))}")
        p = record.get(f"{side}_{null}_p")
        parts += [f"p {number_text(p)}"] if is_finite(p) else []
    return "  ".join(parts)
