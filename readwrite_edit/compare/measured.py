"""Evaluations as arrays: gains by row and costs by sequence, for one run and for resamples of rows and sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from readwrite_edit.evaluate.metrics import margins
from readwrite_edit.evaluate.records import Evaluation, RowScores

Array = NDArray[np.float64]
Ids = tuple[str, ...]
Gain = Literal["margin", "loss"]
Part = Literal["all", "selection", "report"]

_FEWEST_TO_SPLIT = 3


@dataclass(frozen=True, eq=False)
class Measured:
    """A run in arrays; T evaluations, R rows, S sequences of a text.

    Attributes:
        steps: Of the evaluations, shape (T,).
        gains: Of each row, shape (T, R): how much better than the untrained model.
        kl: Text to the summed KL of each sequence, shape (T, S).
        positions: Text to the predicted positions of each sequence, shape (S,).
    """

    steps: NDArray[np.int64]
    gains: Array
    kl: Mapping[str, Array]
    positions: Mapping[str, Array]

    def mean_gains(self, weights: Array | None = None) -> Array:
        """Mean gain at each evaluation, (T,), or (draws, T) under weights of the rows (draws, R)."""
        if weights is None:
            mean: Array = self.gains.mean(axis=1)
            return mean
        drawn: Array = weights @ self.gains.T / weights.sum(axis=1, keepdims=True)
        return drawn

    def mean_costs(self, text: str, weights: Array | None = None) -> Array:
        """KL in nats a position at each evaluation, (T,), or (draws, T) under weights of the sequences (draws, S)."""
        kl, positions = self.kl[text], self.positions[text]
        if weights is None:
            mean: Array = kl.sum(axis=1) / positions.sum()
            return mean
        drawn: Array = weights @ kl.T / (weights @ positions)[:, None]
        return drawn


def measure(evaluations: Sequence[Evaluation], gain: Gain, part: Part) -> Measured:
    """A run's evaluations on a part of the rows and of each text's sequences.

    Args:
        evaluations: Of one run, with the same rows and texts in all of them.
        gain: ``margin``: β times the growth of the log-ratio of chosen to rejected, as TRL's rewards; ``loss``: the
            fall of the sigmoid DPO loss from that of the untrained model, log 2.
        part: ``selection`` to choose by, ``report`` to report on, or ``all``.
    """
    rows = part_of(_rows(evaluations[0]).ids, part)
    gains = np.stack([row_gains(one, gain)[rows] for one in evaluations])
    kl, positions = {}, {}
    for name, text in evaluations[0].texts.items():
        kept = part_of(text.ids, part)
        kl[name] = np.stack([np.maximum(np.array(one.texts[name].kl)[kept], 0.0) for one in evaluations])
        positions[name] = np.array(text.positions, dtype=float)[kept]
    return Measured(np.array([one.step for one in evaluations]), gains, kl, positions)


def row_gains(evaluation: Evaluation, gain: Gain) -> Array:
    """Gain of each row over the untrained model, shape (R,)."""
    found = margins(_rows(evaluation), beta=evaluation.beta)
    return found if gain == "margin" else np.log(2) - np.logaddexp(0, -found)


def unlike(one: Evaluation, other: Evaluation) -> str:
    """What two evaluations were not made alike with, in words; empty where they were."""
    if (one.rows and one.rows.ids) != (other.rows and other.rows.ids):
        return "held-out rows"
    if alone := sorted(set(one.texts) ^ set(other.texts)):
        return f"texts ({', '.join(alone)} in one of them alone)"
    for name in one.texts:
        if one.texts[name].ids != other.texts[name].ids:
            return f"sequences of the text {name}"
    return "" if one.beta == other.beta else f"β ({one.beta:g} and {other.beta:g})"


def part_of(ids: Sequence[str], part: Part) -> NDArray[np.int64]:
    """Positions of a part's members.

    Ids are hashes of content: sorted by them, every third member is to choose
    by, and the others are to report on. Of fewer than three all serve both.

    Args:
        ids: Of rows or sequences.
        part: Which.
    """
    order = np.array(sorted(range(len(ids)), key=lambda position: ids[position]))
    if part == "all" or len(ids) < _FEWEST_TO_SPLIT:
        return np.arange(len(ids))
    chosen = np.arange(len(ids)) % 3 == 0
    return np.sort(order[chosen if part == "selection" else ~chosen])


def _rows(evaluation: Evaluation) -> RowScores:
    if evaluation.rows is None:
        raise ValueError("an evaluation without rows; arms.collect leaves runs without any out")
    return evaluation.rows
