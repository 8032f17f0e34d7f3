"""``readwrite-edit sweep``: one recipe under many settings and seeds, through the queue of one folder."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.cli.table import print_table
from readwrite_edit.errors import RecipeError
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.recipe import Recipe
    from readwrite_edit.sweep import Axis, Survey, SweepRecord
    from readwrite_edit.sweep.carrying import Checker
    from readwrite_edit.sweep.progress import Standing

_FAILED = 3
_REMEDY = " runs (train.eval_steps below train.max_steps gives more)"
_MOST_SEEDS = 1000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "sweep",
        help="run a recipe under many settings and seeds",
        description="Run an alignment's recipe under every combination of settings and seeds, each a run of one "
        "folder. The same call again goes on where it was left, and does nothing where all is finished.",
        epilog="Example: readwrite-edit sweep --recipe dpo_readonly.yaml --over adapter.basis=principal,random,lora "
        "--over train.learning_rate=5e-4,2e-3 --choose train.learning_rate --seeds 3",
    )
    parser.add_argument("--recipe", metavar="FILE", required=True, help="a recipe file, or the name of one that ships")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help="override a key in all runs")
    parser.add_argument(
        "--over", metavar="KEY=V1,V2", action="append", default=[], help="vary a key; again for further keys"
    )
    parser.add_argument(
        "--arm", metavar="NAME:K=V,K=V", action="append", default=[], help="a named set of overrides; again for more"
    )
    parser.add_argument("--seeds", metavar="N", type=int, default=1, help="seeds 0 to N − 1 (default: %(default)s)")
    parser.add_argument(
        "--choose", metavar="KEY", help="choose among this key's values for each arm by its run of seed 0, "
        "on rows that are not reported; only the chosen one gets the other seeds"
    )  # fmt: skip
    parser.add_argument("--dir", metavar="DIR", help="folder of the runs (default: runs/sweep-<recipe>)")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="GPUs to use, one run on each (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="print the grid and the time it will take")
    parser.add_argument("--json", action="store_true", help="with --dry-run, for programs: JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry a sweep out or print its grid; exit code 0, or 3 where a run did not finish."""
    from readwrite_edit.runs.folder import recipe_title
    from readwrite_edit.sweep import Grid, SweepRecord, carry_out, survey

    _check(args)
    folder = Path("runs") / f"sweep-{recipe_title(args.recipe)}" if args.dir is None else Path(args.dir)
    record = SweepRecord(recipe=args.recipe, settings=tuple(args.set), choose=args.choose)
    grid = Grid(record=record, axes=_axes(args), seeds=args.seeds, choose=_choose)
    if args.dry_run:
        return _print_grid(args, folder, survey(folder, grid))
    return _report(folder, carry_out(folder, grid, jobs=args.jobs, check=_check_material(), say=_say))


def _check(args: argparse.Namespace) -> None:
    if args.dir == "":
        raise RecipeError("--dir: empty; expected the name of a folder")
    if not 1 <= args.seeds <= _MOST_SEEDS:
        raise RecipeError(f"--seeds {args.seeds}: expected 1 to {_MOST_SEEDS}")
    if args.json and not args.dry_run:
        raise RecipeError("--json prints the grid; expected --dry-run beside it")
    if args.jobs < 1:
        raise RecipeError(f"--jobs {args.jobs}: expected at least 1")
    if args.jobs > 1:
        from readwrite_edit.queue.device import gpu_count
        from readwrite_edit.terminal import counted

        count = gpu_count()
        if count is not None and args.jobs > count:
            here = f"this machine has {counted(count, 'GPU')}"
            raise RecipeError(f"--jobs {args.jobs}: one run on each GPU, and {here}; expected at most {max(1, count)}")


def _axes(args: argparse.Namespace) -> list[Axis]:
    from readwrite_edit.sweep import parse_arms, parse_axis

    arms = [parse_arms(args.arm)] if args.arm else []
    return [*arms, *map(parse_axis, args.over)]


def _choose(folder: Path, record: SweepRecord, given_up: Collection[str]) -> dict[str, str]:
    from readwrite_edit.compare.selection import choose_values

    return choose_values(folder, record, given_up)


def _check_material() -> Checker:
    """What is asked of recipes before their runs begin; things that runs have in common are looked at once."""
    seen: set[str] = set()

    def check(recipes: Sequence[Recipe]) -> None:
        from readwrite_edit.cli.align import prepare_environment
        from readwrite_edit.sweep.checking import check_material

        if recipes:
            prepare_environment()
            check_material(recipes, seen, _say)

    return check


def _print_grid(args: argparse.Namespace, folder: Path, found: Survey) -> int:
    from readwrite_edit.runs.wording import age_text
    from readwrite_edit.sweep.checking import one_point
    from readwrite_edit.sweep.progress import finished_text, seconds_left

    left = seconds_left(found.runs, later=found.later, jobs=args.jobs)
    if args.json:
        runs = [_as_json(one) for one in found.runs]
        print(json.dumps({"runs": runs, "later": found.later, "seconds_left": left}, indent=2))
        return 0
    print_table([("run", "status", "differs from the recipe by"), *map(_row, found.runs)])
    if found.record.settings:
        print(f"in all runs: {printable(shlex.join(found.record.settings))}")
    if found.later:
        print(f"and {found.later} more, of the other seeds, once {args.choose} is chosen")
    if short := sum(map(one_point, found.recipes.values())):
        print(f"evaluated at the end alone, so that their paths have one point: {short} of {len(found.runs)}{_REMEDY}")
    print(f"{finished_text(found.runs)}; folder: {printable(str(folder))}")
    known = "known once a first run is finished" if left is None else f"about {age_text(left)}"
    print(f"time to go: {known}")
    return 0


def _row(one: Standing) -> tuple[str, str, str]:
    return one.planned.name, one.word, printable(" ".join(map(shlex.quote, one.planned.settings)))


def _as_json(one: Standing) -> dict[str, object]:
    planned = one.planned
    return {
        "name": planned.name,
        "arm": planned.arm,
        "seed": planned.seed,
        "settings": list(planned.settings),
        "status": one.word,
    }


def _report(folder: Path, runs: Sequence[Standing]) -> int:
    from readwrite_edit.sweep.progress import finished_text

    left = [run for run in runs if not run.finished]
    print(f"{finished_text(runs)}: {printable(str(folder))}")
    for run in left:
        print(printable(f"  {run.planned.name}: {run.word}{f': {run.reason}' if run.reason else ''}"))
    if len(left) < len(runs):
        print(f"compare them: readwrite-edit compare {shlex.quote(printable(str(folder)))}")
    return _FAILED if left else 0


def _say(text: str) -> None:
    print(printable(f"{time.strftime('%H:%M:%S')} {text}"), flush=True)
