"""Many arms against one baseline."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjusted p-values: rejecting where they are below α keeps the chance of any false rejection below α.

    Holds however the tests depend on each other.

    Args:
        p_values: Of one family of tests, shape (n,); NaN (not tested) counts for nothing.

    Returns:
        Same shape, float64; NaN where p is NaN.

    Source: Holm 1979 (Scand. J. Statist. 6).
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN sorts last
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted
