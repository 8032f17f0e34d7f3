"""``readwrite-edit edit ls | show | undo | redo | enter | stack``: the ledger of edits.

Only ``stack`` loads the model. Torch is loaded by it, and where two edits must be told apart by their numbers.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.cli.ledgers import LEDGERS, ledgers, root_of, the_ledger
from readwrite_edit.errors import EditError
from readwrite_edit.terminal import counted, printable

if TYPE_CHECKING:
    import pandas as pd

    from readwrite_edit.edit.ledger import Entry, Ledger
    from readwrite_edit.edit.stack import Stacked

_FAILED = 3
_MOST_ROWS = 40


def add_parsers(actions: Any) -> None:
    """Add the ledger's commands to those of ``edit``."""
    listing = _add(actions, "ls", _list, "list the edits of a model, or of every model")
    listing.add_argument("--json", action="store_true", help="for programs: JSON instead of text")
    show = _add(actions, "show", _show, "show one edit: what it does, its price, what was measured")
    show.add_argument("name", metavar="NAME", help="name of the edit, see edit ls")
    show.add_argument("--json", action="store_true", help="for programs: JSON instead of text")
    undo = _add(actions, "undo", _undo, "take an edit out of force; the base was never written")
    undo.add_argument("name", metavar="NAME", help="name of the edit")
    redo = _add(actions, "redo", _redo, "put an edit back in force")
    redo.add_argument("name", metavar="NAME", help="name of the edit")
    enter = _add(actions, "enter", _enter, "enter a finished edit that is not in the ledger", with_model=False)
    enter.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="its run folder")
    enter.add_argument("--name", metavar="NAME", help="name of the entry; by default the recipe's, or kind and number")
    stack = _add(actions, "stack", _stack, "write several edits as one adapter")
    stack.add_argument("names", metavar="NAME", nargs="*", help="edits; all that are in force by default")
    stack.add_argument("--to", metavar="DIR", type=Path, required=True, help="folder to write, missing or empty")
    stack.add_argument("--rank", metavar="R", type=int, help="cut the rank of each matrix to this; the error is told")
    stack.add_argument("--name", metavar="NAME", help="name of the stack, for its metadata")


def _add(actions: Any, name: str, run: Any, help_text: str, *, with_model: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=help_text, description=f"Edit: {help_text}.")
    parser.add_argument("--ledger", metavar="DIR", type=Path, help=f"folder of ledgers (default: {LEDGERS})")
    if with_model:
        parser.add_argument(
            "--model", metavar="MODEL", help="whose ledger, where there are several: its model or folder"
        )
    parser.set_defaults(run=run)
    return parser


def _list(args: argparse.Namespace) -> int:
    found, troubles = ledgers(args)
    if args.json:
        print(json.dumps([_as_json(ledger) for ledger in found], indent=2, ensure_ascii=False))
    elif not found and not troubles:
        of_model = f" of {printable(args.model)}" if args.model else ""
        print(f"no edits{of_model} under {printable(str(root_of(args)))}")
    else:
        for ledger in found:
            print(f"{printable(ledger.base.source)}  ({printable(str(ledger.folder))})")
            _print_entries(ledger)
            _print_repetitions(ledger)
    for trouble in troubles:  # of the others, which do not hide those that can be read
        raise trouble
    return 0


def _print_entries(ledger: Ledger) -> None:
    from readwrite_edit.cli.table import print_table

    rows = [("edit", "in force", "kind", "created", "predicted damage", "what")]
    for entry in ledger.entries:
        created = f"{entry.created:%Y-%m-%d %H:%M}"
        rows.append((entry.name, _yes(entry), entry.kind, created, _number(entry.predicted_damage), entry.title))
    print_table(rows)


def _print_repetitions(ledger: Ledger) -> None:
    from readwrite_edit.edit.ledger.agreement import sharing_facts

    for number, entry in enumerate(ledger.active):
        for other in sharing_facts(entry, ledger.active[:number]):
            print(f"note: {entry.name} and {other} make a fact in common, which counts twice while both are in force")


def _show(args: argparse.Namespace) -> int:
    ledger = the_ledger(args)
    entry = ledger.entry(args.name)
    if args.json:
        shown = entry.model_dump(mode="json") | {"path": str(ledger.path_of(entry)), "damaged": _damage(ledger, entry)}
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    for name, text in _facts(ledger, entry):
        print(f"{name:<17} {printable(text)}")
    return 0


def _facts(ledger: Ledger, entry: Entry) -> Iterator[tuple[str, str]]:
    from readwrite_edit.edit.ledger.agreement import sharing_facts

    damage = _damage(ledger, entry)
    yield "edit", entry.name
    yield "what", entry.title
    yield "kind", entry.kind
    yield "in force", _yes(entry)
    for other in sharing_facts(entry, ledger.active):
        yield "", f"'{other}' is in force and makes a fact of it too: together it counts twice"
    yield "created", f"{entry.created:%Y-%m-%d %H:%M:%S} UTC"
    yield "model", f"{ledger.base.source}{f'@{ledger.base.revision}' if ledger.base.revision else ''}"
    yield "adapter", f"{ledger.path_of(entry) / 'adapter'}" + (f" ({damage})" if damage else "")
    yield "run", entry.run or "unknown"
    yield "statistics", entry.statistics_sha256 or "none"
    yield "predicted damage", _number(entry.predicted_damage)
    for name, value in entry.measured.items():
        yield "measured", f"{name} {_number(value)}"
    for fact in entry.facts[:_MOST_ROWS]:
        yield "fact", f"{fact.filled} → {fact.target.strip()}"
    if len(entry.facts) > _MOST_ROWS:
        yield "", f"… and {len(entry.facts) - _MOST_ROWS} more facts (--json gives all)"


def _undo(args: argparse.Namespace) -> int:
    entry = the_ledger(args).undo(args.name)
    print(f"undone: {printable(entry.name)} ({printable(entry.title)}); its files stay, edit redo puts it back")
    return 0


def _redo(args: argparse.Namespace) -> int:
    entry = the_ledger(args).redo(args.name)
    print(f"in force again: {printable(entry.name)} ({printable(entry.title)})")
    return 0


def _enter(args: argparse.Namespace) -> int:
    from readwrite_edit.edit.ledger import enter_run, open_ledger, read_offer
    from readwrite_edit.runs.folder import RunFolder

    run = RunFolder(args.run_dir)
    ledger = open_ledger(args.ledger or LEDGERS, read_offer(run).base)
    entry = enter_run(ledger, run, name=args.name)
    print(f"entered: {printable(entry.name)} ({printable(entry.title)}) in {printable(str(ledger.folder))}")
    return 0


def _stack(args: argparse.Namespace) -> int:
    from readwrite_edit.cli.align import prepare_environment

    ledger = the_ledger(args)
    prepare_environment()
    from readwrite_edit.edit.stack import stack

    stacked = stack(ledger, args.names, args.to, rank=args.rank, name=args.name)
    _print_stacked(stacked)
    return 0 if stacked.certificate is None or stacked.certificate.passed else _FAILED


def _print_stacked(stacked: Stacked) -> None:
    print(f"{counted(len(stacked.entries), 'edit')} in one adapter: {printable(', '.join(stacked.entries))}")
    ranks = stacked.matrices
    print(
        f"{counted(len(ranks), 'matrix', 'matrices')}, ranks {ranks['rank_before'].sum()} in all, "
        f"{ranks['rank'].sum()} written; error of cutting ‖ΔW − ΔW_r‖/‖ΔW‖ {stacked.error:.2e}"
    )
    _print_frame("conflicts: what the other edit changes of what the edit sets", stacked.conflicts, "interference")
    _print_frame("facts: log-probability of the target, nats per token", stacked.facts, "change")
    for check in () if stacked.certificate is None else stacked.certificate.checks:
        print(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {printable(check.detail)}")
    for path in sorted(stacked.folder.iterdir()):
        print(f"  {path.stat().st_size:>14,} bytes  {printable(str(path))}")


def _print_frame(title: str, frame: pd.DataFrame, worst: str) -> None:
    """A table, the rows with the largest figures first where there are many."""
    from readwrite_edit.cli.table import print_table

    if frame.empty:
        return
    shown = frame
    if len(frame) > _MOST_ROWS:
        shown = frame.loc[frame[worst].abs().sort_values(ascending=False).index[:_MOST_ROWS]]
        title += f" (the {_MOST_ROWS} of {len(frame)} with the largest {worst})"
    print(title)
    print_table(
        [tuple(frame.columns), *(tuple(_cell(value) for value in row) for row in shown.itertuples(index=False))]
    )


def _cell(value: Any) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def _damage(ledger: Ledger, entry: Entry) -> str | None:
    try:
        ledger.adapter_of(entry)
    except EditError as error:
        return str(error)
    return None


def _as_json(ledger: Ledger) -> dict[str, Any]:
    entries: Iterable[Entry] = ledger.entries
    return {
        "folder": str(ledger.folder),
        "base": ledger.base.as_dict(),
        "entries": [entry.model_dump(mode="json") for entry in entries],
    }


def _yes(entry: Entry) -> str:
    return "yes" if entry.active else "no"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
