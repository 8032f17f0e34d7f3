"""One metric of a run as compact arrays: what its curve is drawn from.

100,000 values take 1.9 MB. The extremes of every sixteen values are kept as they
arrive, so that a curve of any length is drawn from a few hundred numbers.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

_BLOCK = 16
_FROM_BLOCKS = 8 * _BLOCK  # shorter stretches are looked through value by value
MOST_VALUES = 1 << 17
_LARGEST_SEGMENT = 0xFFFF


class Series:
    """Values by step, ascending; grows at its end only, so that it may be read while a worker appends.

    A reader takes ``count`` once and looks no further. What was not finite is NaN.

    Attributes:
        steps: Step of each value.
        values: The values.
        segments: How often the run had been resumed at each.
        count: How many values are complete.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.steps, self.values, self.segments = array("d"), array("d"), array("H")
        self.count = 0
        self._lows, self._highs = array("d"), array("d")

    def append(self, step: float, value: float, segment: int = 0) -> None:
        """Add the next value; ``step`` may not lie before the last one."""
        self.steps.append(step)
        self.values.append(value)
        self.segments.append(segment if segment < _LARGEST_SEGMENT else _LARGEST_SEGMENT)
        count = self.count + 1
        if count % _BLOCK == 0:
            low, high = _extremes(self.values[-_BLOCK:])
            self._lows.append(low)
            self._highs.append(high)
        self.count = count  # last, so that a reader never meets half an entry

    @property
    def last(self) -> tuple[float, float] | None:
        """Step and value of the last entry."""
        return (self.steps[self.count - 1], self.values[self.count - 1]) if self.count else None

    @property
    def segment_starts(self) -> list[float]:
        """The first step of each segment but the first."""
        starts, index, count = [], 0, self.count
        while index < count:
            index = max(index + 1, bisect_right(self.segments, self.segments[index], index, count))
            if index < count:
                starts.append(self.steps[index])
        return starts

    def index_at(self, step: float) -> int | None:
        """Index of the last value at or before a step."""
        index = bisect_right(self.steps, step, 0, self.count) - 1
        return index if index >= 0 else None

    def drawn(self, low: float, high: float, columns: int) -> tuple[array[float], array[float]]:
        """Steps and values that draw the curve between two steps as the whole of them would.

        Args:
            low: First step shown.
            high: Last step shown.
            columns: Columns of dots there are to draw in.

        Returns:
            All values with a neighbour on either side where they are few; otherwise
            the least and the greatest of each column. NaN where the curve breaks.
        """
        first = max(0, bisect_left(self.steps, low, 0, self.count) - 1)
        last = min(self.count, bisect_right(self.steps, high, 0, self.count) + 1)
        if last - first <= 2 * columns or not high > low:
            return self.steps[first:last], self.values[first:last]
        steps, values = array("d"), array("d")
        for column in range(columns):
            end = low + (high - low) * (column + 1) / columns
            until = last if column == columns - 1 else bisect_right(self.steps, end, first, last)
            if until > first:
                _add_column(steps, values, self.steps[(first + until - 1) // 2], self._between(first, until))
            first = until
        return steps, values

    def _between(self, first: int, last: int) -> tuple[float, float]:
        """Least and greatest value of a stretch; of a long one, of the blocks that it touches."""
        if last - first < _FROM_BLOCKS:
            return _extremes(self.values[first:last])
        blocks, rest = slice(first // _BLOCK, last // _BLOCK), self.values[last // _BLOCK * _BLOCK : last]
        return _extremes(self._lows[blocks] + rest)[0], _extremes(self._highs[blocks] + rest)[1]


def by_column(
    steps: Sequence[float], values: Sequence[float], low: float, high: float, columns: int
) -> tuple[Sequence[float], Sequence[float]]:
    """As ``Series.drawn`` for values that lie in any sequence, thousands rather than millions of them."""
    if len(steps) <= 4 * columns or not high > low:
        return steps, values
    series = Series()
    for step, value in zip(steps, values, strict=True):
        series.append(step, value)
    return series.drawn(low, high, columns)


def _add_column(steps: array[float], values: array[float], step: float, pair: tuple[float, float]) -> None:
    """Add a column's extremes, the one nearer to the value before first."""
    if len(values) and abs(pair[1] - values[-1]) < abs(pair[0] - values[-1]):
        pair = pair[1], pair[0]
    for value in pair if pair[0] != pair[1] else pair[:1]:
        steps.append(step)
        values.append(value)


def _extremes(values: array[float]) -> tuple[float, float]:
    finite = [value for value in values if not math.isnan(value)]
    return (min(finite), max(finite)) if finite else (math.nan, math.nan)


class Smoothed:
    """An exponential mean of a series, extended as the series grows.

    Each value is Σ wⁱ x₋ᵢ / Σ wⁱ over the values so far, as TensorBoard and W&B
    draw it: without the pull towards zero that a plain exponential mean has at
    its start. What is not finite stays so and counts for nothing.
    """

    def __init__(self, raw: Series, weight: float) -> None:
        """Smooth ``raw`` with the weight w, from 0 (not at all) up to below 1."""
        self.raw, self.weight = raw, weight
        self.series = Series()
        self._sum = self._weights = 0.0

    def extend(self) -> Series:
        """Take in the values that are new; returns the smoothed series."""
        raw, w = self.raw, self.weight
        for index in range(self.series.count, raw.count):
            value = raw.values[index]
            if not math.isnan(value):
                self._sum, self._weights = w * self._sum + value, w * self._weights + 1.0
                value = self._sum / self._weights
            self.series.append(raw.steps[index], value, raw.segments[index])
        return self.series


def thinned(series: Series) -> Series:
    """Half of a series: of every four values the least and the greatest, in their order."""
    half = Series()
    for start in range(0, series.count, 4):
        four = range(start, min(start + 4, series.count))
        kept = [index for index in four if not math.isnan(series.values[index])] or [start]
        least, greatest = (choose(kept, key=series.values.__getitem__) for choose in (min, max))
        for index in sorted({least, greatest}):
            half.append(series.steps[index], series.values[index], series.segments[index])
    return half
