"""Paths in the plane of cost and gain: pure functions of arrays.

A path is what one run's evaluations say, from the untrained model at (0, 0) on.
Between two evaluations it is taken as straight in the gain and in the *root* of
the cost: for a small update scaled by t the margin grows as t and the KL as t²,
so that equal steps of t are equal steps on both axes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class AtCost(NamedTuple):
    """Gain at a cost.

    Attributes:
        gain: The best on the path at no more than that cost.
        reached: Whether the path goes on to that cost; where not, ``gain`` is a lower bound of what it would give.
    """

    gain: Array
    reached: NDArray[np.bool_]


def gain_at_cost(costs: Array, gains: Array, budget: Array | float) -> AtCost:
    """The best gain that paths have at no more than a cost.

    Args:
        costs: Of the evaluations, none negative, shape (…, T).
        gains: Likewise.
        budget: Cost, a number or of shape (…).

    Returns:
        Both of shape (…).
    """
    x, y = _with_origin(np.sqrt(costs)), _with_origin(gains)
    limit = np.sqrt(np.asarray(budget, dtype=float))[..., None]
    within = np.where(x <= limit, y, -np.inf).max(axis=-1)
    crossing = _interpolated(x, y, limit).max(axis=-1)
    return AtCost(np.maximum(within, crossing), (x >= limit).any(axis=-1))


def cost_at_gain(costs: Array, gains: Array, level: Array | float) -> Array:
    """The least cost at which paths have a gain; infinite for those that never have it.

    Args:
        costs: Of the evaluations, none negative, shape (…, T).
        gains: Likewise.
        level: Gain, a number or of shape (…).

    Returns:
        Shape (…).
    """
    x, y = _with_origin(np.sqrt(costs)), _with_origin(gains)
    wanted = np.asarray(level, dtype=float)[..., None]
    there = np.where(y >= wanted, x, np.inf).min(axis=-1)
    crossing = -_interpolated(y, -x, wanted).max(axis=-1)
    least: Array = np.square(np.minimum(there, crossing))
    return least


def pareto_front(costs: Array, gains: Array) -> NDArray[np.bool_]:
    """Which points no other point dominates: none is at once cheaper (or as cheap) and better (or as good).

    Args:
        costs: Shape (n,).
        gains: Shape (n,).
    """
    no_worse = (costs[None] <= costs[:, None]) & (gains[None] >= gains[:, None])
    better = (costs[None] < costs[:, None]) | (gains[None] > gains[:, None])
    front: NDArray[np.bool_] = np.logical_not((no_worse & better).any(axis=1))
    return front


def _with_origin(values: Array) -> Array:
    return np.concatenate([np.zeros((*values.shape[:-1], 1)), values], axis=-1)


def _interpolated(x: Array, y: Array, at: Array) -> Array:
    """The y where each segment of a path crosses x = at, shape (…, T); −∞ for segments that do not."""
    left, right, low, high = x[..., :-1], x[..., 1:], y[..., :-1], y[..., 1:]
    crosses = (np.minimum(left, right) <= at) & (at <= np.maximum(left, right)) & (left != right)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = low + (high - low) * (at - left) / (right - left)
    value = np.clip(value, np.minimum(low, high), np.maximum(low, high))  # rounding must not go past an end
    return np.where(crosses, value, -np.inf)
