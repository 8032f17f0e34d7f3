"""All metrics of one run as series, filled line by line; what a resume superseded is left out.

The rule stands in ``runs.writer``. Little is kept for it: a line that was superseded
once stays so, unless the run's state says later where a segment began of which
lines were read before; then ``begin`` asks for everything again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from readwrite_edit.runs.records import is_metric, last_steps
from readwrite_edit.runs.state import is_finite
from readwrite_edit.tui.run.series import MOST_VALUES, Series, thinned

Key = tuple[str, str]
MOST_NAMES = 200
_LONGEST_NAME = 120
_MOST_ALARMS = 500
_LONGEST_ALARM = 2000


class MetricStore:
    """Series by kind and name, and the alarms; filled by one thread, looked at by others."""

    def __init__(self) -> None:
        """Begin empty."""
        self._starts: tuple[int | None, ...] = ()
        self.clear()

    def clear(self) -> None:
        """Forget all lines: the file was replaced, or is read again."""
        self._series: dict[Key, Series] = {}
        self._alarms: list[tuple[int, int, str]] = []
        self._first_steps: dict[int, int] = {}
        self._restated: dict[tuple[str, int], int] = {}
        self._last_steps: dict[int, float] = {}
        self._late: dict[Key, list[tuple[float, float, int]]] = {}
        self._unjudged = False
        self.left_out = 0

    def begin(self, starts: Sequence[int | None]) -> bool:
        """Say from which step each segment went on; whether all lines must be read again for it."""
        old, self._starts = self._starts, tuple(starts)
        if old == self._starts:
            return False
        was = dict(enumerate(old))
        again = any(was.get(seen) != start for seen, start in enumerate(starts) if seen in self._first_steps)
        self._judge()
        return again

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Take in lines of ``metrics.jsonl`` in the order of the file; those that are none are left out."""
        for record in records:
            if is_metric(record):
                self._take(record)
        if self._unjudged:
            self._judge()

    @property
    def series(self) -> dict[Key, Series]:
        """The series by kind and name, in the order of their first values."""
        return dict(self._series)

    @property
    def alarms(self) -> list[str]:
        """The messages of the last alarms that hold, in order."""
        return [text for step, segment, text in self._alarms if self._holds("alarm", step, segment)]

    def _take(self, record: dict[str, Any]) -> None:
        step, segment, kind = record["step"], record["segment"], record["kind"][:_LONGEST_NAME]
        if step < self._first_steps.get(segment, math.inf):
            self._first_steps[segment] = step
            self._unjudged = True
        if segment and step <= self._begun(segment):
            self._restated[kind, step] = max(segment, self._restated.get((kind, step), 0))
            self._unjudged = True
        if not self._holds(kind, step, segment):
            return
        if kind == "alarm" and isinstance(record.get("message"), str):
            self._alarms = [*self._alarms[1 - _MOST_ALARMS :], (step, segment, record["message"][:_LONGEST_ALARM])]
        for name, value in record["values"].items():
            if value is None:
                self._append((kind, name), step, math.nan, segment)
            elif is_finite(value):
                self._append((kind, name), step, value, segment)

    def _append(self, key: Key, step: int, value: float, segment: int) -> None:
        series = self._series.get(key)
        if series is None:
            if len(self._series) >= MOST_NAMES or len(key[1]) > _LONGEST_NAME:
                self.left_out += 1
                return
            series = self._series[key] = Series()
        if series.count and step < series.steps[-1]:
            self._late.setdefault(key, []).append((step, value, segment))
            self._unjudged = True
            return
        if series.count >= MOST_VALUES:
            series = self._series[key] = thinned(series)
        series.append(step, value, segment)

    def _begun(self, segment: int) -> float:
        """The step that a segment went on from."""
        known = self._starts[segment] if segment < len(self._starts) else None
        return self._first_steps[segment] - 1 if known is None else known

    def _holds(self, kind: str, step: float, segment: int) -> bool:
        if step > self._last_steps.get(segment, math.inf):
            return False
        return not self._restated or segment >= self._restated.get((kind, int(step)), 0)

    def _judge(self) -> None:
        """Leave out what is superseded by now, and put late values in their place."""
        self._unjudged = False
        self._last_steps = last_steps(self._first_steps, self._starts)
        for key, series in list(self._series.items()):
            late = self._late.pop(key, [])
            segments = set(series.segments[: series.count])
            if late or self._restated or any(self._holds_not_all(segment, series) for segment in segments):
                self._series[key] = self._rebuilt(key, series, late)

    def _holds_not_all(self, segment: int, series: Series) -> bool:
        return series.steps[series.count - 1] > self._last_steps.get(segment, math.inf)

    def _rebuilt(self, key: Key, series: Series, late: list[tuple[float, float, int]]) -> Series:
        made, count = Series(), series.count
        points = zip(series.steps[:count], series.values[:count], series.segments[:count], strict=True)
        for step, value, segment in sorted([*points, *late], key=lambda point: point[0]):
            if self._holds(key[0], step, segment):
                made.append(step, value, segment)
        return made
