"""What one open run shows: read incrementally in a worker, in pieces, so that keys are answered meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from readwrite_edit.runs.absence import GEOMETRY, METRICS, absence, damage, why_no_records
from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.geometry_snapshots import Snapshots
from readwrite_edit.runs.reader import RunView, read_run
from readwrite_edit.runs.records import segment_starts
from readwrite_edit.tui.run.metric_store import Key, MetricStore
from readwrite_edit.tui.run.series import Series

_LONGEST_READ_S = 0.3
_PAUSE_S = 0.002  # after each piece of a file, so that the screen gets its turn


@dataclass(frozen=True)
class RunReading:
    """A run at one moment.

    Attributes:
        view: Its state in words.
        series: By kind and name; each grows at its end or is replaced by another.
        alarms: Messages, in order.
        snapshots: Its geometry.
        unread: A sentence on each file that can not be read, or not wholly.
        no_values: A sentence to stand where there are no curves.
        no_geometry: A sentence to stand where there is no snapshot.
        left_out: Values of further names, beyond those that are kept.
        more: Whether there is more to read at once.
        version: Grows with whatever was read of metrics and geometry.
    """

    view: RunView
    series: Mapping[Key, Series]
    alarms: list[str]
    snapshots: Snapshots
    unread: tuple[str, ...]
    no_values: str
    no_geometry: str
    left_out: int
    more: bool
    version: int

    @property
    def latest(self) -> dict[Key, tuple[float, float]]:
        """Step and value of the last entry of each series."""
        return {key: last for key, series in self.series.items() if (last := series.last)}


class RunFeed:
    """Follows one run folder; ``read`` is for one thread at a time.

    Args:
        path: The run folder.
        clock: Gives unix seconds; ages count to it.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path, self._clock = path, clock
        self._store, self._snapshots = MetricStore(), Snapshots()
        folder = RunFolder(path)
        self._metrics = _Lines(folder.metrics, self._store)
        self._geometry = _Lines(folder.geometry, self._snapshots)
        self._version = 0

    def read(self) -> RunReading:
        """Take in what is new, for a third of a second at most; nothing that lies in the folder makes this raise."""
        view, starts = read_run(self.path, now=self._clock()), segment_starts(self.path)
        self._snapshots.begin(starts)
        if self._store.begin(starts):
            self._metrics.restart()
        until = time.monotonic() + _LONGEST_READ_S
        changed = [lines.advance(until) for lines in (self._metrics, self._geometry)]
        self._version += any(changed)
        series, alarms = self._store.series, self._store.alarms
        counts = {METRICS: len(series) + len(alarms), GEOMETRY: len(self._snapshots.steps)}
        files = {METRICS: self._metrics.cursor, GEOMETRY: self._geometry.cursor}
        nothing = {
            name: absence(name, view, why_no_records(cursor, counts[name], live=view.live))
            for name, cursor in files.items()
        }
        damaged = [damage(cursor, counts[name], live=view.live) for name, cursor in files.items()]
        return RunReading(
            view=view,
            series=series,
            alarms=alarms,
            snapshots=self._snapshots,
            unread=tuple(filter(None, damaged)),
            no_values=nothing[METRICS],
            no_geometry=nothing[GEOMETRY],
            left_out=self._store.left_out,
            more=self._metrics.more or self._geometry.more,
            version=self._version,
        )


class _Lines:
    """The lines of one file on their way into a store; begun again where the file was replaced."""

    def __init__(self, path: Path, store: MetricStore | Snapshots) -> None:
        self._path, self._store = path, store
        self.cursor = Cursor(path)
        self._blocks: Iterator[list[dict[str, Any]]] | None = None
        self._generation = 0

    @property
    def more(self) -> bool:
        """Whether the last reading broke off before the end."""
        return self._blocks is not None

    def restart(self) -> None:
        """Read from the first line again."""
        self._store.clear()
        self.cursor, self._blocks, self._generation = Cursor(self._path), None, 0

    def advance(self, until: float) -> bool:
        """Take in new lines up to a moment of the monotonic clock, one block at least; whether there were any."""
        changed, blocks = False, self._blocks or self.cursor.blocks()
        self._blocks = None
        for block in blocks:
            if self.cursor.generation != self._generation:
                self._generation, changed = self.cursor.generation, True
                self._store.clear()
            self._store.add(block)
            changed = changed or bool(block)
            if time.monotonic() > until:
                self._blocks = blocks
                break
            time.sleep(_PAUSE_S)
        return self._noticed_emptied() or changed

    def _noticed_emptied(self) -> bool:
        """Whether the file was replaced by an empty one, of which there is no block."""
        if self.cursor.generation == self._generation:
            return False
        self._generation = self.cursor.generation
        self._store.clear()
        return True
