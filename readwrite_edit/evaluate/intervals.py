"""Bootstrap intervals of means and of ratios of sums; what is drawn again are the independent observations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from readwrite_edit.interventions.inference import DRAWS

Array = NDArray[np.float64]

_ENDS = (2.5, 97.5)
_COUNTS_AT_ONCE = 1 << 21


class Range(NamedTuple):
    """A 95 % percentile interval; NaN where there is nothing to draw from."""

    low: float
    high: float


UNKNOWN = Range(math.nan, math.nan)


def mean_interval(values: Array, clusters: NDArray[np.int64] | None = None, *, seed: int = 0) -> Range:
    """Interval of a mean over 2,000 draws with replacement.

    Args:
        values: One a prompt, shape (n,); NaN is left out.
        clusters: To which fact each belongs: facts are then drawn, with all their prompts, since paraphrases of one
            fact are not independent. With a single fact its prompts are drawn.
        seed: Of the draws.
    """
    kept = ~np.isnan(values)
    return ratio_interval(
        values[kept], np.ones(int(kept.sum())), None if clusters is None else clusters[kept], seed=seed
    )


def ratio_interval(
    numerators: Array, denominators: Array, clusters: NDArray[np.int64] | None = None, *, seed: int = 0
) -> Range:
    """Interval of a ratio of sums, such as a mean per token over sequences, over 2,000 draws with replacement.

    A draw takes as many observations as there are, each with its numerator and
    its denominator. The same seed draws the same observations of any columns of
    one length, so that intervals of the same rows can be compared.

    Args:
        numerators: One an observation, shape (n,); a NaN makes the interval NaN.
        denominators: Likewise, such as token counts.
        clusters: To which group each observation belongs: groups are then drawn, unless there is only one.
        seed: Of the draws.
    """
    groups = np.arange(len(numerators)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    if len(np.unique(groups)) == 1:
        groups = np.arange(len(numerators))
    count = len(np.unique(groups))
    if count < 2:
        return UNKNOWN
    tops, bottoms = np.bincount(groups, weights=numerators), np.bincount(groups, weights=denominators)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.concatenate([(draws @ tops) / (draws @ bottoms) for draws in _draws(count, seed)])
    return Range(*(float(end) for end in np.percentile(ratios, _ENDS)))


def _draws(count: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each of so many observations is drawn, in blocks of draws that fit into memory."""
    generator = np.random.default_rng(seed)
    chances = np.full(count, 1 / count)
    block = max(1, min(DRAWS, _COUNTS_AT_ONCE // count))
    for start in range(0, DRAWS, block):
        yield generator.multinomial(count, chances, size=min(block, DRAWS - start))
