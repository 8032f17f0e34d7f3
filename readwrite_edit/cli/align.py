"""``readwrite-edit align``: train a read-subspace adapter by a recipe."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.errors import RecipeError

if TYPE_CHECKING:
    from readwrite_edit.align.job import Outcome
    from readwrite_edit.recipe import Recipe

_INTERRUPTED = 130


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "align",
        help="train a read-subspace adapter by a recipe",
        description="Train preference alignment that changes only what the model reads, and certify the adapter.",
        epilog="Example: readwrite-edit align --recipe dpo_readonly.yaml --set train.max_steps=48",
    )
    parser.add_argument("--recipe", metavar="FILE", help="a recipe file, or the name of one that ships")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the recipe")
    parser.add_argument("--run-dir", metavar="DIR", type=Path, help="run folder (default: runs/<time>-<recipe>)")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with a stopped or killed run")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen; load no weights, write nothing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Start, resume or rehearse a run; exit code 0, or 130 when a signal ended it."""
    _check_combination(args)
    recipe = None if args.resume else _recipe(args)
    prepare_environment()
    if args.dry_run and recipe is not None:
        from readwrite_edit.align.rehearsal import rehearse

        print(rehearse(recipe))
        return 0
    return _report(_train(args, recipe))


def _recipe(args: argparse.Namespace) -> Recipe:
    from readwrite_edit.edit.settings.reading import is_edit_recipe
    from readwrite_edit.recipe import parse_recipe, recipe_text

    text = recipe_text(args.recipe)
    if is_edit_recipe(text):
        raise RecipeError(f"{args.recipe}: the recipe of an edit; use readwrite-edit edit --recipe {args.recipe}")
    return parse_recipe(text, source=args.recipe, overrides=args.set)


def _train(args: argparse.Namespace, recipe: Recipe | None) -> Outcome:
    from readwrite_edit.align.job import resume_run, start_run
    from readwrite_edit.runs.folder import new_run_path, recipe_title

    if recipe is None:
        return resume_run(args.resume)
    name = recipe_title(args.recipe)
    return start_run(recipe, name, args.run_dir or new_run_path(Path("runs"), name, datetime.now()))


def _check_combination(args: argparse.Namespace) -> None:
    if bool(args.recipe) == bool(args.resume):
        raise RecipeError("give either --recipe FILE to start a run or --resume RUN to go on with one")
    if args.resume and (args.set or args.run_dir or args.dry_run):
        raise RecipeError("--resume takes the recipe frozen in the run: leave --set, --run-dir and --dry-run out")


def _report(outcome: Outcome) -> int:
    if outcome.status == "stopped":
        return _INTERRUPTED if outcome.interrupted else 0
    from readwrite_edit.report import summary_table
    from readwrite_edit.terminal import printable

    print(summary_table(outcome.summary))
    for generation in outcome.summary["generations"]:
        prompt, before, after = (printable(" ".join(generation[key].split())) for key in ("prompt", "before", "after"))
        print(f"\n> {prompt}\n  before: {before}\n  after:  {after}")
    print("\ncertificate:")
    for check in outcome.summary["certificate"]["checks"]:
        print(f"  {'pass' if check['passed'] else 'FAIL'}  {check['name']}: {printable(check['detail'])}")
    print(f"\nadapter: {printable(str(outcome.folder.adapter))}\nreport:  {printable(str(outcome.folder.report))}")
    return 0


def prepare_environment() -> None:
    """What the libraries must find in the environment when they are imported.

    Their banners and bars are not this command's output. And OpenMP's threads
    wait for each other by spinning: beside other busy processes that made a step
    ten times slower, while a short spin costs nothing on a free machine.

    torch imports NumPy in its C code and forgets whatever is raised meanwhile, an
    interruption too: NumPy is there already when torch looks for it.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it says at every product which kernel it took
    if not sys.warnoptions:
        import warnings

        warnings.filterwarnings("ignore", category=FutureWarning)
    import numpy  # noqa: F401
