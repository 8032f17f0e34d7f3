"""The geometry of a whole training in little memory: columns of numbers by snapshot, filled line by line.

A column that a snapshot has in common with the one before it (shapes, nulls) is
kept once. Where a training has more than ``MOST_CELLS`` matrices × snapshots,
every second snapshot is let go, then every second of the rest: the newest stays.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from threading import Lock
from typing import Any

from readwrite_edit.runs.geometry_grid import GeometryGrid, Measure, Record, grid
from readwrite_edit.runs.records import is_geometry, last_steps
from readwrite_edit.runs.state import is_finite

MOST_CELLS = 300_000
_LEAST_COST = 64  # of a snapshot, in cells: its columns cost something however few matrices it has
_MOST_MATRICES = 20_000
_LONGEST_NAME = 200
_SIDES = tuple(
    f"{side}_{name}"
    for side in ("read", "write")
    for name in (
        "fraction", "isotropic_null", "isotropic_low", "isotropic_high", "isotropic_p", "energy_null", "energy_p",
        "effective_n", "isotropic_p_effective", "energy_p_effective",
    )
)  # fmt: skip
FIELDS = (
    "d_out", "d_in", "rank", "k", *_SIDES, "captured_energy", "norm", "relative_norm", "price", "output_energy",
    "stable_rank", "effective_rank",
)  # fmt: skip
_WHOLE = {"d_out", "d_in", "rank", "k"}
_Matrix = tuple[int, str, str]


@dataclass(frozen=True)
class _Snapshot:
    """Lines of one segment and step: which matrices, and a column of numbers for each field that any has."""

    matrices: tuple[int, ...]
    columns: dict[str, array[float]]


class Snapshots:
    """All snapshots of one run; may be filled by one thread while another looks."""

    def __init__(self) -> None:
        """Start without any."""
        self.left_out = 0
        self._found: dict[int, list[int]] | None = None  # the segments that hold at each step
        self._lock = Lock()
        self._starts: tuple[int | None, ...] = ()
        self._forget()

    def add(self, records: Iterable[Record]) -> None:
        """Take in lines of ``geometry.jsonl`` in the order of the file; those that are none are left out."""
        valid = (record for record in records if is_geometry(record))
        for (segment, step), lines in groupby(valid, key=lambda record: (record["segment"], record["step"])):
            group = list(lines)
            with self._lock:
                self._add(segment, step, group)

    def begin(self, starts: Sequence[int | None]) -> None:
        """Say from which step each segment went on: ``segment_starts`` of the run's state."""
        with self._lock:
            self._starts = tuple(starts)
            self._found = None

    def clear(self) -> None:
        """Forget all lines: the file was replaced."""
        with self._lock:
            self._forget()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that there is a snapshot of, ascending; what a resume superseded is left out."""
        with self._lock:
            return tuple(self._current())

    @property
    def newest(self) -> int | None:
        """The last of the steps."""
        steps = self.steps
        return steps[-1] if steps else None

    def at(self, step: int) -> GeometryGrid:
        """The snapshot of one step; an empty one where there is none."""
        with self._lock:
            found: dict[_Matrix, Record] = {}
            for segment in self._current().get(step, ()):
                # The later segment's line of a matrix replaces the earlier one's, at its own place.
                for matrix, record in self._records(segment, step):
                    found.pop(matrix, None)
                    found[matrix] = record
        return grid(list(found.values()))

    def series(self, layer: int, module: str, measure: Measure) -> list[tuple[int, float | None]]:
        """A quantity of one matrix at every step that there is a snapshot of."""
        with self._lock:
            names = self._names
            numbers = [number for number, name in enumerate(names) if name[:2] == (layer, module[:_LONGEST_NAME])]
            steps = self._current().items()
            return [(step, measure.value(self._latest(step, segments, numbers))) for step, segments in steps]

    def _latest(self, step: int, segments: list[int], numbers: list[int]) -> Record:
        """The numbers of a matrix at one step, by the last segment that has a line of it."""
        for segment in reversed(segments):
            snapshot = self._kept[segment, step]
            for number in numbers:
                if number in snapshot.matrices:
                    place = snapshot.matrices.index(number)
                    return {name: column[place] for name, column in snapshot.columns.items()}
        return {}

    def _forget(self) -> None:
        self._matrices: dict[_Matrix, int] = {}
        self._names: list[_Matrix] = []
        self._kept: dict[tuple[int, int], _Snapshot] = {}
        self._ordinals: dict[tuple[int, int], int] = {}
        self._first_steps: dict[int, int] = {}
        self._cells, self._stride, self._seen = 0, 1, 0
        self._found = None
        self.left_out = 0

    def _add(self, segment: int, step: int, group: list[Record]) -> None:
        key = segment, step
        self._first_steps[segment] = min(step, self._first_steps.get(segment, step))
        if key not in self._kept:
            self._make_room(key)
        made = self._packed(group, self._kept.get(key))
        before = self._kept.get(key)
        self._cells += _cost(made) - (0 if before is None else _cost(before))
        self._kept[key] = made
        self._found = None
        while self._cells > MOST_CELLS and len(self._kept) > 2:
            self._thin()

    def _make_room(self, key: tuple[int, int]) -> None:
        """Number the snapshot, and let the last one go where the stride leaves it out."""
        last = next(reversed(self._kept), None)
        if last is not None and self._ordinals[last] % self._stride:
            self._drop(last)
        self._ordinals[key] = self._seen
        self._seen += 1

    def _thin(self) -> None:
        self._stride *= 2
        newest = next(reversed(self._kept))
        for key in [key for key in self._kept if self._ordinals[key] % self._stride and key != newest]:
            self._drop(key)

    def _drop(self, key: tuple[int, int]) -> None:
        self._cells -= _cost(self._kept.pop(key))
        del self._ordinals[key]
        self.left_out += 1

    def _packed(self, group: list[Record], before: _Snapshot | None) -> _Snapshot:
        """A group of lines as columns, joined to those of the same snapshot that came before."""
        known = () if before is None else before.matrices
        fresh: dict[int, Record] = {}
        for record in group:
            number = self._number(record)
            if number is not None and number not in fresh:
                fresh[number] = record
        for number in known:
            fresh.pop(number, None)
        columns = _columns(list(fresh.values()))
        if before is not None:
            columns = _joined(before.columns, len(known), columns, len(fresh))
        return self._shared((*known, *fresh), columns)

    def _shared(self, matrices: tuple[int, ...], columns: dict[str, array[float]]) -> _Snapshot:
        """The same with the parts of the newest snapshot in the place of equal ones."""
        last = self._kept[next(reversed(self._kept))] if self._kept else None
        if last is None:
            return _Snapshot(matrices, columns)
        same = {
            name: last.columns[name] if _equal(last.columns.get(name), column) else column
            for name, column in columns.items()
        }
        return _Snapshot(last.matrices if last.matrices == matrices else matrices, same)

    def _number(self, record: Record) -> int | None:
        matrix = record["layer"], record["module"][:_LONGEST_NAME], str(record.get("path", ""))[:_LONGEST_NAME]
        known = self._matrices.get(matrix)
        if known is None and len(self._names) < _MOST_MATRICES:
            known = self._matrices[matrix] = len(self._names)
            self._names.append(matrix)
        return known

    def _current(self) -> dict[int, list[int]]:
        """The segments that hold at each step, ascending."""
        if self._found is None:
            last = last_steps(self._first_steps, self._starts)
            holding: dict[int, list[int]] = {}
            for segment, step in sorted(self._kept):
                if step <= last.get(segment, math.inf):
                    holding.setdefault(step, []).append(segment)
            self._found = dict(sorted(holding.items()))
        return self._found

    def _records(self, segment: int, step: int) -> Iterable[tuple[_Matrix, Record]]:
        snapshot = self._kept[segment, step]
        for place, number in enumerate(snapshot.matrices):
            layer, module, path = matrix = self._names[number]
            record: dict[str, Any] = {"layer": layer, "module": module, "path": path, "step": step, "segment": segment}
            for name, column in snapshot.columns.items():
                value = column[place]
                record[name] = None if math.isnan(value) else int(value) if name in _WHOLE else value
            yield matrix, record


def _columns(records: list[Record]) -> dict[str, array[float]]:
    """A column for each field that any of the records has; ``shape`` as ``d_out`` and ``d_in``."""
    columns = {name: array("d", [_float(record.get(name)) for record in records]) for name in FIELDS}
    for place, name in enumerate(("d_out", "d_in")):
        shaped = array("d", [_float(_side(record, place)) for record in records])
        columns[name] = array("d", [b if math.isnan(a) else a for a, b in zip(columns[name], shaped, strict=True)])
    return {name: column for name, column in columns.items() if not all(map(math.isnan, column))}


def _float(value: object) -> float:
    """A JSON value as a number; NaN where it is none."""
    return float(value) if is_finite(value) else math.nan


def _side(record: Record, place: int) -> object:
    shape = record.get("shape")
    return shape[place] if isinstance(shape, list) and len(shape) == 2 else None


def _joined(
    first: dict[str, array[float]], size: int, second: dict[str, array[float]], added: int
) -> dict[str, array[float]]:
    """Two sets of columns as one, filled up where only one has a field."""
    above, below = array("d", [math.nan]) * size, array("d", [math.nan]) * added
    return {
        name: first.get(name, above) + second.get(name, below) for name in FIELDS if name in first or name in second
    }


def _equal(first: array[float] | None, second: array[float]) -> bool:
    """Bit for bit, so that what is missing is equal too."""
    return first is not None and first.tobytes() == second.tobytes()


def _cost(snapshot: _Snapshot) -> int:
    return max(_LEAST_COST, len(snapshot.matrices))
