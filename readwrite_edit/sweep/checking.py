"""What can be refused before a sweep's first run: wrong recipes, other runs in the folder, changed data."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from readwrite_edit.errors import DataError, RecipeError
from readwrite_edit.recipe import Recipe, load_recipe, parse_recipe, recipe_hash, recipe_text
from readwrite_edit.recipe.problems import shortened
from readwrite_edit.runs.folder import RunFolder
from readwrite_edit.sweep.grid import Axis, Planned, options
from readwrite_edit.sweep.record import SweepRecord
from readwrite_edit.terminal import counted, printable

# What ``align.prepare`` does not look at; a key that is missing here costs time, and nothing else.
_IMMATERIAL: dict[str, Any] = {
    "objective": True,
    "penalty": True,
    "geometry": True,
    "adapter": {"seed", "basis", "energy", "contrastive", "gradient_rows"},
    "train": {"seed", "learning_rate", "max_steps", "eval_steps", "weight_decay", "warmup_steps", "lr_scheduler_type"},
}


def checked(record: SweepRecord, runs: Sequence[Planned], axes: Sequence[Axis]) -> dict[str, Recipe]:
    """The recipe of each run: all valid, and no two alike.

    Args:
        record: Of the sweep.
        runs: Of the grid.
        axes: Of the grid, for messages.

    Raises:
        RecipeError: A recipe is wrong, or two are the same.
    """
    text = _text(record.recipe)
    recipes: dict[str, Recipe] = {}
    names: dict[str, str] = {}
    for run in runs:
        try:
            recipe = parse_recipe(text, source=record.recipe, overrides=[*record.settings, *run.settings])
        except RecipeError as error:
            raise RecipeError(_by_option(str(error), axes)) from None
        same = names.setdefault(recipe_hash(recipe), run.name)
        if same != run.name:
            raise RecipeError(f"{same} and {run.name} would be one and the same run: leave one of the two out")
        recipes[run.name] = recipe
    return recipes


def check_runs(recipes: Mapping[str, Recipe], folder: Path) -> None:
    """Refuse runs that are there already, of another recipe or of data that are no longer the same.

    Files and built-in data are read anew; data sets of the Hub have revisions.

    Args:
        recipes: Name of each run to its recipe.
        folder: Of the sweep.

    Raises:
        RecipeError: A run's own recipe says something else.
        DataError: The rows that a run was trained on are others now, or can not be read.
    """
    hashes: dict[str, str] = {}
    for name, recipe in recipes.items():
        path = folder / name
        if not RunFolder(path).recipe.exists():
            continue
        kept = load_recipe(str(RunFolder(path).recipe))
        if recipe_hash(kept) != recipe_hash(recipe):
            other = "name another folder for this sweep, or delete that run"
            raise RecipeError(f"{path} was made by another recipe: {other}")
        recorded, data = (kept.provenance or {}).get("data_sha256"), recipe.data.model_dump_json()
        if recorded is None or not _is_here(recipe.data.path):
            continue
        if data not in hashes:
            hashes[data] = _rows_hash(recipe)
        if hashes[data] != recorded:
            other = "put them back, or name another folder for this sweep"
            raise DataError(f"the rows of {recipe.data.path} are no longer those that {path} began with: {other}")


def check_material(recipes: Iterable[Recipe], seen: set[str], say: Callable[[str], None]) -> None:
    """Refuse what ``align --dry-run`` would: a model, data or texts that are not there, or do not fit together.

    It loads torch, but no weights. What recipes have in common is looked at once.

    Args:
        recipes: Of the runs that are to begin.
        seen: What has been looked at; grows.
        say: Told what takes the time.

    Raises:
        ReadWriteEditError: A recipe can not be carried out.
    """
    material = {json.dumps(one.model_dump(mode="json", exclude=_IMMATERIAL), sort_keys=True): one for one in recipes}
    new = [recipe for key, recipe in material.items() if key not in seen]
    if new:
        say(f"checking model, data and texts of {counted(len(new), 'kind of run', 'kinds of run')}")
        from readwrite_edit.align.prepare import prepare

        for recipe in new:
            prepare(recipe)
        seen.update(material)


def one_point(recipe: Recipe) -> bool:
    """Whether a run is evaluated at its end alone, so that its path has a single point."""
    train = recipe.train
    late = train.eval_steps is not None and 0 < train.max_steps <= train.eval_steps
    return train.eval_strategy == "no" or (train.eval_strategy == "steps" and late)


def _text(recipe: str) -> str:
    from readwrite_edit.edit.settings.reading import is_edit_recipe

    text = recipe_text(recipe)
    if is_edit_recipe(text):
        raise RecipeError(f"{printable(recipe)}: the recipe of an edit; a sweep takes recipes of align")
    return text


def _by_option(message: str, axes: Sequence[Axis]) -> str:
    """A message on overrides, with the options that users gave them by."""
    for option, setting in options(axes):
        shown = shortened(printable(setting))
        message = message.replace(f"--set {shown}", f"{option}{shown}")
    return message


def _is_here(path: str) -> bool:
    from readwrite_edit.align.data_source import BUILTIN

    return path.startswith(BUILTIN) or os.path.exists(os.path.expanduser(path))


def _rows_hash(recipe: Recipe) -> str:
    from readwrite_edit.align.preferences import data_hash, load_preferences

    data = load_preferences(recipe.data)
    return data_hash([*data.train, *data.held_out])
