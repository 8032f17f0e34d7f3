"""Which of a run's curves are looked at, and where: the chosen panel, the steps shown, the cursor."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping

from readwrite_edit.tui.run.curve_lines import Range, whole_range
from readwrite_edit.tui.run.metric_store import Key
from readwrite_edit.tui.run.panels import Panel
from readwrite_edit.tui.run.series import Series

LEAST_STEPS = 2.0


class CurveView:
    """A place in the curves of a run; what it shows may grow.

    Attributes:
        series: All of the run's.
        panels: The charts they make.
        chosen: Number of the chosen panel.
        seen: First and last step shown; None for all of them, new ones too.
        cursor: A step; None for the last one, new ones too.
    """

    def __init__(self, panels_of: Callable[[Iterable[Key]], list[Panel]]) -> None:
        """Look at nothing yet; ``panels_of`` makes the panels of the series there are."""
        self._panels_of = panels_of
        self.series: Mapping[Key, Series] = {}
        self.panels: list[Panel] = []
        self.chosen = 0
        self.seen: Range | None = None
        self.cursor: float | None = None

    def take(self, series: Mapping[Key, Series]) -> None:
        """Look at other or longer series; the chosen panel stays the chosen one."""
        if list(series) != list(self.series):
            title = self.panels[self.chosen].title if self.panels else ""
            self.panels = self._panels_of(series)
            titles = [panel.title for panel in self.panels]
            self.chosen = titles.index(title) if title in titles else 0
        self.series = series

    @property
    def panel(self) -> Panel:
        """The chosen one."""
        return self.panels[self.chosen]

    @property
    def whole(self) -> Range:
        """First and last step of all series."""
        return whole_range(self.series.values()) or (0.0, 1.0)

    @property
    def range(self) -> Range:
        """First and last step shown."""
        return self.seen or self.whole

    @property
    def along(self) -> Series:
        """The longest series of the chosen panel: the cursor moves along its values."""
        keys = [line.key for line in self.panel.lines] if self.panels else []
        return max((self.series[key] for key in keys), key=lambda series: series.count, default=Series())

    @property
    def at(self) -> float:
        """The cursor's step."""
        last = self.along.last
        return self.cursor if self.cursor is not None else last[0] if last else self.whole[1]

    def zoom(self, factor: float) -> None:
        """Show ``factor`` times as many steps, around the cursor where it is seen."""
        low, high = self.range
        middle = self.at if low <= self.at <= high else (low + high) / 2
        length = max(LEAST_STEPS, (high - low) * factor)
        self.look_at(middle - length / 2, length)

    def pan(self, share: float) -> None:
        """Show steps earlier or later by a share of those that are shown."""
        low, high = self.range
        self.look_at(low + share * (high - low), high - low)

    def look_at(self, low: float, length: float) -> None:
        """Show so many steps, inside what there is."""
        first, last = self.whole
        low = min(max(low, first), max(first, last - length))
        self.seen = None if length >= last - first else (low, low + length)

    def move(self, way: int, *, columns: int) -> None:
        """Move the cursor to the next value, or by one of so many columns where values are denser."""
        series, (low, high) = self.along, self.range
        steps, count, column = series.steps, series.count, (high - low) / columns
        if not count:
            return
        if way > 0:
            index = max(bisect_right(steps, self.at, 0, count), bisect_left(steps, self.at + column, 0, count))
        else:
            index = min(bisect_left(steps, self.at, 0, count), bisect_right(steps, self.at - column, 0, count)) - 1
        self.put_cursor(steps[max(0, min(count - 1, index))])

    def put_cursor(self, step: float) -> None:
        """Put the cursor on a step, and show steps around it where it was not seen."""
        last = self.along.last
        self.cursor = None if last is None or step >= last[0] else step
        low, high = self.range
        if not low <= step <= high:
            self.look_at(step - (high - low) / 2, high - low)
