"""The 95 % band of the isotropic null, without a numerical library: quantiles of a Beta distribution.

For a Gaussian ΔW with n vectors on the other side, the fraction in k of d
directions is Beta(nk/2, n(d−k)/2).
"""

from __future__ import annotations

import math
from functools import lru_cache

_TINY = 1e-300
_MOST_TERMS = 3000


@lru_cache(4096)
def isotropic_band(k: int, d: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Ends of the central interval that holds the fraction with some probability.

    Args:
        k: Dimension of the subspace, 1 to d.
        d: Dimension of the space.
        n: Rows (read side) or columns (write side) of ΔW.
        level: That probability.

    Returns:
        Lower and upper end; 1 and 1 for the whole space.
    """
    if k >= d:
        return 1.0, 1.0
    a, b = n * k / 2, n * (d - k) / 2
    return _quantile(a, b, (1 - level) / 2), _quantile(a, b, (1 + level) / 2)


def _quantile(a: float, b: float, tail: float) -> float:
    """Where the distribution function is ``tail``: bisection inside eight deviations, to a millionth of one."""
    mean = a / (a + b)
    deviation = math.sqrt(mean * (1 - mean) / (a + b + 1))
    low, high = max(0.0, mean - 8 * deviation), min(1.0, mean + 8 * deviation)
    while high - low > 1e-6 * deviation:
        middle = (low + high) / 2
        if beta_cdf(middle, a, b) < tail:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22).

    Args:
        x: In [0, 1].
        a: Above 0.
        b: Above 0.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1.0 - beta_cdf(1 - x, b, a)
    front = a * math.log(x) + b * math.log1p(-x) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    return math.exp(front) / (a * _continued(x, a, b))


def _continued(x: float, a: float, b: float) -> float:
    """1 + d₁/(1 + d₂/(1 + …)) by Lentz's method."""
    value, c, d = 1.0, 1.0, 0.0
    for term in range(1, _MOST_TERMS):
        m = term // 2
        if term % 2:
            factor = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            factor = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / _away_from_zero(1 + factor * d)
        c = _away_from_zero(1 + factor / c)
        value *= c * d
        if abs(c * d - 1) < 1e-12:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
