"""Reading recipes from files and text, and writing them."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from readwrite_edit.errors import RecipeError
from readwrite_edit.recipe.catalogue import find_recipe
from readwrite_edit.recipe.checking import Root, check
from readwrite_edit.recipe.overrides import apply_overrides
from readwrite_edit.recipe.problems import Origin, Problem
from readwrite_edit.recipe.schema import Recipe
from readwrite_edit.recipe.section import Section
from readwrite_edit.recipe.wording import shown
from readwrite_edit.recipe.yaml_nodes import Document, read_document, write_document
from readwrite_edit.recipe.yaml_nodes import Path as KeyPath
from readwrite_edit.terminal import printable

LARGEST_BYTES = 2**18


def load_recipe(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe of an alignment and validate it as a whole.

    Args:
        path_or_name: A file, or the name of a shipped recipe (with or without .yaml).
        overrides: ``key=value`` each, as given with ``--set``.

    Raises:
        RecipeError: Not found, not readable, or wrong: one line for each problem.
    """
    return parse_recipe(recipe_text(path_or_name), source=str(path_or_name), overrides=overrides)


def parse_recipe(text: str, *, source: str = "recipe", overrides: Sequence[str] = ()) -> Recipe:
    """Validate the text of an alignment's recipe; ``source`` is its name in messages.

    Raises:
        RecipeError: One line for each problem.
    """
    return parse_as(Recipe, text, source=source, overrides=overrides)


def parse_as(root: type[Root], text: str, *, source: str = "recipe", overrides: Sequence[str] = ()) -> Root:
    """Validate the text of a recipe of any kind.

    Args:
        root: The class of the whole recipe.
        text: YAML.
        source: Its name in messages.
        overrides: ``key=value`` each, as given with ``--set``.

    Raises:
        RecipeError: One line for each problem.
    """
    document = _document(text, source)
    if not isinstance(document.value, dict):
        given = "empty" if document.value is None else f"got {shown(document.value)}"
        raise RecipeError(f"{printable(source)}: {given}; expected sections such as model:, data: and adapter:")
    origins: dict[KeyPath, Origin] = {path: Origin.line(source, line) for path, line in document.lines.items()}
    problems = [Problem(Origin.line(source, line), path, message) for line, path, message in document.problems]
    apply_overrides(document.value, origins, overrides, problems)
    return check(root, document.value, origins, problems)


def check_values(
    root: type[Root], value: dict[str, Any], origins: Mapping[KeyPath, Origin], overrides: Sequence[str] = ()
) -> Root:
    """Validate a recipe that was put together elsewhere, such as from a command's options.

    Args:
        root: The class of the whole recipe.
        value: The recipe as plain values; changed by the overrides.
        origins: Where each path of it came from; the empty path must be there.
        overrides: ``key=value`` each, as given with ``--set``.

    Raises:
        RecipeError: One line for each problem.
    """
    places, problems = dict(origins), list[Problem]()
    apply_overrides(value, places, overrides, problems)
    return check(root, value, places, problems)


def dump_recipe(recipe: Section, **more: Any) -> str:
    """A recipe as YAML: every key, in the order of the schema; ``parse_as`` gives it back.

    Args:
        recipe: Of any kind, as resolved; sections that are not given are left out.
        **more: What a run adds about itself, such as its command.
    """
    content = {**recipe.model_dump(mode="json"), **more}
    return write_document({key: item for key, item in content.items() if item is not None})


def recipe_text(path_or_name: str | Path) -> str:
    """A recipe as it is written, comments included; not validated.

    Raises:
        RecipeError: Not found, not a regular file of bearable size, or not UTF-8.
    """
    path = find_recipe(str(path_or_name))
    name = printable(str(path))
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise RecipeError(f"{name}: not a file; expected the path of a recipe")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise RecipeError(f"{name}: can not be read ({error.strerror}); expected a readable recipe") from error
    if len(content) > LARGEST_BYTES:
        raise RecipeError(f"{name}: larger than {LARGEST_BYTES} bytes; expected a recipe, which has a few hundred")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{content[error.start]:02x} is not UTF-8"
        raise RecipeError(f"{name}:{line}: {what}; expected UTF-8 text") from error


def _document(text: str, source: str) -> Document:
    try:
        return read_document(text)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        why = " ".join(part for part in (error.context, error.problem) if part)
        raise RecipeError(f"{printable(source)}{line}: not a recipe in YAML: {printable(why)}") from error
    except yaml.reader.ReaderError as error:
        line_number = text.count("\n", 0, error.position) + 1
        what = f"character {printable(chr(error.character))}" if isinstance(error.character, int) else "a byte"
        raise RecipeError(f"{printable(source)}:{line_number}: {what} may not stand in YAML; remove it") from error
