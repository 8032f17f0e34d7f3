"""What a form starts from: a shipped recipe, a file, a run's own recipe, or an intervention by itself.

Everything here loads the recipe's classes (no torch) and reads files: call it in a worker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from readwrite_edit.edit.settings import INTERVENTIONS, EditRecipe
from readwrite_edit.edit.settings.reading import edit_schema, is_edit_recipe
from readwrite_edit.errors import ReadWriteEditError, RecipeError
from readwrite_edit.recipe import Recipe, recipe_schema, recipe_text, shipped_recipes
from readwrite_edit.recipe.schema import SECTIONS
from readwrite_edit.recipe.yaml_nodes import Document, read_document
from readwrite_edit.runs.reader import list_runs
from readwrite_edit.terminal import printable
from readwrite_edit.tui.forms.draft import Draft, Wrong
from readwrite_edit.tui.forms.schema import Part, parts_of

BUNDLED = "bundled:smollm2-135m-instruct"
_AROUND = ("statistics", "measure", "controls", "ledger")
_MOST_RUNS = 20
_COMMON = {
    "associate": ("prompt", "subject", "target", "paraphrases", "locality", "layers"),
    "attend": ("prompts", "query", "key", "layer", "head", "change"),
    "project": ("direction.token", "direction.positive", "direction.negative", "action", "modules", "layers"),
    "steer": ("direction.token", "direction.positive", "direction.negative", "prompts", "key", "layer", "strength"),
    "extract": ("tuned", "modules", "basis", "rank"),
    "project_adapter": ("adapter", "modules", "basis", "rank"),
}


@dataclass(frozen=True)
class Opened:
    """A form's beginning.

    Attributes:
        source: As ``--recipe`` takes it; the intervention's kind where there is no file.
        draft: To fill in; None where there is nothing that could be.
        keys: Those to show first.
        problems: What is wrong with the file itself, whatever is changed.
        kind: Of an edit: its intervention.
        by_recipe: Whether ``source`` is a recipe.
        run: Folder of the edit's run that it is the recipe of.
    """

    source: str
    draft: Draft | None = None
    keys: frozenset[str] = frozenset()
    problems: tuple[Wrong, ...] = ()
    kind: str = ""
    by_recipe: bool = True
    run: Path | None = None


def open_align(source: str) -> Opened:
    """The recipe of an alignment: a shipped name, a file, or a run's folder."""
    try:
        name, text = _text(source)
        if is_edit_recipe(text):
            raise RecipeError(f"{source}: the recipe of an edit; open it by e, not by n")
        document = _document(source, text)
    except ReadWriteEditError as error:
        return _not_opened(source, error)
    draft = Draft(Recipe, _align_parts(), document.value)
    return Opened(name, draft, _given_keys(draft), _own_problems(name, document))


def open_edit(source: str, *, model: str = "") -> Opened:
    """An edit: an intervention's kind, a recipe, or the folder of an edit's run.

    Args:
        source: Which.
        model: What to edit, where the source does not say.
    """
    if source in INTERVENTIONS:
        return _open_kind(source, {}, model)
    try:
        name, text = _text(source)
        document = _document(source, text)
        kind = next((kind for kind in INTERVENTIONS if kind in document.value), None)
        if kind is None:
            raise RecipeError(f"{source}: no recipe of an edit; expected one of {', '.join(INTERVENTIONS)} in it")
    except ReadWriteEditError as error:
        return _not_opened(source, error)
    if os.path.isdir(source):  # a run's recipe holds every key, and its command: what differs from the defaults counts
        return replace(_open_kind(kind, document.value, model), run=Path(source))
    draft = Draft(EditRecipe, _edit_parts(kind), document.value)
    return Opened(name, draft, _given_keys(draft), _own_problems(name, document), kind)


def recipes_of(*, edits: bool) -> list[str]:
    """Names of the shipped recipes of one kind."""
    return [recipe.name for recipe in shipped_recipes() if is_edit_recipe(recipe_text(recipe.path)) == edits]


def kinds() -> list[str]:
    """Names of the interventions."""
    return list(INTERVENTIONS)


def known_models(root: Path) -> list[str]:
    """Models that the newest runs started from, and the bundled one."""
    try:
        runs = [view.path for view in list_runs(root)][:_MOST_RUNS]
    except ReadWriteEditError:
        runs = []
    return list(dict.fromkeys([BUNDLED, *(model for run in runs if (model := base_of_run(run)))]))


def base_of_run(run: Path) -> str:
    """The model that a run started from; empty where its recipe does not say."""
    try:
        value = read_document(recipe_text(run / "recipe.yaml")).value
    except (ReadWriteEditError, yaml.YAMLError, RecursionError):
        return ""
    model = value.get("model") if isinstance(value, dict) else None
    path = model.get("path") if isinstance(model, dict) else None
    return path if isinstance(path, str) and printable(path) == path else ""


def _open_kind(kind: str, values: Mapping[str, Any], model: str) -> Opened:
    draft = Draft(EditRecipe, _edit_parts(kind), {kind: {}})
    given, spelt_out = Draft(EditRecipe, _edit_parts(kind), values), Draft(EditRecipe, _edit_parts(kind), _defaults())
    for one in draft.fields():
        if given.given(one) and not (spelt_out.given(one) and given.text(one) == spelt_out.text(one)):
            draft.write(one, given.text(one))
        elif one.key == "model.path":
            draft.write(one, model or BUNDLED)
    common = {f"{kind}.{label}" for label in _COMMON[kind]} | {"model.path", "controls.count", "ledger.name"}
    needed = {one.key for one in draft.fields() if one.required}
    return Opened(kind, draft, frozenset(common | needed | set(draft.changes)), kind=kind, by_recipe=False)


@cache
def _defaults() -> dict[str, Any]:
    """The sections around an intervention as a run writes them where nothing was given."""
    fields = EditRecipe.model_fields
    return {name: fields[name].default.model_dump(mode="json") for name in _AROUND}


def _not_opened(source: str, error: ReadWriteEditError) -> Opened:
    return Opened(source, problems=tuple(Wrong("", printable(line)) for line in str(error).splitlines()))


def _text(source: str) -> tuple[str, str]:
    """The name that ``--recipe`` takes, and the text."""
    name = str(Path(source) / "recipe.yaml") if os.path.isdir(source) else source
    return name, recipe_text(name)


def _document(source: str, text: str) -> Document:
    try:
        document = read_document(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise RecipeError(f"{source}: not a recipe in YAML: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(document.value, dict):
        raise RecipeError(f"{source}: expected sections such as model:, data: and adapter:")
    return document


def _own_problems(name: str, document: Document) -> tuple[Wrong, ...]:
    return tuple(Wrong("", f"{printable(name)}:{line}: {message}") for line, _, message in document.problems)


def _given_keys(draft: Draft) -> frozenset[str]:
    """What the file says, and what it must say."""
    return frozenset(one.key for one in draft.fields() if one.required or draft.given(one))


@cache
def _align_parts() -> tuple[Part, ...]:
    return parts_of(recipe_schema(), tuple(SECTIONS))


@cache
def _edit_parts(kind: str) -> tuple[Part, ...]:
    return parts_of(edit_schema(), ("model", kind, *_AROUND))
