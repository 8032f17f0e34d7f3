"""Reading an edit's recipe from a file, from text or from the command line's short form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path as FilePath
from typing import Any

import yaml

from readwrite_edit.edit.settings.recipe import INTERVENTIONS, EditRecipe
from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe.problems import Origin
from readwrite_edit.recipe.reading import check_values, parse_as, recipe_text
from readwrite_edit.recipe.schema import DIALECT
from readwrite_edit.recipe.yaml_nodes import Path, read_document
from readwrite_edit.terminal import printable

Option = tuple[Path, str, Any]
"""An option of the command line: its path in the recipe, its name for messages, and its value; None: not given."""

_OF_ALIGN = {"data", "adapter", "objective", "train"}


def load_edit_recipe(path_or_name: str | FilePath, overrides: Sequence[str] = ()) -> EditRecipe:
    """Read the recipe of an edit and validate it as a whole.

    Args:
        path_or_name: A file, or the name of a shipped recipe.
        overrides: ``key=value`` each, as given with ``--set``.

    Raises:
        RecipeError: Not found, not readable, or wrong: one line for each problem.
    """
    text = recipe_text(path_or_name)
    if not is_edit_recipe(text) and _keys(text) & _OF_ALIGN:
        name = printable(str(path_or_name))
        raise RecipeError(f"{name}: the recipe of an alignment; use readwrite-edit align --recipe {name}")
    return parse_as(EditRecipe, text, source=str(path_or_name), overrides=overrides)


def edit_recipe_of(kind: str, options: Iterable[Option], overrides: Sequence[str] = ()) -> EditRecipe:
    """An edit's recipe from the command line's short form.

    Args:
        kind: Of the intervention.
        options: What the command line has for the recipe.
        overrides: ``key=value`` each, as given with ``--set``.

    Raises:
        RecipeError: One line for each problem.
    """
    value: dict[str, Any] = {kind: {}}
    origins: dict[Path, Origin] = {(): Origin.option("command line", -1)}
    for position, (path, label, given) in enumerate(options):
        origins[path] = Origin.option(label, position)  # also of what was not given: it may be missing
        if given is not None:
            inner = value
            for key in path[:-1]:
                inner = inner.setdefault(str(key), {})
            inner[str(path[-1])] = given
    return check_values(EditRecipe, value, origins, overrides)


def is_edit_recipe(text: str) -> bool:
    """Whether a recipe's text is that of an edit: it names an intervention."""
    return bool(_keys(text) & set(INTERVENTIONS))


def edit_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of an edit's recipe, for editors that complete and check YAML."""
    schema = EditRecipe.model_json_schema(mode="validation")
    return {"$schema": DIALECT, **schema, "title": "readwrite-edit edit recipe"}


def _keys(text: str) -> set[str]:
    try:
        value = read_document(text).value
    except yaml.YAMLError:
        return set()
    return set(value) if isinstance(value, dict) else set()
