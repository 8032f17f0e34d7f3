"""Choosing one value of an axis for each arm, such as its learning rate, on rows that are not reported."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from readwrite_edit.compare.arms import LeftOut, Run, sweep_runs
from readwrite_edit.compare.measured import measure
from readwrite_edit.compare.plane import gain_at_cost
from readwrite_edit.runs.folder import FolderError
from readwrite_edit.runs.reader import read_run
from readwrite_edit.sweep.record import SweepRecord


def choose_values(folder: Path, record: SweepRecord, given_up: Collection[str] = ()) -> dict[str, str]:
    """The chosen value of each arm, once all runs of the first seed have finished; empty before.

    The budget is common to all of them: chosen earlier, a value could be another in the end.

    Args:
        folder: Of the sweep.
        record: Of the sweep.
        given_up: Names of runs that are not waited for, unless they are at work.

    Returns:
        Arm to label on the axis that is chosen on.

    Raises:
        FolderError: What a finished run says of itself can not be read, so that it can not be chosen by.
    """
    first = {name: planned for name, planned in record.runs.items() if planned.seed == 0}
    views = {name: read_run(folder / name) for name in first}
    if any(view.status != "finished" and (name not in given_up or view.live) for name, view in views.items()):
        return {}
    found = sweep_runs(folder, replace(record, runs=first))
    for view, one in zip(views.values(), found, strict=True):
        if isinstance(one, LeftOut) and view.status == "finished":
            again = f"delete {view.path}, and call the sweep again"
            raise FolderError(f"{view.path} can not be chosen by: {one.reason}; {again}")
    return best_values([run for run in found if isinstance(run, Run)])


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
    Of an arm with values to choose from and no run of seed 0 to choose by, nothing is reported.

    Returns:
        The runs, and arm to chosen label (of arms that had a choice).
    """
    first: dict[Path | None, list[Run]] = {}
    for run in runs:
        if run.seed == 0:
            first.setdefault(run.sweep, []).append(run)
    best = {arm: label for own in first.values() for arm, label in best_values(own).items()}
    kept = [run for run in runs if best.get(run.arm, "") == run.chosen]
    return kept, {arm: label for arm, label in best.items() if label}


def values_of(runs: Sequence[Run | LeftOut]) -> dict[str, int]:
    """Arm to how many values its runs of seed 0 have: those that there are to choose from."""
    labels: dict[str, set[str]] = {}
    for run in runs:
        if run.seed == 0 and run.chosen:
            labels.setdefault(run.arm, set()).add(run.chosen)
    return {arm: len(own) for arm, own in labels.items()}
