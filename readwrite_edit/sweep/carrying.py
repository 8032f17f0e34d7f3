"""Carrying a sweep out: planned runs become items of the queue in its folder, and the queue does the rest.

The folder is the only memory: what is to be done follows from the runs in it, so
that the same call goes on after a kill, and does nothing where all is finished.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from readwrite_edit.errors import RecipeError
from readwrite_edit.queue import add, items
from readwrite_edit.queue.runner import run_queue
from readwrite_edit.recipe import Recipe, parse_recipe, recipe_text
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.wording import age_text
from readwrite_edit.sweep.grid import Axis, Planned, planned_runs
from readwrite_edit.sweep.progress import Standing, check_same_recipe, seconds_left, standing
from readwrite_edit.sweep.record import SweepRecord, read_record, write_record

Say = Callable[[str], None]
Chooser = Callable[[Path, SweepRecord], dict[str, str]]


def plan(record: SweepRecord, axes: Sequence[Axis], seeds: int, chosen: dict[str, str]) -> list[Planned]:
    """The runs that can be named now.

    Args:
        record: Of the sweep.
        axes: What varies.
        seeds: Number of seeds, from 0.
        chosen: Arm to the value chosen for it; an arm without one has only runs of the first seed.
    """
    everything = planned_runs(axes, range(seeds), record.choose)
    if record.choose is None:
        return everything
    return [run for run in everything if run.seed == 0 or chosen.get(run.arm) == run.chosen]


def checked(record: SweepRecord, runs: Sequence[Planned], folder: Path) -> dict[str, Recipe]:
    """The recipe of each run, all of them valid, and none in conflict with a run that is there.

    Raises:
        RecipeError: A recipe is wrong, or a folder holds a run of another recipe.
    """
    text = recipe_text(record.recipe)
    recipes = {}
    for run in runs:
        recipe = parse_recipe(text, source=record.recipe, overrides=[*record.settings, *run.settings])
        if RunFolder(folder / run.name).recipe.exists():
            check_same_recipe(folder / run.name, recipe)
        recipes[run.name] = recipe
    return recipes


def opened(folder: Path, record: SweepRecord) -> SweepRecord:
    """The record of a folder that a call may go on with: what it had planned before, and the call's own options.

    Raises:
        RecipeError: The folder belongs to a sweep of another recipe or other settings.
    """
    before = read_record(folder)
    if before is None:
        return record
    for what, had, given in (
        ("recipe", before.recipe, record.recipe),
        ("--set", shlex.join(before.settings), shlex.join(record.settings)),
        ("--choose", before.choose, record.choose),
    ):
        if had != given:
            raise RecipeError(
                f"{folder} is a sweep with {what} {had or 'none'}, not {given or 'none'}: name another folder"
            )
    return record.with_runs(list(before.runs.values()))


def carry_out(
    folder: Path,
    record: SweepRecord,
    axes: Sequence[Axis],
    *,
    seeds: int,
    jobs: int,
    choose: Chooser,
    say: Say,
) -> list[Standing]:
    """Do every run of a sweep that is not finished; each is tried once in a call.

    Args:
        folder: Of the sweep.
        record: Its recipe and settings.
        axes: What varies.
        seeds: Number of seeds, from 0.
        jobs: Devices to use.
        choose: Gives each arm's chosen value, where its runs of the first seed have ended.
        say: Tells the user what happens.

    Returns:
        How the runs stand in the end.

    Raises:
        ReadWriteEditError: Wrong input, or the folder can not be used.
    """
    record = opened(folder, record)
    tried: set[str] = set()
    while True:
        runs = plan(record, axes, seeds, choose(folder, record) if record.choose else {})
        checked(record, runs, folder)
        record = record.with_runs(runs)
        write_record(folder, record)
        found = standing(folder, runs)
        due = [run for run in found if not run.finished and run.planned.name not in tried]
        if not due:
            return found
        tried |= {run.planned.name for run in due}
        say(_outlook(folder, found, jobs))
        _enqueue(folder, record, due, jobs)
        run_queue(folder, say)


def _enqueue(folder: Path, record: SweepRecord, due: Sequence[Standing], jobs: int) -> None:
    """Put runs into the queue, unless they wait or run there already."""
    busy = {item.run for item in items(folder) if not item.ended}
    for number, run in enumerate(due):
        path = (folder / run.planned.name).absolute()
        live = run.view is not None and run.view.live
        if path not in busy and not live:
            device = f"cuda:{number % jobs}" if jobs > 1 else None
            add(folder, _argv(record, run, path), run.planned.name, device=device)


def _argv(record: SweepRecord, run: Standing, path: Path) -> list[str]:
    if run.view is not None:
        return ["align", "--resume", str(path)]
    settings = [word for setting in (*record.settings, *run.planned.settings) for word in ("--set", setting)]
    return ["align", "--recipe", record.recipe, *settings, "--run-dir", str(path)]


def _outlook(folder: Path, found: Sequence[Standing], jobs: int) -> str:
    left = seconds_left(folder, found, jobs)
    time = "" if left is None else f", about {age_text(left)} to go"
    return f"{sum(run.finished for run in found)} of {len(found)} runs are finished{time}"
