"""A metric, and the value that it has: a ratio of sums over observations, which are drawn again for its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from readwrite_edit.evaluate.intervals import ratio_interval

Array = NDArray[np.float64]
Terms = Callable[..., tuple[Array, Array]]

_LARGEST_EXPONENT = 700.0


@dataclass(frozen=True)
class Generated:
    """What a model wrote for one prompt.

    Attributes:
        tokens: Ids, without the token that ended it.
        ended: Whether the model ended it itself, before the limit.
    """

    tokens: tuple[int, ...]
    ended: bool


@dataclass(frozen=True)
class Figure:
    """A metric's value.

    Attributes:
        value: Of all observations together; NaN where an observation is not a number, infinite where it overflows.
        low: Lower end of the 95 % bootstrap interval; NaN where there is none.
        high: Upper end.
        n: Observations that count: rows, sequences, prompts or matrices.
        not_numbers: How many of them are NaN or infinite.
    """

    value: float
    low: float
    high: float
    n: int
    not_numbers: int = 0

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON, None for what is not finite."""
        fields = asdict(self)
        return {name: value if math.isfinite(value) else None for name, value in fields.items()}


@dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
        of: What it is measured on: ``rows``, ``texts``, ``generations`` or ``price``.
        version: Of the definition.
        unit: Of the value.
        definition: In one sentence.
        terms: From the observations to their numerators and denominators, shape (n,) each.
        final: What is taken of the ratio of their sums; rising.
        needs_base: Whether it compares with the base.
        drawn: Whether its observations are a sample, so that it has an interval.
    """

    of: str
    version: int
    unit: str
    definition: str
    terms: Terms
    final: Callable[[float], float] = float
    needs_base: bool = True
    drawn: bool = True

    def figure(self, observed: Any, *, seed: int = 0, **options: Any) -> Figure:
        """Its value and interval.

        Args:
            observed: ``RowScores``, ``TextScores``, a list of ``Generated`` or of prices.
            seed: Of the bootstrap.
            **options: Of the terms, such as ``beta``.
        """
        with np.errstate(invalid="ignore"):
            numerators, denominators = self.terms(observed, **options)
        odd = int((~np.isfinite(numerators)).sum())
        if odd:
            return Figure(math.nan, math.nan, math.nan, len(numerators), odd)
        total = float(denominators.sum())
        value = float(numerators.sum()) / total if total else math.nan
        low, high = ratio_interval(numerators, denominators, seed=seed) if self.drawn else (math.nan, math.nan)
        return Figure(self.final(value), self.final(low), self.final(high), int((denominators > 0).sum()))


def exponential(value: float) -> float:
    """Exponential of a value, infinite where that overflows."""
    return math.exp(value) if not value > _LARGEST_EXPONENT else math.inf
