"""Layers × modules as a grid of digits: a colour may fade, a digit stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from readwrite_edit.runs.state import is_finite
from readwrite_edit.runs.wording import number_text

MODULE_ORDER = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "o_proj", "down_proj")
MISSING = "·"


@dataclass(frozen=True)
class GeometryGrid:
    """A snapshot by layer and module; cells hold the whole record of a matrix."""

    step: int | None
    layers: tuple[int, ...]
    modules: tuple[str, ...]
    records: dict[tuple[int, str], dict[str, Any]]

    def fraction(self, layer: int, module: str) -> float | None:
        """The read fraction of a matrix; None where it was not measured."""
        value = self.records.get((layer, module), {}).get("read_fraction")
        return float(value) if is_finite(value) else None


def grid(snapshot: list[dict[str, Any]]) -> GeometryGrid:
    """Order the records of one snapshot: layers ascending, modules as they stand in a layer, unknown ones last."""
    records = {(record["layer"], record["module"]): record for record in snapshot}
    modules = {module for _, module in records}
    known = [module for module in MODULE_ORDER if module in modules]
    return GeometryGrid(
        step=snapshot[0]["step"] if snapshot else None,
        layers=tuple(sorted({layer for layer, _ in records})),
        modules=(*known, *sorted(modules - set(known))),
        records=records,
    )


def digit(fraction: float | None) -> str:
    """Tenths of a fraction as one character, 0 to 9; a dot where there is none."""
    return MISSING if fraction is None else str(min(9, max(0, int(fraction * 10))))


def explain(layer: int, module: str, record: dict[str, Any] | None) -> str:
    """The exact figures behind one cell, in one line."""
    if record is None:
        return f"layer {layer} {module}: not adapted"
    named = (
        ("read", "read_fraction"),
        ("k/d", "read_isotropic_null"),
        ("energy null", "read_energy_null"),
        ("write", "write_fraction"),
        ("norm", "norm"),
    )
    figures = "  ".join(f"{label} {number_text(record.get(field))}" for label, field in named)
    return f"layer {layer} {module}: {figures}"
