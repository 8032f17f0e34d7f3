"""Axes of charts: neat ticks and short numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_NEAT = (1.0, 2.0, 2.5, 5.0, 10.0)
_PLAIN_DIGITS = 5  # from a million on, and below a thousandth, exponents read better
_LETTERS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def neat_ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` round numbers between two bounds, evenly apart; none where there is no room for two.

    Args:
        low: Lower bound, finite.
        high: Upper bound, above ``low``.
        most: How many there is room for.
    """
    if most < 1 or not high > low:
        return []
    rough = (high - low) / max(1, most)
    size = 10.0 ** math.floor(math.log10(rough))
    for factor in (factor * scale for scale in (size, size * 10) for factor in _NEAT):
        first, last = math.ceil(low / factor - 1e-9), math.floor(high / factor + 1e-9)
        if last - first < most:
            return [number * factor for number in range(first, last + 1)]
    return []


def whole_ticks(low: float, high: float, most: int) -> list[float]:
    """As ``neat_ticks``, whole numbers only: for steps."""
    ticks = neat_ticks(low, high, most)
    return [tick for tick in ticks if abs(tick - round(tick)) < 1e-9]


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Exponents of ten between two exponents, thinned to ``most``; neat ones where there is less than one decade."""
    first, last = math.ceil(low - 1e-9), math.floor(high + 1e-9)
    if last <= first:
        return neat_ticks(low, high, most)
    apart = -(-(last - first + 1) // max(1, most))
    return [float(number) for number in range(first, last + 1) if number % apart == 0]


def tick_texts(ticks: Sequence[float]) -> list[str]:
    """Ticks of one axis with the digits that tell them apart."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    if not largest:
        return ["0" for _ in ticks]
    apart = min((b - a for a, b in pairwise(ticks)), default=largest)
    if largest < 1e-3 or largest >= 1e12:
        return [_scientific(tick, apart) for tick in ticks]
    scale, letter = next(((size, name) for size, name in _LETTERS if largest >= 10 * size), (1.0, ""))
    digits = _decimals(apart / scale)
    return [f"{tick / scale:.{digits}f}{letter}" if tick else "0" for tick in ticks]


def short_number(value: float) -> str:
    """A value in about four digits and at most eight characters; ``nan`` where there is none."""
    if not math.isfinite(value):
        return "nan"
    size = abs(value)
    if size and (size < 1e-4 or size >= 1e6):
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    return f"{value:.4g}"


def _decimals(apart: float) -> int:
    """Decimal places that show a step between ticks."""
    for digits in range(_PLAIN_DIGITS):
        if abs(apart * 10**digits - round(apart * 10**digits)) < 1e-6 * max(1.0, apart * 10**digits):
            return digits
    return _PLAIN_DIGITS


def _scientific(tick: float, apart: float) -> str:
    if not tick:
        return "0"
    exponent = math.floor(math.log10(abs(tick)) + 1e-9)
    digits = min(2, _decimals(apart / 10.0**exponent))
    return f"{tick / 10.0**exponent:.{digits}f}e{exponent}"
