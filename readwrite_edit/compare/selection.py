"""Choosing one value of an axis for each arm, such as its learning rate, on rows that are not reported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from readwrite_edit.compare.arms import Run, sweep_runs
from readwrite_edit.compare.measured import measure
from readwrite_edit.compare.plane import gain_at_cost
from readwrite_edit.runs.reader import read_run
from readwrite_edit.sweep.record import SweepRecord

_OVER = ("finished", "failed", "broken")


def choose_values(folder: Path, record: SweepRecord) -> dict[str, str]:
    """The chosen value of each arm, once all runs of the first seed have ended; empty before.

    Args:
        folder: Of the sweep.
        record: Of the sweep.

    Returns:
        Arm to label on the axis that is chosen on.
    """
    first = [planned for planned in record.runs.values() if planned.seed == 0]
    if not all(read_run(folder / planned.name).status in _OVER for planned in first):
        return {}  # the common budget is known once every arm has been tried
    runs = [run for run in sweep_runs(folder, record) if isinstance(run, Run) and run.seed == 0]
    return best_values(runs)


def scores_of(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """What each value is chosen by: the margin on the selection rows at a common cost.

    The cost is the mean over the texts of KL on their selection sequences; the
    common budget is the median, over all runs, of what they cost in the end.

    Args:
        runs: Of the first seed.

    Returns:
        Arm to value's label to score.
    """
    measured = [measure(run.evaluations, "margin", "selection") for run in runs]
    costs = [np.mean([one.mean_costs(text) for text in one.kl], axis=0) for one in measured]
    budget = float(np.median([cost[-1] for cost in costs]))
    scores: dict[str, dict[str, float]] = {}
    for run, one, cost in zip(runs, measured, costs, strict=True):
        scores.setdefault(run.arm, {})[run.chosen] = float(gain_at_cost(cost, one.mean_gains(), budget).gain)
    return scores


def best_values(runs: Sequence[Run]) -> dict[str, str]:
    """Arm to the label with the best score; arms without a choice have an empty one."""
    if not runs:
        return {}
    return {arm: max(scores, key=lambda label: scores[label]) for arm, scores in scores_of(runs).items()}


def chosen_runs(runs: Sequence[Run]) -> tuple[list[Run], dict[str, str]]:
    """The runs that are reported: of each arm those with its chosen value.

    A sweep chooses among its own runs, so that what is compared with it changes nothing.

    Returns:
        The runs, and arm to chosen label (of arms that had a choice).
    """
    first: dict[Path | None, list[Run]] = {}
    for run in runs:
        if run.seed == 0:
            first.setdefault(run.sweep, []).append(run)
    best = {arm: label for own in first.values() for arm, label in best_values(own).items()}
    kept = [run for run in runs if best.get(run.arm, run.chosen) == run.chosen]
    return kept, {arm: label for arm, label in best.items() if label}
