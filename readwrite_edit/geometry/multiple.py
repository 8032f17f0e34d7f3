"""Many tests at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """q-values: rejecting where q < α keeps the expected share of false rejections below α.

    Holds for independent and for positively dependent tests.

    Args:
        p_values: Of one family of tests, any shape; NaN (not tested) counts for nothing.

    Returns:
        Same shape, float64; NaN where p is NaN.

    Source: Benjamini and Hochberg 1995 (J. R. Stat. Soc. B 57).
    """
    p = np.asarray(p_values, dtype=np.float64)
    tested = ~np.isnan(p)
    q = np.full(p.shape, np.nan)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested], method="bh")
    return q
