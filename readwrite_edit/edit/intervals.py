"""Bootstrap intervals of means; what is drawn again are the independent observations."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from readwrite_edit.interventions.inference import DRAWS

Array = NDArray[np.float64]


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
    values = values[kept]
    groups = np.arange(len(values)) if clusters is None else np.unique(clusters[kept], return_inverse=True)[1]
    if len(np.unique(groups)) == 1:
        groups = np.arange(len(values))
    count = len(np.unique(groups))
    if count < 2:
        return UNKNOWN
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups).astype(float)
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=DRAWS)
    means = (draws @ sums) / (draws @ sizes)
    return Range(*(float(end) for end in np.percentile(means, (2.5, 97.5))))
