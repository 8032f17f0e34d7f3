"""Arms at equal cost and at equal gain, with intervals over seeds, rows and sequences.

A draw of the bootstrap takes seeds, held-out rows and sequences of the texts with
replacement, the same for every arm: differences between arms are paired. Seeds
are drawn from those that all arms have; an arm's figure is the mean over them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from readwrite_edit.compare.arms import Run
from readwrite_edit.compare.holm import holm
from readwrite_edit.compare.measured import Gain, Measured, measure
from readwrite_edit.compare.plane import cost_at_gain, gain_at_cost

Array = NDArray[np.float64]

DRAWS = 2000
_ENDS = (2.5, 97.5)
_ROUNDING = 1e-9

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
        assumed: Share of its seeds whose every evaluation costs more: the place is on the straight line from the
            untrained model, and nothing was measured there.
        difference: From the baseline's, paired; None of the baseline itself, and where one of the two did not
            spend the cost: nothing is matched then.
        p: Two-sided, of no difference; None likewise.
        p_holm: Adjusted for the arms that are tested at this cost on this text; None likewise.
    """

    arm: str
    budget: float
    gain: Estimate
    reached: float
    difference: Estimate | None
    p: float | None
    p_holm: float | None = None
    assumed: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AtLevel:
    """An arm at a gain.

    Attributes:
        arm: Which.
        level: The gain.
        cost: The least on its paths that gives it; infinite where a seed never has it.
        reached: Share of its seeds that have it at some cost.
        assumed: Share of its seeds whose every evaluation costs more, as at a budget.
        ratio: To the baseline's, paired; None of the baseline itself, and where a seed of one of the two never has it:
            nothing is matched then.
        p: Two-sided, of a ratio of 1; None likewise.
        p_holm: Adjusted for the arms that are tested at this gain on this text; None likewise.
    """

    arm: str
    level: float
    cost: Estimate
    reached: float
    ratio: Estimate | None
    p: float | None
    p_holm: float | None = None
    assumed: float = 0.0


One = TypeVar("One", AtBudget, AtLevel)


class _Drawn(NamedTuple):
    """A figure of an arm as measured, and in each draw."""

    value: float
    drawn: Array


class Resamples:
    """The runs of all arms under one set of draws.

    Args:
        runs: The runs that are reported, with the same rows and texts; one of each arm and seed.
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
            by_arm.setdefault(run.arm, {})[run.seed] = measure(run.evaluations, gain, "report")
        self.arms: Mapping[str, list[Measured]] = {
            arm: [found[one] for one in self.seeds] for arm, found in by_arm.items()
        }
        generator = np.random.default_rng(seed)
        first = next(iter(self.arms.values()))[0]
        self.rows = first.gains.shape[1]
        self.sequences = {name: len(positions) for name, positions in first.positions.items()}
        self._rows = _weights(generator, self.rows, draws)
        self._sequences = {name: _weights(generator, count, draws) for name, count in self.sequences.items()}
        self._drawn_seeds = _weights(generator, len(self.seeds), draws)

    def at_budget(self, text: str, budget: float) -> list[AtBudget]:
        """Every arm at a cost on a text."""

        def gains(one: Measured, rows: Array | None, sequences: Array | None) -> Array:
            return gain_at_cost(one.mean_costs(text, sequences), one.mean_gains(rows), budget).gain

        def reached(one: Measured) -> bool:
            return bool(gain_at_cost(one.mean_costs(text), one.mean_gains(), budget).reached)

        there = self._share_of(reached)
        before = self._share_of(lambda one: _unmeasured(one, text, budget))
        found = []
        for arm, value, drawn, base in self._against(gains, text):
            difference = drawn - base.drawn if self._tested(arm, there) else None
            found.append(
                AtBudget(
                    arm=arm,
                    budget=budget,
                    gain=_estimate(value, drawn),
                    reached=there[arm],
                    difference=None if difference is None else _estimate(value - base.value, difference),
                    p=None if difference is None else two_sided(difference),
                    assumed=before[arm],
                )
            )
        return _adjusted(found)

    def at_level(self, text: str, level: float) -> list[AtLevel]:
        """Every arm at a gain, by its cost on a text."""

        def costs(one: Measured, rows: Array | None, sequences: Array | None) -> Array:
            return cost_at_gain(one.mean_costs(text, sequences), one.mean_gains(rows), level)

        def reached(one: Measured) -> bool:
            return bool(np.isfinite(costs(one, None, None)))

        there = self._share_of(reached)
        before = self._share_of(lambda one: _unmeasured(one, text, float(costs(one, None, None))))
        found = []
        for arm, value, drawn, base in self._against(costs, text):
            ratios = _ratio(drawn, base.drawn) if self._tested(arm, there) and base.value > 0 else None
            found.append(
                AtLevel(
                    arm=arm,
                    level=level,
                    cost=_estimate(value, drawn),
                    reached=there[arm],
                    ratio=None if ratios is None else _estimate(value / base.value, ratios),
                    p=None if ratios is None else two_sided(ratios - 1),
                    assumed=before[arm],
                )
            )
        return _adjusted(found)

    def _share_of(self, holds: Callable[[Measured], bool]) -> dict[str, float]:
        """Arm to the share of its seeds that something holds of."""
        return {arm: sum(map(holds, runs)) / len(runs) for arm, runs in self.arms.items()}

    def _tested(self, arm: str, reached: Mapping[str, float]) -> bool:
        """Whether an arm is matched with the baseline: all seeds of both have been there."""
        return arm != self.baseline and reached[arm] == reached[self.baseline] == 1

    def _against(self, figure: Figure, text: str) -> Iterator[tuple[str, float, Array, _Drawn]]:
        """Of each arm its name, a figure as measured and in each draw, and the baseline's."""
        figures = {arm: self._drawn(figure, text, runs) for arm, runs in self.arms.items()}
        for arm, own in figures.items():
            yield arm, own.value, own.drawn, figures[self.baseline]

    def _drawn(self, figure: Figure, text: str, runs: Sequence[Measured]) -> _Drawn:
        """A figure of an arm, mean over its seeds."""
        value = float(np.mean([figure(one, None, None) for one in runs]))
        columns = np.stack([figure(one, self._rows, self._sequences[text]) for one in runs], axis=1)
        return _Drawn(value, _weighted_mean(columns, self._drawn_seeds))


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


def _unmeasured(one: Measured, text: str, cost: float) -> bool:
    """Whether every evaluation of a run costs more; what rounding makes of the root of a cost is as much."""
    return cost < float(one.mean_costs(text).min()) * (1 - _ROUNDING)


def _adjusted(found: list[One]) -> list[One]:
    """The same with p-values adjusted for one another."""
    adjusted = holm([np.nan if one.p is None else one.p for one in found])
    return [replace(one, p_holm=None if one.p is None else float(p)) for one, p in zip(found, adjusted, strict=True)]


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
    """A ratio of two infinite costs, NaN, could be anything from 0 to ∞: it counts as the one and as the other end."""
    low = np.percentile(np.nan_to_num(drawn, nan=0.0, posinf=np.inf), _ENDS[0], method="nearest")
    high = np.percentile(np.nan_to_num(drawn, nan=np.inf, posinf=np.inf), _ENDS[1], method="nearest")
    return Estimate(float(value), float(low), float(high))
