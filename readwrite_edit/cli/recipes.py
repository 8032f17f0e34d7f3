"""``readwrite-edit recipes``: list, show, copy and check recipes, and their JSON schema."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from readwrite_edit.durable import write_text
from readwrite_edit.errors import RecipeError
from readwrite_edit.terminal import printable


def add_parser(commands: Any) -> None:
    """Add the command and its subcommands."""
    parser = commands.add_parser("recipes", help="list, show, copy and check recipes")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("ls", help="list the recipes that ship")
    listing.set_defaults(run=_list)

    show = actions.add_parser("show", help="print a recipe as it is written")
    show.add_argument("name", metavar="NAME", help="a shipped recipe or a file")
    show.add_argument("--resolved", action="store_true", help="print every key, defaults and overrides included")
    _add_set(show)
    show.set_defaults(run=_show)

    copy = actions.add_parser("cp", help="copy a shipped recipe, to change it")
    copy.add_argument("name", metavar="NAME", help="a shipped recipe or a file")
    copy.add_argument("dest", metavar="DEST", nargs="?", type=Path, default=Path(), help="a file or folder (default .)")
    copy.add_argument("--force", action="store_true", help="overwrite an existing file")
    copy.set_defaults(run=_copy)

    validate = actions.add_parser("validate", help="check recipes; report every problem of every file")
    validate.add_argument("files", metavar="FILE", nargs="+", help="files or names of shipped recipes")
    _add_set(validate)
    validate.set_defaults(run=_validate)

    schema = actions.add_parser("schema", help="print the JSON schema, for editors that complete and check YAML")
    schema.add_argument("--edit", action="store_true", help="that of an edit's recipe, not of an alignment's")
    schema.add_argument("--output", metavar="FILE", type=Path, help="write it to a file")
    schema.set_defaults(run=_schema)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="override a key (repeatable)"
    )


def _list(args: argparse.Namespace) -> int:
    from readwrite_edit.recipe import shipped_recipes

    recipes = shipped_recipes()
    width = max((len(recipe.name) for recipe in recipes), default=0)
    for recipe in recipes:
        print(f"{recipe.name:<{width}}  {recipe.title}")
        print(f"{'':<{width}}  Needs: {recipe.needs}")
    return 0


def _show(args: argparse.Namespace) -> int:
    from readwrite_edit.recipe import recipe_text

    if args.resolved or args.overrides:
        text = _resolved(args.name, args.overrides)
    else:
        text = recipe_text(args.name)
    print(printable(text, keep_newlines=True), end="")
    return 0


def _copy(args: argparse.Namespace) -> int:
    from readwrite_edit.recipe import find_recipe, recipe_text

    source = find_recipe(args.name)
    target = args.dest / source.name if args.dest.is_dir() else args.dest
    if target.exists() and (target.samefile(source) or not target.is_file()):
        raise RecipeError(f"{printable(str(target))}: can not be replaced; expected the path of another file")
    if target.exists() and not args.force:
        raise RecipeError(f"{printable(str(target))}: exists already; name another file or overwrite it with --force")
    write_text(target, recipe_text(args.name))
    print(printable(str(target)))
    return 0


def _validate(args: argparse.Namespace) -> int:
    problems = []
    for name in args.files:
        try:
            _resolved(name, args.overrides)
        except RecipeError as error:
            problems.append(str(error))
        else:
            print(f"{printable(name)}: valid")
    sys.stdout.flush()
    if problems:
        raise RecipeError("\n".join(problems))
    return 0


def _resolved(name: str, overrides: list[str]) -> str:
    """A valid recipe of either kind as YAML, every key given."""
    from readwrite_edit.edit.settings.reading import is_edit_recipe, load_edit_recipe
    from readwrite_edit.recipe import dump_recipe, load_recipe, recipe_text

    load = load_edit_recipe if is_edit_recipe(recipe_text(name)) else load_recipe
    return dump_recipe(load(name, overrides))


def _schema(args: argparse.Namespace) -> int:
    from readwrite_edit.edit.settings.reading import edit_schema
    from readwrite_edit.recipe import recipe_schema

    text = json.dumps(edit_schema() if args.edit else recipe_schema(), indent=2, ensure_ascii=False) + "\n"
    if args.output is None:
        print(text, end="")
    else:
        write_text(args.output, text)
    return 0
