"""The whole of a comparison as plain data: what the table, the page and other programs are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from readwrite_edit.compare.arms import LeftOut, Run, collect
from readwrite_edit.compare.fairness import Check, fairness, require_comparable
from readwrite_edit.compare.matched import DRAWS, AtBudget, AtLevel, Resamples, common_seeds
from readwrite_edit.compare.measured import Gain, measure
from readwrite_edit.compare.plane import pareto_front
from readwrite_edit.compare.selection import chosen_runs
from readwrite_edit.errors import DataError, RecipeError

BASELINES = ("lora", "plain-lora")
SHARES = (0.5, 0.25, 0.1)


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


@dataclass(frozen=True, kw_only=True)
class ArmFacts:
    """What an arm is, besides its path.

    Attributes:
        arm: Its name.
        chosen: Its value on the axis that was chosen on; empty without.
        runs: Names of its runs.
        parameters: Trained ones; None where unknown.
        adapter_bytes: Of one adapter.
        duration_s: Mean over its runs; None where unknown.
    """

    arm: str
    chosen: str
    runs: tuple[str, ...]
    parameters: int | None
    adapter_bytes: int | None
    duration_s: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms against each other.

    Attributes:
        baseline: Arm that the others are compared with.
        gain: ``margin`` or ``loss``.
        arms: In the order of the sweep.
        points: Every evaluation of every reported run.
        front: Text to the (arm, step) that no other mean over seeds dominates.
        budgets: Text to the arms at each cost.
        levels: Text to the arms at each gain.
        checks: Whether it is fair.
        left_out: Runs that could not be compared.
    """

    baseline: str
    gain: Gain
    arms: tuple[ArmFacts, ...]
    points: tuple[Point, ...]
    front: Mapping[str, tuple[tuple[str, int], ...]]
    budgets: Mapping[str, tuple[tuple[AtBudget, ...], ...]]
    levels: Mapping[str, tuple[tuple[AtLevel, ...], ...]]
    checks: tuple[Check, ...]
    left_out: tuple[LeftOut, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"schema": 1, **asdict(self)}


def compare_runs(
    paths: Sequence[Path],
    *,
    baseline: str | None = None,
    gain: Gain = "margin",
    budgets: Sequence[float] = (),
    levels: Sequence[float] = (),
    draws: int = DRAWS,
) -> Comparison:
    """Compare the runs of sweeps, or single runs.

    Args:
        paths: Run folders and folders of sweeps.
        baseline: Arm to compare with; by default plain LoRA where there is an arm named so, else the first.
        gain: What counts as gain.
        budgets: Costs to compare gains at, in nats a position; by default a half, a quarter and a tenth of what the
            baseline costs in the end, so that each of its seeds has been there.
        levels: Gains to compare costs at; by default likewise of the baseline's in the end.
        draws: Of the bootstrap.

    Raises:
        FolderError: Nothing can be compared.
        DataError: The runs were evaluated on different rows or texts.
        RecipeError: No arm is called as the baseline.
    """
    runs, left_out = collect(paths)
    require_comparable(runs)
    reported, chosen = chosen_runs(runs)
    tried = {arm: len({run.chosen for run in runs if run.arm == arm}) for arm in chosen}
    checks = fairness(reported, chosen, tried)
    named = _baseline(reported, baseline)
    if not common_seeds(reported):
        raise DataError("no seed that every arm has a finished run of: finish the sweep, or compare fewer arms")
    resamples = Resamples(reported, baseline=named, gain=gain, draws=draws)
    compared = [run for run in reported if run.seed in resamples.seeds]
    points = tuple(point for run in compared for point in _points(run))
    texts = list(compared[0].evaluations[0].texts)
    ends = _ends(points, named, gain)
    return Comparison(
        baseline=named,
        gain=gain,
        arms=tuple(_facts(compared, chosen)),
        points=points,
        front={text: _front(points, text, gain) for text in texts},
        budgets={
            text: tuple(
                tuple(resamples.at_budget(text, budget))
                for budget in budgets or [share * ends[text] for share in SHARES]
            )
            for text in texts
        },
        levels={
            text: tuple(
                tuple(resamples.at_level(text, level)) for level in levels or [share * ends[""] for share in SHARES]
            )
            for text in texts
        },
        checks=tuple(checks),
        left_out=tuple(left_out),
    )


def _baseline(runs: Sequence[Run], named: str | None) -> str:
    arms = list(dict.fromkeys(run.arm for run in runs))
    if named is None:
        return next((arm for arm in BASELINES if arm in arms), arms[0])
    if named not in arms:
        raise RecipeError(f"--baseline {named}: expected one of {', '.join(arms)}")
    return named


def _points(run: Run) -> list[Point]:
    margins, losses = (measure(run, gain, "report") for gain in ("margin", "loss"))
    costs = {text: margins.mean_costs(text) for text in margins.kl}
    return [
        Point(
            arm=run.arm,
            seed=run.seed,
            step=one.step,
            margin=float(margins.mean_gains()[at]),
            loss=float(np.log(2) - losses.mean_gains()[at]),
            accuracy=float((margins.gains[at] > 0).mean()),
            kl={text: float(cost[at]) for text, cost in costs.items()},
            price=one.price.get("protected"),
        )
        for at, one in enumerate(run.evaluations)
    ]


def gain_of(point: Point, gain: Gain) -> float:
    """A point's gain over the untrained model."""
    return point.margin if gain == "margin" else float(np.log(2)) - point.loss


def mean_path(points: Sequence[Point], arm: str, text: str, gain: Gain) -> list[tuple[int, float, float]]:
    """An arm's path, mean over its seeds: step, cost on a text and gain; steps that all its seeds have."""
    own = [point for point in points if point.arm == arm]
    seeds = {point.seed for point in own}
    path = []
    for step in sorted({point.step for point in own}):
        here = [point for point in own if point.step == step]
        if {point.seed for point in here} == seeds:
            cost, gained = np.mean([point.kl[text] for point in here]), np.mean([gain_of(p, gain) for p in here])
            path.append((step, float(cost), float(gained)))
    return path


def _ends(points: Sequence[Point], arm: str, gain: Gain) -> dict[str, float]:
    """The last mean gain of an arm, under the empty name, and its last mean cost on each text."""
    ends: dict[str, float] = {}
    for text in points[0].kl:
        _, ends[text], ends[""] = mean_path(points, arm, text, gain)[-1]
    return ends


def _front(points: Sequence[Point], text: str, gain: Gain) -> tuple[tuple[str, int], ...]:
    arms = dict.fromkeys(point.arm for point in points)
    named = [(arm, *place) for arm in arms for place in mean_path(points, arm, text, gain)]
    front = pareto_front(np.array([cost for _, _, cost, _ in named]), np.array([gained for *_, gained in named]))
    return tuple((arm, step) for (arm, step, _, _), on_it in zip(named, front, strict=True) if on_it)


def _facts(runs: Sequence[Run], chosen: Mapping[str, str]) -> list[ArmFacts]:
    facts = []
    for arm in dict.fromkeys(run.arm for run in runs):
        own = [run for run in runs if run.arm == arm]
        times = [run.duration_s for run in own if run.duration_s is not None]
        facts.append(
            ArmFacts(
                arm=arm,
                chosen=chosen.get(arm, ""),
                runs=tuple(run.name for run in own),
                parameters=own[0].parameters,
                adapter_bytes=own[0].adapter_bytes,
                duration_s=sum(times) / len(times) if times else None,
            )
        )
    return facts
