"""Figures as digits: what 0 to 9 mean for one grid and one quantity, in words and as ranges."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from readwrite_edit.runs.geometry_grid import GeometryGrid, Measure

MISSING = "·"
_STEPS = range(1, 10)
_WHOLE = tuple(float(step) for step in _STEPS)
_FIFTHS = tuple(step / 5 for step in _STEPS)
_TENTHS = tuple(step / 10 for step in _STEPS)
_HUNDREDTHS = tuple(step / 100 for step in _STEPS)
_DOUBLING = tuple(2.0**step for step in range(9))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What the digits of one grid mean.

    Attributes:
        edges: Least value of the digits 1 to 9; of a signed scale least size.
        caption: The same in words.
        centre: Value that parts low from high (1 of a ratio, 0 of a difference); None where there is none.
        signed: Whether a digit goes with a sign.
    """

    edges: tuple[float, ...]
    caption: str
    centre: float | None = None
    signed: bool = False

    def digit(self, value: float) -> int:
        """0 to 9; of a signed scale for the size of the value."""
        return bisect_right(self.edges, abs(value) if self.signed else value)

    def text(self, value: float | None) -> str:
        """A digit, with its sign on a signed scale; a dot where there is no figure."""
        if value is None:
            return MISSING
        sign = "" if not self.signed or value == 0 else "+" if value > 0 else "−"
        return f"{sign}{self.digit(value)}"

    def tone(self, value: float) -> float:
        """Where the value's colour lies: 0 to 1, or −1 to 1 around the centre; the same for all values of one text."""
        digit = self.digit(value)
        if self.signed:
            return 0.0 if value == 0 else math.copysign((digit + 0.5) / 10, value)
        if self.centre is None:
            return digit / 9
        first = bisect_right(self.edges, self.centre)  # the first digit that does not lie below the centre
        return (digit - first + 0.5) / (10 - first if digit >= first else first)

    def legend(self) -> list[tuple[str, float]]:
        """Each text that a cell can hold, and a value of it."""
        if not self.signed:
            return [(self.text(value), value) for value in (self._inside(digit) for digit in range(10))]
        shown = [self._inside(digit) for digit in (9, 7, 5, 3, 1)]
        values = [*(-value for value in shown), 0.0, *reversed(shown)]
        return [(self.text(value), value) for value in values]

    def _inside(self, digit: int) -> float:
        if digit == 0:
            return self.edges[0] / 2
        return self.edges[8] if digit == 9 else (self.edges[digit - 1] + self.edges[digit]) / 2


def scale_of(shown: GeometryGrid, measure: Measure) -> Scale:
    """The scale that suits the figures of one grid."""
    return scale_for(shown.values(measure), measure, signed=shown.signed)


def scale_for(values: Sequence[float], measure: Measure, *, signed: bool = False) -> Scale:
    """The scale that suits some figures: parts of 1 for fractions, whole parts of ratios, shares of the largest size.

    Args:
        values: The figures.
        measure: What they are of.
        signed: Whether they are differences.
    """
    largest = max((abs(value) for value in values), default=0.0)
    if signed:
        return _signed(largest)
    if measure.kind == "fraction" and 0 < largest < _HUNDREDTHS[-1]:
        return Scale(edges=_HUNDREDTHS, caption="hundredths: 3 is 0.03 to 0.04")
    if measure.kind == "fraction":
        return Scale(edges=_TENTHS, caption="tenths: 3 is 0.3 to 0.4")
    return _ratio(largest) if measure.kind == "ratio" else _size(values, largest)


def _ratio(largest: float) -> Scale:
    if largest < 2:
        return Scale(edges=_FIFTHS, centre=1.0, caption="fifths: 5 is 1 to 1.2, 4 and less lie below the null")
    if largest < 10:
        return Scale(edges=_WHOLE, centre=1.0, caption="whole part: 2 is 2 to 3, 0 lies below the null")
    return Scale(edges=_DOUBLING, centre=1.0, caption="doublings: 1 is 1 to 2, 2 is 2 to 4, 3 is 4 to 8")


def _size(values: Sequence[float], largest: float) -> Scale:
    """Tenths of the largest; halvings of it where most figures would be 0 in tenths."""
    top = largest or 1.0
    spread = sum(value >= top / 10 for value in values) * 2 < len(values)
    if spread and largest > 0:
        edges = tuple(top / 2 ** (10 - step) for step in _STEPS)
        return Scale(edges=edges, caption=f"halvings: 9 is {edges[8]:.3g} to {top:.3g}, 8 half of it")
    return Scale(edges=tuple(top * tenth for tenth in _TENTHS), caption=f"tenths of the largest, {largest:.3g}")


def _signed(largest: float) -> Scale:
    top = largest or 1.0
    edges = tuple(top * tenth for tenth in _TENTHS)
    return Scale(edges=edges, centre=0.0, signed=True, caption=f"tenths of the largest difference, {largest:.3g}")
