"""What a call of a sweep is to do: the grid, the record of the folder, and how each run stands. Nothing is written."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from readwrite_edit.errors import RecipeError
from readwrite_edit.queue import items
from readwrite_edit.recipe import Recipe
from readwrite_edit.runs.folder import has_run
from readwrite_edit.sweep.checking import check_runs, checked
from readwrite_edit.sweep.grid import Axis, Planned, planned_runs
from readwrite_edit.sweep.progress import Standing, standing
from readwrite_edit.sweep.record import SweepRecord, read_record

Chooser = Callable[[Path, SweepRecord, Collection[str]], dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a user asks for.

    Attributes:
        record: Recipe, settings and the key that is chosen on.
        axes: What varies.
        seeds: How many, from 0.
        choose: Gives each arm's chosen value, where its runs of the first seed have ended.
    """

    record: SweepRecord
    axes: Sequence[Axis]
    seeds: int
    choose: Chooser


@dataclass(frozen=True, kw_only=True)
class Survey:
    """A folder as it stands under a grid.

    Attributes:
        record: Of the sweep, every run that can be named among it.
        recipes: Of each of the grid's runs that can be named.
        runs: How they stand.
        later: How many can not be named before a value is chosen.
    """

    record: SweepRecord
    recipes: Mapping[str, Recipe]
    runs: Sequence[Standing]
    later: int


def survey(folder: Path, grid: Grid, tried: Collection[str] = ()) -> Survey:
    """Look at a folder: everything that can be refused without loading a library is refused here.

    Args:
        folder: Of the sweep; it may not exist yet.
        grid: What is asked for.
        tried: Names of runs that this call has tried.

    Raises:
        ReadWriteEditError: Wrong input, a folder of another sweep, or data that are no longer those of its runs.
    """
    record, axes = grid.record, grid.axes
    everything = planned_runs(axes, range(grid.seeds), record.choose, record.settings)
    first = [run for run in everything if record.choose is None or run.seed == 0]
    record = opened(folder, record).with_runs(first)
    given_up = {*tried, *(record.runs.keys() - {run.name for run in first})}
    chosen = grid.choose(folder, record, given_up) if record.choose else {}
    runs = first + [run for run in everything if record.choose and run.seed > 0 and chosen.get(run.arm) == run.chosen]
    recipes = checked(record, runs, axes)
    check_runs(recipes, folder)
    without = {run.arm for run in first} - chosen.keys() if record.choose else ()
    return Survey(
        record=record.with_runs(runs),
        recipes=recipes,
        runs=standing(folder, runs, record.settings),
        later=(grid.seeds - 1) * len(without),
    )


def opened(folder: Path, record: SweepRecord) -> SweepRecord:
    """The record of a folder that a call may go on with: what it had planned before, and the call's own options.

    Raises:
        RecipeError: The folder has runs of another recipe or other settings.
    """
    before = read_record(folder)
    if before is None or not _begun(folder, before.runs.values()):
        return record
    for what, had, given, same in (
        ("recipe", before.recipe, record.recipe, _same_file(before.recipe, record.recipe)),
        ("--set", shlex.join(before.settings), shlex.join(record.settings), before.settings == record.settings),
        ("--choose", before.choose, record.choose, before.choose == record.choose),
    ):
        if not same:
            raise RecipeError(
                f"{folder} is a sweep with {what} {had or 'none'}, not {given or 'none'}: name another folder"
            )
    return replace(before, recipe=record.recipe)


def _begun(folder: Path, runs: Collection[Planned]) -> bool:
    """Whether a run of a sweep has a folder, or is about to."""
    return any(has_run(folder / run.name) for run in runs) or any(not item.ended for item in items(folder))


def _same_file(one: str, other: str) -> bool:
    return one == other or Path(one).resolve() == Path(other).resolve()
