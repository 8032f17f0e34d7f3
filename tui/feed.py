"""What one open run shows: read incrementally in a worker, so that a long run costs only its new lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from readwrite_edit.runs.cursor import Cursor
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import RunView, last_snapshot, read_run
from readwrite_edit.runs.records import (
    current,
    geometry_key,
    is_geometry,
    is_metric,
    metric_key,
    segment_starts,
)

Record = dict[str, Any]


@dataclass(frozen=True)
class RunReading:
    """A run at one moment: its view, the last value of each name, its alarms, its last geometry snapshot."""

    view: RunView
    values: list[tuple[str, str, int, object, object]]
    alarms: list[str]
    snapshot: list[Record]
    garbage: int


class RunFeed:
    """Follows one run folder; ``read`` is for one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        folder = RunFolder(path)
        self._metrics = _Lines(Cursor(folder.metrics), is_metric)
        self._geometry = _Lines(Cursor(folder.geometry), is_geometry)
        self._starts: tuple[int | None, ...] = ()
        self._last: RunReading | None = None

    def read(self) -> RunReading:
        """Take in what is new; nothing that lies in the folder makes this raise."""
        view, starts = read_run(self.path), segment_starts(self.path)
        changed = [self._metrics.advance(), self._geometry.advance(), starts != self._starts]
        if self._last is not None and not any(changed):
            self._last = replace(self._last, view=view)
            return self._last
        self._starts = starts
        metrics = current(self._metrics.records, starts, metric_key)
        self._last = RunReading(
            view=view,
            values=latest_values(metrics),
            alarms=alarms(metrics),
            snapshot=last_snapshot(current(self._geometry.records, starts, geometry_key)),
            garbage=self._metrics.cursor.garbage + self._geometry.cursor.garbage,
        )
        return self._last


class _Lines:
    """All valid lines of one file so far; begun again where the file was replaced."""

    def __init__(self, cursor: Cursor, valid: Callable[[Record], bool]) -> None:
        self.cursor = cursor
        self.records: list[Record] = []
        self._valid = valid
        self._seen = cursor.generation, cursor.offset

    def advance(self) -> bool:
        """Take in new lines; whether there were any, or the file was replaced."""
        new = filter(self._valid, self.cursor.read())
        generation, _ = self._seen
        if self.cursor.generation != generation:
            self.records = []
        self.records.extend(new)
        before, self._seen = self._seen, (self.cursor.generation, self.cursor.offset)
        return before != self._seen


def latest_values(metrics: list[Record]) -> list[tuple[str, str, int, object, object]]:
    """Kind, name, step, last value and the one before it, for each name that was logged."""
    latest: dict[tuple[str, str], tuple[int, object, object]] = {}
    for record in metrics:
        for name, value in record["values"].items():
            before = latest.get((record["kind"], name))
            latest[record["kind"], name] = record["step"], value, before[1] if before else None
    return [(*key, *figures) for key, figures in latest.items()]


def alarms(metrics: list[Record]) -> list[str]:
    """The messages of the alarms, in order."""
    messages = (record.get("message") for record in metrics if record["kind"] == "alarm")
    return [message for message in messages if isinstance(message, str)]
