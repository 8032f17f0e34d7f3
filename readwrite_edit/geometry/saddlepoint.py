"""Tail of a weighted sum of chi-squared variables, without simulation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

_AT_THE_MEAN = 1e-4
_INSIDE = 1 - 1e-13


def signed_root(weights: NDArray[np.float64], n: float) -> float:
    """Standard normal value r* with P(Σ c_i X_i > 0) ≈ P(Z > r*), X_i independent χ² of n degrees of freedom.

    With K(s) = −(n/2) Σ log(1 − 2 s c_i) and K′(ŝ) = 0: w = sign(ŝ) √(−2 K(ŝ)), v = ŝ √(K″(ŝ)) and
    r* = w + log(v/w)/w. At the mean both vanish and r* is a sixth of the skewness. On this scale neither tail
    under- or overflows and the function is smooth, which is what a search for a quantile wants.

    Args:
        weights: c_i, shape (d,); the scale does not matter.
        n: Degrees of freedom of each X_i, > 0.

    Returns:
        r*; +inf where no weight is positive, −inf where none is negative.

    Source: Lugannani and Rice 1980 (Adv. Appl. Prob. 12), Barndorff-Nielsen 1991 (Biometrika 78),
        Kuonen 1999 (Biometrika 86).
    """
    if not weights.max() > 0:
        return np.inf
    if not weights.min() < 0:
        return -np.inf
    c = weights / np.abs(weights).max()
    s = _saddlepoint(c)
    w = np.sign(s) * np.sqrt(max(n * np.log1p(-2 * s * c).sum(), 0.0))
    if abs(w) < _AT_THE_MEAN:
        return float(w + _skewness(c, n) / 6)
    v = s * np.sqrt(2 * n * np.square(c / (1 - 2 * s * c)).sum())
    return float(w + np.log(v / w) / w)


def _saddlepoint(c: NDArray[np.float64]) -> float:
    """Root of K′, which rises from −∞ to +∞ between its poles 1/(2 min c) and 1/(2 max c)."""
    low, high = _INSIDE / (2 * c.min()), _INSIDE / (2 * c.max())

    def slope(s: float) -> float:
        return float((c / (1 - 2 * s * c)).sum())

    # a weight lost in the rounding of the others leaves the root nearer to its pole than float64 can tell
    if slope(high) <= 0:
        return high
    if slope(low) >= 0:
        return low
    return float(brentq(slope, low, high, xtol=1e-15, rtol=1e-14))


def _skewness(c: NDArray[np.float64], n: float) -> float:
    return float(8 * n * (c**3).sum() / (2 * n * np.square(c).sum()) ** 1.5)
