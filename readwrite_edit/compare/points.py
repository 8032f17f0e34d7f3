"""Evaluations as points of the plane, an arm's path through them, and where paths end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from readwrite_edit.compare.measured import Gain, measure
from readwrite_edit.compare.plane import pareto_front
from readwrite_edit.evaluate.records import Evaluation

_UNTRAINED_LOSS = float(np.log(2))


@dataclass(frozen=True, kw_only=True)
class Point:
    """One evaluation of one run on the reported rows.

    Attributes:
        arm: Of the run.
        seed: Of the run.
        step: Of the evaluation.
        margin: Mean, in units of TRL's rewards.
        loss: Mean held-out DPO loss.
        accuracy: Share of rows with a margin above 0.
        kl: Text to KL in nats a position.
        price: Predicted by the closed form on the protected text; None where there was none.
    """

    arm: str
    seed: int
    step: int
    margin: float
    loss: float
    accuracy: float
    kl: Mapping[str, float]
    price: float | None


class Place(NamedTuple):
    """Where an arm is at a step, mean over its seeds."""

    step: int
    cost: float
    gain: float


def points_of(evaluations: Sequence[Evaluation], *, arm: str, seed: int) -> list[Point]:
    """The points of one run."""
    margins, losses = (measure(evaluations, gain, "report") for gain in ("margin", "loss"))
    costs = {text: margins.mean_costs(text) for text in margins.kl}
    return [
        Point(
            arm=arm,
            seed=seed,
            step=one.step,
            margin=float(margins.mean_gains()[at]),
            loss=_UNTRAINED_LOSS - float(losses.mean_gains()[at]),
            accuracy=float((margins.gains[at] > 0).mean()),
            kl={text: float(cost[at]) for text, cost in costs.items()},
            price=one.price.get("protected"),
        )
        for at, one in enumerate(evaluations)
    ]


def gain_of(point: Point, gain: Gain) -> float:
    """A point's gain over the untrained model."""
    return point.margin if gain == "margin" else _UNTRAINED_LOSS - point.loss


def run_paths(points: Sequence[Point], arm: str, text: str, gain: Gain) -> dict[int, list[Place]]:
    """The path of each of an arm's runs, by seed."""
    paths: dict[int, list[Place]] = {}
    for point in points:
        if point.arm == arm:
            paths.setdefault(point.seed, []).append(Place(point.step, point.kl[text], gain_of(point, gain)))
    return paths


def mean_path(points: Sequence[Point], arm: str, text: str, gain: Gain) -> list[Place]:
    """An arm's path, mean over its seeds, at the steps that all its seeds have; none where there is no such step."""
    paths = run_paths(points, arm, text, gain).values()
    by_step: dict[int, list[Place]] = {}
    for place in (one for path in paths for one in path):
        by_step.setdefault(place.step, []).append(place)
    return [
        Place(step, sum(one.cost for one in here) / len(here), sum(one.gain for one in here) / len(here))
        for step, here in sorted(by_step.items())
        if len(here) == len(paths)
    ]


def farthest(points: Sequence[Point], arm: str, text: str, gain: Gain) -> tuple[float, float]:
    """The largest cost and the best gain of an arm's runs, mean over its seeds; neither is below 0."""
    paths = list(run_paths(points, arm, text, gain).values())
    costs = [max(0.0, *(one.cost for one in path)) for path in paths]
    gains = [max(0.0, *(one.gain for one in path)) for path in paths]
    return sum(costs) / len(paths), sum(gains) / len(paths)


def spent_by_all(points: Sequence[Point], text: str) -> float:
    """The cost on a text that every run has been at or beyond."""
    most: dict[tuple[str, int], float] = {}
    for point in points:
        run = point.arm, point.seed
        most[run] = max(most.get(run, 0.0), point.kl[text])
    return min(most.values())


def front_of(points: Sequence[Point], text: str, gain: Gain) -> tuple[tuple[str, int], ...]:
    """The (arm, step) that no other place on an arm's mean path dominates."""
    arms = dict.fromkeys(point.arm for point in points)
    places = [(arm, place) for arm in arms for place in mean_path(points, arm, text, gain)]
    front = pareto_front(np.array([place.cost for _, place in places]), np.array([place.gain for _, place in places]))
    return tuple((arm, place.step) for (arm, place), on_it in zip(places, front, strict=True) if on_it)
