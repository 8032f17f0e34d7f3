"""``readwrite-edit sweep``: one recipe under many settings and seeds, through the queue of one folder."""

from __future__ import annotations

import argparse
import json
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.cli.table import print_table
from readwrite_edit.errors import RecipeError
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.sweep import Axis, SweepRecord
    from readwrite_edit.sweep.progress import Standing

_FAILED = 3
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
    parser.add_argument("--dir", metavar="DIR", type=Path, help="folder of the runs (default: runs/sweep-<recipe>)")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="GPUs to use, one run on each (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="print the grid and the time it will take")
    parser.add_argument("--json", action="store_true", help="with --dry-run, for programs: JSON instead of text")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Carry a sweep out or print its grid; exit code 0, or 3 where a run did not finish."""
    from readwrite_edit.runs.folder import recipe_title
    from readwrite_edit.sweep import SweepRecord, carry_out

    _check(args)
    axes = _axes(args)
    folder = args.dir or Path("runs") / f"sweep-{recipe_title(args.recipe)}"
    record = SweepRecord(recipe=args.recipe, settings=tuple(args.set), choose=args.choose)
    if args.dry_run:
        return _rehearse(args, folder, record, axes)
    runs = carry_out(folder, record, axes, seeds=args.seeds, jobs=args.jobs, choose=_choose, say=_say)
    return _report(folder, runs)


def _check(args: argparse.Namespace) -> None:
    if not 1 <= args.seeds <= _MOST_SEEDS:
        raise RecipeError(f"--seeds {args.seeds}: expected 1 to {_MOST_SEEDS}")
    if args.json and not args.dry_run:
        raise RecipeError("--json prints the grid; expected --dry-run beside it")
    if args.jobs < 1:
        raise RecipeError(f"--jobs {args.jobs}: expected at least 1")
    if args.jobs > 1:
        from readwrite_edit.queue.device import why_absent

        if reason := why_absent(f"cuda:{args.jobs - 1}"):
            raise RecipeError(f"--jobs {args.jobs}: one run on each GPU, and {reason}")


def _axes(args: argparse.Namespace) -> list[Axis]:
    from readwrite_edit.sweep import parse_arms, parse_axis

    arms = [parse_arms(args.arm)] if args.arm else []
    return [*arms, *map(parse_axis, args.over)]


def _choose(folder: Path, record: SweepRecord) -> dict[str, str]:
    from readwrite_edit.compare.selection import choose_values

    return choose_values(folder, record)


def _rehearse(args: argparse.Namespace, folder: Path, record: SweepRecord, axes: Sequence[Axis]) -> int:
    from readwrite_edit.runs.wording import age_text
    from readwrite_edit.sweep.carrying import checked, opened, plan
    from readwrite_edit.sweep.progress import seconds_left, standing

    record = opened(folder, record)
    runs = plan(record, axes, args.seeds, _choose(folder, record) if record.choose else {})
    checked(record, runs, folder)
    found = standing(folder, runs)
    later = _later(record, found, args.seeds)
    left = seconds_left(folder, found, args.jobs)
    if args.json:
        print(json.dumps({"runs": [_as_json(one) for one in found], "later": later, "seconds_left": left}, indent=2))
        return 0
    print_table([("run", "status", "differs from the recipe by"), *map(_row, found)])
    if later:
        print(f"and {later} more, of the other seeds, once {args.choose} is chosen")
    print(f"{sum(one.finished for one in found)} of {len(found)} finished; folder: {printable(str(folder))}")
    print(
        f"time to go: about {age_text(left)}" if left is not None else "time to go: known once a first run is finished"
    )
    return 0


def _later(record: SweepRecord, found: Sequence[Standing], seeds: int) -> int:
    """Runs that can not be named before a value is chosen."""
    if record.choose is None:
        return 0
    arms = Counter(run.planned.arm for run in found if run.planned.seed > 0)
    return sum(seeds - 1 for arm in {run.planned.arm for run in found} if not arms[arm])


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
    left = [run for run in runs if not run.finished]
    print(f"{len(runs) - len(left)} of {len(runs)} runs are finished: {printable(str(folder))}")
    for run in left:
        reason = run.view.reason if run.view is not None else ""
        print(printable(f"  {run.planned.name}: {run.word}{f': {reason}' if reason else ''}"))
    print(f"compare them: readwrite-edit compare {shlex.quote(printable(str(folder)))}")
    return _FAILED if left else 0


def _say(text: str) -> None:
    print(printable(f"{time.strftime('%H:%M:%S')} {text}"), flush=True)
