"""``readwrite-edit edit``: one targeted change in closed form, by a recipe or by options, and the ledger of edits.

The options of each intervention are the fields of its section of the recipe,
read when the command is used, so that other commands do not pay for them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.errors import RecipeError

if TYPE_CHECKING:
    from readwrite_edit.edit.job import EditOutcome
    from readwrite_edit.edit.settings import EditRecipe
    from readwrite_edit.edit.settings.reading import Option

_INTERRUPTED = 130
_BEFORE = "before."
# Options of every intervention's short form: where each stands in the recipe.
_COMMON = {
    "controls": (("controls", "count"), int, "N", "random controls of each matching; 0 switches controls off"),
    "statistics": (("statistics", "file"), str, "FILE", "a statistics file, instead of collecting them"),
    "ledger": (("ledger", "folder"), str, "DIR", "folder of ledgers (default: edits)"),
    "name": (("ledger", "name"), str, "NAME", "name of the entry in the ledger"),
    "dtype": (("model", "dtype"), str, "TYPE", "type of the weights: auto, float32, bfloat16 or float16"),
    "device": (("model", "device"), str, "DEVICE", "cpu or cuda; by default a GPU where there is one"),
}


def add_parser(commands: Any) -> None:
    """Add ``edit`` with its interventions, ``locate`` and the ledger's commands."""
    parser = commands.add_parser(
        "edit",
        help="make one targeted change in closed form, with its price and its controls",
        description="Change one thing in a model in closed form: by a recipe, or by an intervention and its options.",
        epilog="Example: readwrite-edit edit associate bundled:smollm2-135m-instruct --subject 'Eiffel Tower' "
        "--prompt 'The Eiffel Tower is in the city of' --target ' Rome'",
    )
    parser.fill = _fill


def _fill(parser: argparse.ArgumentParser) -> None:
    """Add the options and subcommands; called when the command is used."""
    from readwrite_edit.cli.edit_ledger import add_parsers
    from readwrite_edit.cli.options import add_recipe_options
    from readwrite_edit.edit.settings import INTERVENTIONS

    own = [parser.add_argument("--recipe", metavar="FILE", help="a recipe file, or the name of one that ships")]
    own += _add_running(parser)
    parser.set_defaults(run=_by_recipe)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    for kind, section in INTERVENTIONS.items():
        name = kind.replace("_", "-")
        one = actions.add_parser(name, help=section.HELP, description=f"Edit: {section.HELP}.")
        _add_model(one, kind)
        add_recipe_options(one, section)
        _add_running(one)
        for option, (_, kind_of, metavar, help_text) in _COMMON.items():
            one.add_argument(f"--{option}", type=kind_of, metavar=metavar, help=help_text)
        one.set_defaults(run=_by_options, kind=kind)
    _add_locate(actions)
    add_parsers(actions)
    _take_over(parser, own, actions)


def _add_running(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    add = parser.add_argument
    return [
        add("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key of the recipe"),
        add("--run-dir", metavar="DIR", type=Path, help="run folder (default: runs/<time>-edit-<kind>)"),
        add("--dry-run", action="store_true", help="compute the edit and its price; write nothing"),
        add("--json", action="store_true", help="print the result as JSON"),
    ]


def _take_over(parser: argparse.ArgumentParser, own: list[argparse.Action], actions: Any) -> None:
    """Let options that stand before the action hold for it: argparse would put the action's defaults over them.

    Args:
        parser: Of ``edit``.
        own: Its options.
        actions: Its actions, all added.
    """
    names = {action.dest: action.option_strings[0] for action in own}
    everything = {"": parser, **actions.choices}
    for one in everything.values():
        takes = {action.dest for action in one._actions}
        one.set_defaults(run=partial(_settled, one.get_default("run"), names, takes))
    for action in own:
        action.dest = _BEFORE + action.dest


def _settled(
    run: Callable[[argparse.Namespace], int], names: dict[str, str], takes: set[str], args: argparse.Namespace
) -> int:
    """Run an action with what stood before it; refuse what it does not take."""
    for dest, option in names.items():
        early = getattr(args, _BEFORE + dest)
        if early and dest not in takes:
            raise RecipeError(f"{option} before {args.action}: edit {args.action} does not take it; leave it out")
        late = getattr(args, dest, None)
        setattr(args, dest, [*early, *(late or [])] if isinstance(early, list) else late or early)
    return run(args)


def _add_model(parser: argparse.ArgumentParser, kind: str) -> None:
    what = "Hub id (owner/name@revision), folder, .gguf file or bundled:NAME"
    if kind == "project_adapter":
        parser.add_argument("--model", metavar="MODEL", help=f"base of the adapter, where its own is not meant: {what}")
    else:
        parser.add_argument("model", metavar="MODEL", help=what)


def _add_locate(actions: Any) -> None:
    from readwrite_edit.cli.options import add_recipe_options
    from readwrite_edit.edit.settings.locate import LocateSettings

    locate = actions.add_parser("locate", help=LocateSettings.HELP, description=f"{LocateSettings.HELP}.")
    add_recipe_options(locate, LocateSettings)
    locate.add_argument("--run-dir", metavar="DIR", type=Path, help="run folder (default: runs/<time>-edit-locate)")
    locate.add_argument("--json", action="store_true", help="print the result as JSON")
    locate.set_defaults(run=_locate)


def _by_recipe(args: argparse.Namespace) -> int:
    if not args.recipe:
        raise RecipeError("give --recipe FILE, or an intervention: readwrite-edit edit --help lists them")
    from readwrite_edit.edit.settings.reading import load_edit_recipe
    from readwrite_edit.runs.folder import recipe_title

    return _edit(load_edit_recipe(args.recipe, args.set), recipe_title(args.recipe), args)


def _by_options(args: argparse.Namespace) -> int:
    from readwrite_edit.edit.settings.reading import edit_recipe_of

    options = [*_model_options(args), *_field_options(args), *_common_options(args)]
    return _edit(edit_recipe_of(args.kind, options, args.set), f"edit-{args.kind.replace('_', '-')}", args)


def _model_options(args: argparse.Namespace) -> Iterator[Option]:
    from readwrite_edit.models.source import split_revision

    named = args.model
    if named is None:
        from readwrite_edit.cli.options import field_dest
        from readwrite_edit.edit.extract import base_of_adapter

        named = base_of_adapter(getattr(args, field_dest("adapter")))
    path, revision = split_revision(named)
    yield ("model", "path"), "MODEL", path
    if revision is not None:
        yield ("model", "revision"), "MODEL", revision


def _field_options(args: argparse.Namespace) -> Iterator[Option]:
    from readwrite_edit.cli.options import recipe_options
    from readwrite_edit.edit.settings import INTERVENTIONS

    fields = recipe_options(args, INTERVENTIONS[args.kind])
    return (((args.kind, *path), label, value) for path, label, value in fields)


def _common_options(args: argparse.Namespace) -> Iterator[Option]:
    for option, (path, *_) in _COMMON.items():
        yield path, f"--{option}", getattr(args, option)


def _edit(recipe: EditRecipe, name: str, args: argparse.Namespace) -> int:
    from readwrite_edit.cli.align import prepare_environment

    prepare_environment()
    from readwrite_edit.edit.job import prepare_edit, start_edit
    from readwrite_edit.job.session import Session
    from readwrite_edit.report.edit_text import preflight_text
    from readwrite_edit.runs.folder import new_run_path

    path = args.run_dir or new_run_path(Path("runs"), name, datetime.now())
    with_bars = Session(aloud=True)
    try:
        prepared = prepare_edit(recipe, with_bars, run=None if args.dry_run else path)
    finally:
        with_bars.close()
    if args.dry_run or not args.json:
        print(preflight_text(prepared, form="json" if args.json else "table"))
    if args.dry_run:
        return 0
    return _report(start_edit(prepared, path, name, shlex.join(["readwrite-edit", *sys.argv[1:]])), args)


def _report(outcome: EditOutcome, args: argparse.Namespace) -> int:
    if outcome.summary is None:
        return _INTERRUPTED if outcome.interrupted else 0
    from readwrite_edit.report.edit_text import result_text

    print(result_text(outcome.folder.path, entry=outcome.entry, form="json" if args.json else "table"))
    return 0


def _locate(args: argparse.Namespace) -> int:
    from readwrite_edit.cli.align import prepare_environment
    from readwrite_edit.cli.options import recipe_options
    from readwrite_edit.edit.settings.locate import LocateSettings
    from readwrite_edit.runs.folder import new_run_path

    settings = LocateSettings.checked({path[0]: value for path, _, value in recipe_options(args, LocateSettings)})
    prepare_environment()
    from readwrite_edit.edit.locating import start_locating

    path = args.run_dir or new_run_path(Path("runs"), "edit-locate", datetime.now())
    command = shlex.join(["readwrite-edit", *sys.argv[1:]])
    return _report(start_locating(settings, path, command), args)
