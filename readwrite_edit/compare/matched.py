"""Arms at equal cost and at equal gain, with intervals over seeds, rows and sequences.

A draw of the bootstrap takes seeds, held-out rows and sequences of the texts with
replacement, the same for every arm: differences between arms are paired. Seeds
are drawn from those that all arms have; an arm's figure is the mean over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from readwrite_edit.compare.arms import Run
from readwrite_edit.compare.measured import Gain, Measured, measure
from readwrite_edit.compare.plane import cost_at_gain, gain_at_cost

Array = NDArray[np.float64]

DRAWS = 2000

Figure = Callable[[Measured, Array | None, Array | None], Array]
"""Of a run under weights of its rows and of a text's sequences."""


class Estimate(NamedTuple):
    """A figure with its 95 % percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class AtBudget:
    """An arm at a cost.

    Attributes:
        arm: Which.
        budget: The cost, in nats a position.
        gain: The best on its paths at no more than that.
        reached: Share of its seeds whose path goes on to that cost; below 1 the gain is a lower bound.
        difference: From the baseline's, paired; None of the baseline itself, and where one of the two did not
            spend the cost: nothing is matched then.
        p: Two-sided, of no difference; None likewise.
    """

    arm: str
    budget: float
    gain: Estimate
    reached: float
    difference: Estimate | None
    p: float | None


@dataclass(frozen=True, kw_only=True)
class AtLevel:
    """An arm at a gain.

    Attributes:
        arm: Which.
        level: The gain.
        cost: The least on its paths that gives it; infinite where a seed never has it.
        ratio: To the baseline's, paired; NaN where neither has it.
        p: Two-sided, of a ratio of 1; None of the baseline itself.
    """

    arm: str
    level: float
    cost: Estimate
    ratio: Estimate | None
    p: float | None


class Resamples:
    """The runs of all arms under one set of draws.

    Args:
        runs: The runs that are reported, of every arm those with the same rows and texts.
        baseline: Arm to compare with.
        gain: What counts as gain.
        draws: Of the bootstrap.
        seed: Of the draws.
    """

    def __init__(
        self, runs: Sequence[Run], *, baseline: str, gain: Gain = "margin", draws: int = DRAWS, seed: int = 0
    ) -> None:
        self.baseline, self.draws = baseline, draws
        self.seeds = common_seeds(runs)
        by_arm: dict[str, dict[int, Measured]] = {}
        for run in runs:
            by_arm.setdefault(run.arm, {})[run.seed] = measure(run, gain, "report")
        self.arms: Mapping[str, list[Measured]] = {
            arm: [found[one] for one in self.seeds] for arm, found in by_arm.items()
        }
        generator = np.random.default_rng(seed)
        first = next(iter(self.arms.values()))[0]
        self._rows = _weights(generator, first.gains.shape[1], draws)
        self._sequences = {name: _weights(generator, len(kl), draws) for name, kl in first.positions.items()}
        self._drawn_seeds = _weights(generator, len(self.seeds), draws)

    def at_budget(self, text: str, budget: float) -> list[AtBudget]:
        """Every arm at a cost on a text."""

        def gains(one: Measured, rows: Array | None, sequences: Array | None) -> Array:
            return gain_at_cost(one.mean_costs(text, sequences), one.mean_gains(rows), budget).gain

        values, drawn = self._both(gains, text)
        reached = {arm: _reached(runs, text, budget) for arm, runs in self.arms.items()}
        found = []
        for arm in self.arms:
            matched = arm != self.baseline and reached[arm] == reached[self.baseline] == 1
            against = drawn[arm] - drawn[self.baseline] if matched else None
            found.append(
                AtBudget(
                    arm=arm,
                    budget=budget,
                    gain=_estimate(values[arm], drawn[arm]),
                    reached=reached[arm],
                    difference=None if against is None else _estimate(values[arm] - values[self.baseline], against),
                    p=None if against is None else two_sided(against),
                )
            )
        return found

    def at_level(self, text: str, level: float) -> list[AtLevel]:
        """Every arm at a gain, by its cost on a text."""

        def roots(one: Measured, rows: Array | None, sequences: Array | None) -> Array:
            return cost_at_gain(one.mean_costs(text, sequences), one.mean_gains(rows), level)

        values, drawn = self._both(roots, text)
        found = []
        for arm in self.arms:
            other = arm != self.baseline
            ratios = _ratio(drawn[arm], drawn[self.baseline]) if other else None
            ratio = float(_ratio(np.array([values[arm]]), np.array([values[self.baseline]]))[0])
            found.append(
                AtLevel(
                    arm=arm,
                    level=level,
                    cost=_estimate(values[arm], drawn[arm]),
                    ratio=None if ratios is None else _estimate(ratio, ratios),
                    p=None if ratios is None else two_sided(np.log(ratios)),
                )
            )
        return found

    def _both(self, figure: Figure, text: str) -> tuple[dict[str, float], dict[str, Array]]:
        """A figure of each arm, mean over its seeds, as measured and in each draw."""
        values, drawn = {}, {}
        for arm, runs in self.arms.items():
            values[arm] = float(np.mean([figure(one, None, None) for one in runs]))
            columns = np.stack([figure(one, self._rows, self._sequences[text]) for one in runs], axis=1)
            drawn[arm] = _weighted_mean(columns, self._drawn_seeds)
        return values, drawn


def common_seeds(runs: Sequence[Run]) -> tuple[int, ...]:
    """The seeds that every arm has a run of, in order."""
    by_arm: dict[str, set[int]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, set()).add(run.seed)
    return tuple(sorted(set.intersection(*by_arm.values()))) if by_arm else ()


def two_sided(differences: Array) -> float:
    """Bootstrap p-value of no difference: twice the smaller share of draws on either side of 0, at least 2/(draws + 1).

    Args:
        differences: One a draw; NaN counts for both sides.
    """
    below = float((~(differences > 0)).sum())
    above = float((~(differences < 0)).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (len(differences) + 1))


def _reached(runs: Sequence[Measured], text: str, budget: float) -> float:
    """Share of runs whose path goes on to a cost."""
    there = [bool(gain_at_cost(one.mean_costs(text), one.mean_gains(), budget).reached) for one in runs]
    return sum(there) / len(there)


def _weights(generator: np.random.Generator, count: int, draws: int) -> Array:
    """How often each of ``count`` members is drawn, shape (draws, count)."""
    return generator.multinomial(count, np.full(count, 1 / count), size=draws).astype(float)


def _weighted_mean(columns: Array, weights: Array) -> Array:
    """Mean over seeds, (draws,); a seed that was not drawn counts for nothing, whatever its figure."""
    with np.errstate(invalid="ignore"):
        total: Array = np.where(weights > 0, columns * weights, 0.0).sum(axis=1)
    return total / weights.sum(axis=1)


def _ratio(one: Array, other: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return one / other


def _estimate(value: float, drawn: Array) -> Estimate:
    """NaN among the draws leaves the interval unknown."""
    low, high = np.percentile(drawn, (2.5, 97.5), method="nearest")
    return Estimate(float(value), float(low), float(high))
