"""Tests and intervals of the causal probe; prompts, not tokens, are the independent observations."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLIPS = 9999
DRAWS = 2000


def rank_p_value(tested: float, controls: Array) -> float:
    """Rank of an effect among its controls: p = (1 + #{T_control ≥ T}) / (N + 1).

    What is permuted is which of the N + 1 directions is called the tested one:
    exact where the tested direction is drawn like the controls. A control that
    is not a number counts as larger.

    Args:
        tested: T, a mean over prompts.
        controls: T of each control, shape (N,).

    Returns:
        Between 1/(N + 1) and 1; NaN where T is.
    """
    if np.isnan(tested):
        return float("nan")
    return float((1 + (~(controls < tested)).sum()) / (len(controls) + 1))


def sign_flip_p_value(differences: Array, *, seed: int) -> float:
    """One-sided test that differences, one a prompt, lie around 0.

    What is permuted is, within each prompt, which of the two is the tested
    edit's effect and which the controls' median: the sign of each difference.

    Args:
        differences: Tested minus median control of each prompt, shape (prompts,).
        seed: Of the 9,999 random sign patterns.

    Returns:
        (1 + #{mean of flipped ≥ mean}) / 10,000.
    """
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(FLIPS, len(differences)))
    flipped = signs @ differences
    # patterns that give the observed sum back must count, whatever the order of summation
    slack = 1e-12 * np.abs(differences).sum()
    return float((1 + (flipped >= differences.sum() - slack).sum()) / (FLIPS + 1))


class Interval(NamedTuple):
    """95 % bootstrap intervals."""

    low: float
    high: float
    ratio_low: float
    ratio_high: float


def bootstrap(tested: Array, controls: Array, *, seed: int) -> Interval:
    """Percentile intervals of an effect and of its ratio to the median control, prompts drawn with replacement.

    The controls are fixed and take part in each draw of prompts.

    Args:
        tested: Effect on each prompt, shape (prompts,).
        controls: The controls' effects, shape (N, prompts).
        seed: Of 2,000 draws.
    """
    prompts = len(tested)
    weights = np.random.default_rng(seed).multinomial(prompts, np.full(prompts, 1 / prompts), size=DRAWS) / prompts
    effect = weights @ tested
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = effect / np.median(weights @ controls.T, axis=1)
    ends = (2.5, 97.5)
    return Interval(*np.percentile(effect, ends), *np.percentile(ratio, ends))
