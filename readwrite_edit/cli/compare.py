"""``readwrite-edit compare``: arms of a sweep, or single runs, at equal cost and at equal gain."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.cli.table import print_table
from readwrite_edit.errors import RecipeError
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.compare.result import Comparison

_SIGNS = {True: "pass", False: "FAIL", None: "?   "}
_FEWEST_DRAWS, _MOST_DRAWS = 100, 1_000_000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser(
        "compare",
        help="compare arms at equal cost and at equal gain",
        description="Compare the arms of a sweep, or single alignments, in the plane of what they gained on held-out "
        "rows and what they cost on texts: at equal KL, at equal gain, with intervals and paired differences.",
        epilog="Example: readwrite-edit compare runs/sweep-dpo_readonly --baseline lora --out comparison",
    )
    parser.add_argument("path", nargs="+", metavar="SWEEP|RUN", type=Path, help="folder of a sweep, or of a run")
    parser.add_argument("--baseline", metavar="ARM", help="compare with this arm (default: plain LoRA, or the first)")
    parser.add_argument("--gain", choices=("margin", "loss"), default="margin", help="(default: %(default)s)")
    parser.add_argument(
        "--at-kl", metavar="X", type=_cost, action="append", default=[], help="compare gains at this KL; again for more"
    )
    parser.add_argument(
        "--at-gain",
        metavar="X",
        type=float,
        action="append",
        default=[],
        help="compare KL at this gain; again for more",
    )
    parser.add_argument("--draws", metavar="N", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="write report.html and the figures' data as CSV there")
    parser.add_argument("--json", action="store_true", help="for programs: JSON instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print and write a comparison; exit code 0."""
    from readwrite_edit.compare.result import compare_runs

    if not _FEWEST_DRAWS <= args.draws <= _MOST_DRAWS:
        raise RecipeError(f"--draws {args.draws}: expected {_FEWEST_DRAWS} to {_MOST_DRAWS}")
    found = compare_runs(
        args.path,
        baseline=args.baseline,
        gain=args.gain,
        budgets=args.at_kl,
        levels=args.at_gain,
        draws=args.draws,
    )
    if args.out is not None:
        _write(found, args.out)
    if args.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)
        if args.out is not None:
            print(f"\nreport: {printable(str(args.out / 'report.html'))}")
    return 0


def _print(found: Comparison) -> None:
    from readwrite_edit.compare import text

    print_table(text.overview(found))
    for name in found.budgets:
        for title, rows in (*text.at_equal_cost(found, name), *text.at_equal_gain(found, name)):
            print(f"\n{printable(title)}")
            print_table(rows)
    print("\nfair comparison:")
    for check in found.checks:
        print(f"  {_SIGNS[check.passed]}  {check.name}: {printable(check.detail)}")
    for one in found.left_out:
        print(printable(f"left out: {one.name}: {one.reason}"), file=sys.stderr)


def _write(found: Comparison, folder: Path) -> None:
    from readwrite_edit.compare import text
    from readwrite_edit.durable import write_text

    for name, rows in (("points", text.points_table(found)), ("matched", text.matched_table(found))):
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows(rows)
        write_text(folder / f"{name}.csv", stream.getvalue())


def _cost(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text}: expected a KL above 0")
    return value
