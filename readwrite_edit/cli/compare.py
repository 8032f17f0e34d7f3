"""``readwrite-edit compare``: arms of a sweep, or single runs, at equal cost and at equal gain."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from readwrite_edit.cli.table import print_table
from readwrite_edit.errors import RecipeError
from readwrite_edit.queue.finding import find_run
from readwrite_edit.runs.folder import FolderError, has_run
from readwrite_edit.terminal import printable

if TYPE_CHECKING:
    from readwrite_edit.compare.result import Comparison

_SIGNS = {True: "pass", False: "FAIL", None: "?   "}
_LONGEST_NAME = 32
_MOST_UNADJUSTED = 2
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
    parser.add_argument(
        "which", nargs="+", metavar="SWEEP|RUN", help="a sweep or a run: its folder, its name, or 'last'"
    )
    parser.add_argument("--root", type=Path, default=Path("runs"), help="folder of runs (default: %(default)s)")
    parser.add_argument("--baseline", metavar="ARM", help="compare with this arm (default: plain LoRA, or the first)")
    parser.add_argument("--gain", choices=("margin", "loss"), default="margin", help="(default: %(default)s)")
    parser.add_argument(
        "--at-kl",
        metavar="X",
        type=_above_zero,
        action="append",
        default=[],
        help="compare gains at this KL; again for more",
    )
    parser.add_argument(
        "--at-gain",
        metavar="X",
        type=_above_zero,
        action="append",
        default=[],
        help="compare KL at this gain; again for more",
    )
    parser.add_argument(
        "--text", metavar="NAME", action="append", default=[], help="print the tables of this text only; again for more"
    )
    parser.add_argument("--full", action="store_true", help="print paired differences from the baseline and p-values")
    parser.add_argument("--draws", metavar="N", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--out", metavar="DIR", help="write report.html and the figures' data as CSV there")
    parser.add_argument("--json", action="store_true", help="for programs: JSON instead of tables")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print and write a comparison; exit code 0."""
    from readwrite_edit.compare.result import compare_runs

    if not _FEWEST_DRAWS <= args.draws <= _MOST_DRAWS:
        raise RecipeError(f"--draws {args.draws}: expected {_FEWEST_DRAWS} to {_MOST_DRAWS}")
    folder = None if args.out is None else _free_folder(args.out)
    paths = [_found(text, args.root) for text in args.which]
    found = compare_runs(
        paths,
        baseline=args.baseline,
        gain=args.gain,
        budgets=args.at_kl,
        levels=args.at_gain,
        draws=args.draws,
    )
    if unknown := [name for name in args.text if name not in found.texts]:
        raise RecipeError(f"--text {unknown[0]}: expected one of {', '.join(found.texts)}")
    if folder is not None:
        _write(found, folder, command=_command(args, paths))
    if args.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found, args.text or found.texts, full=args.full)
        if folder is not None:
            print(f"\nreport: {printable(str(folder / 'report.html'))}")
    return 0


def _found(text: str, root: Path) -> Path:
    """The folder that a user means: as it is given, else among those under ``root``."""
    place = Path(text).expanduser()
    return place if text and place.exists() else find_run(text, root)


def _free_folder(text: str) -> Path:
    """The folder to write to, where nothing is replaced but an earlier comparison.

    Raises:
        FolderError: It is that of a run, or holds files of other kinds under the same names.
    """
    from readwrite_edit.compare.files import strangers

    folder = Path(text).expanduser()
    if not text:
        raise FolderError("--out '': expected a folder; --out . is the present one")
    for place in (folder.absolute(), *folder.absolute().parents):
        if has_run(place):
            raise FolderError(f"--out {folder}: {place} is the folder of a run, which is its own: name another folder")
    if strange := strangers(folder):
        raise FolderError(f"--out {folder}: {strange[0]} is there, and of no comparison: name another folder")
    return folder


def _print(found: Comparison, texts: Sequence[str], *, full: bool) -> None:
    from readwrite_edit.compare import text
    from readwrite_edit.compare.cautions import basis_of, cautions

    width = shutil.get_terminal_size().columns
    print_table(text.arms_table(found))
    print(f"\n{textwrap.fill(printable(f'figures rest on {basis_of(found)}'), width)}")
    _print_beside("how far they went, mean over seeds", text.extent_table(found), width)
    word = text.gain_word(found)
    for name in texts:
        if found.budgets[name]:
            _print_beside(f"{word} at equal KL on '{name}' [95 %]", text.at_equal_cost(found, name, full=full), width)
        if found.levels[name]:
            _print_beside(f"KL on '{name}' at equal {word} [95 %]", text.at_equal_gain(found, name, full=full), width)
    for line in (*_notes(found, full=full), *cautions(found)):
        print(f"\n{textwrap.fill(printable(line), width)}")
    print("\nfair comparison:")
    for check in found.checks:
        sign = f"  {_SIGNS[check.passed]}  "
        said = printable(f"{check.name}: {check.detail}")
        print(textwrap.fill(said, width, initial_indent=sign, subsequent_indent=" " * len(sign)))
    for one in found.left_out:
        print(printable(f"left out: {one.name}: {one.reason}"), file=sys.stderr)


def _print_beside(title: str, rows: Sequence[tuple[str, ...]], width: int) -> None:
    from readwrite_edit.compare.text import beside

    print(f"\n{printable(title)}")
    for part in beside([(_short(row[0]), *row[1:]) for row in rows], width):
        print_table(part)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"


def _notes(found: Comparison, *, full: bool) -> Iterator[str]:
    if not all(found.levels.values()):
        yield f"{found.baseline} gained nothing: nothing is compared at equal gain; --at-gain X names one."
    if not all(found.budgets.values()):
        yield f"{found.baseline} cost nothing: nothing is compared at equal KL; --at-kl X names one."
    if len(found.arms) > 1 and not full:
        yield f"*: differs from {found.baseline}, paired, p < 0.05 by Holm's method; --full prints differences and p."
    if len(found.arms) > _MOST_UNADJUSTED and full:
        yield "p in brackets: adjusted by Holm's method for the arms of a column."


def _write(found: Comparison, folder: Path, *, command: str) -> None:
    from readwrite_edit.compare.files import write_tables
    from readwrite_edit.report.compare_page import write_comparison

    try:
        write_tables(found, folder)
        write_comparison(found, folder, command=command)
    except OSError as error:
        raise FolderError(f"{folder}: {error.strerror or error}: name a folder that can be written") from error


def _command(args: argparse.Namespace, paths: Sequence[Path]) -> str:
    """The command that makes the page again."""
    words = ["readwrite-edit", "compare", *map(str, paths)]
    words += ["--baseline", args.baseline] if args.baseline is not None else []
    words += ["--gain", args.gain, *(word for value in args.at_kl for word in ("--at-kl", f"{value:g}"))]
    words += [word for value in args.at_gain for word in ("--at-gain", f"{value:g}")]
    return shlex.join([*words, "--draws", str(args.draws), "--out", str(args.out)])


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: expected a number above 0")
    return value
