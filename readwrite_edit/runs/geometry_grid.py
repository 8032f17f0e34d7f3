"""One snapshot of a run's geometry as layers × matrices: what can be measured of a matrix, and where two runs differ.

``runs.geometry_scale`` turns the figures into digits, ``runs.geometry_snapshots``
keeps the snapshots of a whole training.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from readwrite_edit.runs.state import is_finite

Record = dict[str, Any]
MODULE_ORDER = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "o_proj", "down_proj")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A quantity of one matrix.

    Attributes:
        name: Short and stable, for command lines.
        title: Its name.
        meaning: What it is, as a clause.
        kind: ``fraction`` lies in [0, 1]; ``ratio`` is compared with 1; ``size`` has no end.
        field: Of a record.
        null: Field that it is divided by; None for the field itself.
    """

    name: str
    title: str
    meaning: str
    kind: Literal["fraction", "ratio", "size"]
    field: str
    null: str | None = None

    def value(self, record: Mapping[str, Any]) -> float | None:
        """The figure of a matrix; None where it was not measured."""
        found = record.get(self.field)
        if not is_finite(found):
            return None
        if self.null is None:
            return float(found)
        below = record.get(self.null)
        ratio = found / below if is_finite(below) and below > 0 else None
        return ratio if is_finite(ratio) else None


MEASURES = (
    Measure(
        name="read", title="read fraction", kind="fraction", field="read_fraction",
        meaning="share of the update in the read subspace",
    ),
    Measure(
        name="read-isotropic", title="read fraction ÷ k/d", kind="ratio", field="read_fraction",
        null="read_isotropic_null", meaning="1 is what an update of no direction gives",
    ),
    Measure(
        name="read-energy", title="read fraction ÷ energy null", kind="ratio", field="read_fraction",
        null="read_energy_null", meaning="1 is what the shape of the input gives by itself",
    ),
    Measure(
        name="write", title="write fraction", kind="fraction", field="write_fraction",
        meaning="share of the update in the prediction subspace",
    ),
    Measure(
        name="write-isotropic", title="write fraction ÷ k/d", kind="ratio", field="write_fraction",
        null="write_isotropic_null", meaning="1 is what an update of no direction gives",
    ),
    Measure(
        name="write-energy", title="write fraction ÷ energy null", kind="ratio", field="write_fraction",
        null="write_energy_null", meaning="1 is what the shape of the gradient gives by itself",
    ),
    Measure(
        name="captured", title="captured energy", kind="fraction", field="captured_energy",
        meaning="share of the input's energy inside the adapter's basis",
    ),
    Measure(
        name="read-captured", title="read fraction ÷ captured energy", kind="ratio", field="read_fraction",
        null="captured_energy", meaning="1 where the update reads as much as its basis catches",
    ),
    Measure(name="norm", title="norm", kind="size", field="norm", meaning="‖ΔW‖ (Frobenius)"),
    Measure(
        name="relative-norm", title="relative norm", kind="size", field="relative_norm", meaning="‖ΔW‖ ÷ ‖W‖"
    ),
    Measure(
        name="price", title="price", kind="size", field="price",
        meaning="mean squared change of the output on the protected text",
    ),
    Measure(
        name="output-energy", title="output energy", kind="size", field="output_energy",
        meaning="mean squared change of the output on the alignment text",
    ),
)  # fmt: skip
MEASURE_BY_NAME = {measure.name: measure for measure in MEASURES}


@dataclass(frozen=True)
class GeometryGrid:
    """A snapshot by layer and module; cells hold the record of a matrix.

    Attributes:
        step: Of the snapshot; None for an empty one.
        layers: Ascending.
        modules: As they stand in a layer; those that no table knows last.
        records: By layer and module.
    """

    step: int | None
    layers: tuple[int, ...]
    modules: tuple[str, ...]
    records: Mapping[tuple[int, str], Record]

    @property
    def signed(self) -> bool:
        """Whether values are differences."""
        return False

    def value(self, layer: int, module: str, measure: Measure) -> float | None:
        """A figure of a matrix; None where it was not measured."""
        return measure.value(self.records.get((layer, module), {}))

    def values(self, measure: Measure) -> list[float]:
        """The figures of all matrices that have one."""
        found = (self.value(*place, measure) for place in self.records)
        return [value for value in found if value is not None]

    def layer_mean(self, layer: int, measure: Measure) -> float | None:
        """Mean over the matrices of a layer that have a figure; None where none has."""
        return _mean(self.value(layer, module, measure) for module in self.modules)

    def module_mean(self, module: str, measure: Measure) -> float | None:
        """Mean over the layers in which a matrix has a figure; None where none has."""
        return _mean(self.value(layer, module, measure) for layer in self.layers)

    def mean(self, measure: Measure) -> float | None:
        """Mean over all matrices that have a figure; None where none has."""
        return _mean(self.values(measure))

    def measured(self) -> tuple[Measure, ...]:
        """The quantities that at least one matrix has."""
        return tuple(measure for measure in MEASURES if any(True for _ in self._found(measure)))

    def _found(self, measure: Measure) -> Iterable[float]:
        values = (self.value(*place, measure) for place in self.records)
        return (value for value in values if value is not None)


@dataclass(frozen=True)
class GeometryDifference(GeometryGrid):
    """Where two grids differ: a value is the second's less the first's, None where either lacks it."""

    first: GeometryGrid
    second: GeometryGrid

    @property
    def signed(self) -> bool:
        """Values are differences."""
        return True

    def value(self, layer: int, module: str, measure: Measure) -> float | None:
        """The second's figure of a matrix less the first's."""
        before, after = (side.value(layer, module, measure) for side in (self.first, self.second))
        return None if before is None or after is None else after - before


def grid(snapshot: Sequence[Record]) -> GeometryGrid:
    """Order the records of one snapshot; of several of one layer and module the first counts."""
    records = {(record["layer"], record["module"]): record for record in reversed(snapshot)}
    return GeometryGrid(snapshot[0]["step"] if snapshot else None, *_axes(records), records)


def difference(first: GeometryGrid, second: GeometryGrid) -> GeometryDifference:
    """What the second grid has more than the first, matrix by matrix."""
    records = {**first.records, **second.records}
    return GeometryDifference(second.step, *_axes(records), records, first, second)


def _axes(places: Iterable[tuple[int, str]]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Layers ascending, modules in their order."""
    layers, modules = {layer for layer, _ in places}, {module for _, module in places}
    known = [module for module in MODULE_ORDER if module in modules]
    return tuple(sorted(layers)), (*known, *sorted(modules - set(known)))


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None
