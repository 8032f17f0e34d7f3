"""How far a sweep is: what has ended, what is to be done, and how long that will take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe import Recipe, load_recipe, recipe_hash
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.runs.reader import RunView, read_run
from readwrite_edit.runs.state import StateError, load_state
from readwrite_edit.sweep.grid import Planned


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One planned run as it stands.

    Attributes:
        planned: The run.
        view: Of its folder; None where there is none yet.
    """

    planned: Planned
    view: RunView | None

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return self.view is not None and self.view.status == "finished"

    @property
    def word(self) -> str:
        """Its status for people."""
        return "to do" if self.view is None else self.view.status


def standing(folder: Path, planned: Iterable[Planned]) -> list[Standing]:
    """How each run stands."""
    found = []
    for run in planned:
        path = folder / run.name
        there = RunFolder(path).state.exists() or RunFolder(path).recipe.exists()
        found.append(Standing(planned=run, view=read_run(path) if there else None))
    return found


def check_same_recipe(path: Path, recipe: Recipe) -> None:
    """Refuse a run of another recipe under a planned run's name.

    Args:
        path: Run folder.
        recipe: As planned.

    Raises:
        RecipeError: The run's own recipe says something else.
    """
    kept = load_recipe(str(RunFolder(path).recipe))
    if recipe_hash(kept) != recipe_hash(recipe):
        raise RecipeError(f"{path} was made by another recipe: name another folder for this sweep, or delete that run")


def duration_s(path: Path) -> float | None:
    """Seconds that a finished run took from its start to its end; None where it was interrupted or says nothing."""
    try:
        state = load_state(RunFolder(path).state)
    except StateError:
        return None
    took = state.heartbeat_s - state.started_s
    return took if state.status == "finished" and state.segment == 0 and took > 0 else None


def seconds_left(folder: Path, runs: Iterable[Standing], jobs: int = 1) -> float | None:
    """Estimate of the time that the unfinished runs take; None before the first has finished.

    Args:
        folder: Of the sweep.
        runs: All of them.
        jobs: Runs at a time.
    """
    known = list(runs)
    took = [seconds for run in known if run.finished and (seconds := duration_s(folder / run.planned.name)) is not None]
    return mean(took) * sum(not run.finished for run in known) / jobs if took else None
