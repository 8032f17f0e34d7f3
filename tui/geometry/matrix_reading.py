"""One matrix of a run through its training: the whole record of a snapshot, read in a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from readwrite_edit.runs.absence import GEOMETRY, absence, why_no_records
from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.geometry_grid import Record
from readwrite_edit.runs.geometry_snapshots import Snapshots
from readwrite_edit.runs.reader import read_run
from readwrite_edit.runs.records import is_geometry, segment_starts
from readwrite_edit.tui.geometry.matrix_curves import Curve, curves_of

Place = tuple[int, str]


@dataclass(frozen=True)
class MatrixReading:
    """What is known of one matrix at one step.

    Attributes:
        place: Layer and module.
        step: Of the snapshot; None where the run has none.
        steps: Of all snapshots.
        snapshots: Of the run.
        places: All matrices of the snapshot, layer by layer.
        record: The line of the matrix, with its lists; empty where there is none.
        curves: Fractions over k, one a side that was measured.
        without: A sentence to stand there where the run has no snapshot.
    """

    place: Place
    step: int | None
    steps: tuple[int, ...]
    snapshots: Snapshots
    places: tuple[Place, ...]
    record: Record
    curves: tuple[Curve, ...]
    without: str


class MatrixReader:
    """Reads one run's geometry; calls of several threads take turns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = RunFolder(path).geometry
        self._cursor, self._generation = Cursor(self._file), 0
        self._snapshots = Snapshots()
        self._records: dict[Place, Record] = {}
        self._lock = Lock()
        self._scanned: tuple[int, int] | None = None  # step and generation that the records are of

    def read(self, place: Place, step: int | None, given_up: Callable[[], bool] = lambda: False) -> MatrixReading:
        """Take in what is new, and look up a matrix.

        Args:
            place: Layer and module.
            step: Of the snapshot; None for the newest.
            given_up: Asked now and then; where it says so the rest is left unread.
        """
        with self._lock:
            return self._look_up(place, step, given_up)

    def _look_up(self, place: Place, step: int | None, given_up: Callable[[], bool]) -> MatrixReading:
        self._snapshots.begin(segment_starts(self.path))
        self._advance(given_up)
        steps = self._snapshots.steps
        at = step if step in steps else steps[-1] if steps else None
        if at is not None and self._scanned != (at, self._generation):
            self._scan(at, given_up)
        record = {} if at is None else self._records.get(place, {})
        places = () if at is None else _places(self._snapshots, at)
        without = "" if steps else self._without()
        return MatrixReading(place, at, steps, self._snapshots, places, record, curves_of(record), without)

    def _without(self) -> str:
        view = read_run(self.path)
        return absence(GEOMETRY, view, why_no_records(self._cursor, 0, live=view.live))

    def _advance(self, given_up: Callable[[], bool]) -> None:
        for block in self._cursor.blocks():
            self._notice()
            self._snapshots.add(block)
            if given_up():
                return
        self._notice()

    def _notice(self) -> None:
        """Begin anew where the file was replaced."""
        if self._cursor.generation != self._generation:
            self._generation = self._cursor.generation
            self._snapshots.clear()

    def _scan(self, step: int, given_up: Callable[[], bool]) -> None:
        """Look for the whole lines of one snapshot; the last segment's count, and of one segment the first."""
        found: dict[Place, Record] = {}
        for block in Cursor(self._file).blocks():
            for record in block:
                if record.get("step") == step and is_geometry(record):
                    place = record["layer"], record["module"]
                    if place not in found or found[place]["segment"] < record["segment"]:
                        found[place] = record
            if given_up():
                return
        self._records, self._scanned = found, (step, self._generation)


def _places(snapshots: Snapshots, step: int) -> tuple[Place, ...]:
    shown = snapshots.at(step)
    return tuple(
        (layer, module) for layer in shown.layers for module in shown.modules if (layer, module) in shown.records
    )
