"""``readwrite-edit edit ls | show | undo | redo | stack``: the ledger of edits; torch is loaded by ``stack`` alone."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from readwrite_edit.errors import EditError
from readwrite_edit.terminal import printable

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
    stack = _add(actions, "stack", _stack, "write several edits as one adapter")
    stack.add_argument("names", metavar="NAME", nargs="*", help="edits; all that are in force by default")
    stack.add_argument("--to", metavar="DIR", type=Path, required=True, help="folder to write, missing or empty")
    stack.add_argument("--rank", metavar="R", type=int, help="cut the rank of each matrix to this; the error is told")
    stack.add_argument("--name", metavar="NAME", help="name of the stack, for its metadata")


def _add(actions: Any, name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=help_text, description=f"Edit: {help_text}.")
    parser.add_argument(
        "--ledger", metavar="DIR", type=Path, default=Path("edits"), help="folder of ledgers (default: %(default)s)"
    )
    parser.add_argument("--model", metavar="MODEL", help="whose ledger, where there are several: its model or folder")
    parser.set_defaults(run=run)
    return parser


def _list(args: argparse.Namespace) -> int:
    ledgers, troubles = _ledgers(args)
    if args.json:
        print(json.dumps([_as_json(ledger) for ledger in ledgers], indent=2, ensure_ascii=False))
    elif not ledgers and not troubles:
        print(f"no edits under {printable(str(args.ledger))}")
    else:
        for ledger in ledgers:
            print(f"{printable(ledger.base.source)}  ({printable(str(ledger.folder))})")
            _print_entries(ledger)
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


def _show(args: argparse.Namespace) -> int:
    ledger = _the_ledger(args)
    entry = ledger.entry(args.name)
    if args.json:
        shown = entry.model_dump(mode="json") | {"path": str(ledger.path_of(entry)), "damaged": _damage(ledger, entry)}
        print(json.dumps(shown, indent=2, ensure_ascii=False))
        return 0
    for name, text in _facts(ledger, entry):
        print(f"{name:<17} {printable(text)}")
    return 0


def _facts(ledger: Ledger, entry: Entry) -> Iterator[tuple[str, str]]:
    damage = _damage(ledger, entry)
    yield "edit", entry.name
    yield "what", entry.title
    yield "kind", entry.kind
    yield "in force", _yes(entry)
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
    entry = _the_ledger(args).undo(args.name)
    print(f"undone: {printable(entry.name)} ({printable(entry.title)}); its files stay, edit redo puts it back")
    return 0


def _redo(args: argparse.Namespace) -> int:
    entry = _the_ledger(args).redo(args.name)
    print(f"in force again: {printable(entry.name)} ({printable(entry.title)})")
    return 0


def _stack(args: argparse.Namespace) -> int:
    from readwrite_edit.cli.align import prepare_environment

    ledger = _the_ledger(args)
    prepare_environment()
    from readwrite_edit.edit.stack import stack

    stacked = stack(ledger, args.names, args.to, rank=args.rank, name=args.name)
    _print_stacked(stacked)
    return 0 if stacked.certificate is None or stacked.certificate.passed else _FAILED


def _print_stacked(stacked: Stacked) -> None:
    print(f"{len(stacked.entries)} edits in one adapter: {printable(', '.join(stacked.entries))}")
    ranks = stacked.matrices
    print(
        f"{len(ranks)} matrices, ranks {ranks['rank_before'].sum()} in all, {ranks['rank'].sum()} written; "
        f"error of cutting ‖ΔW − ΔW_r‖/‖ΔW‖ {stacked.error:.2e}"
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


def _ledgers(args: argparse.Namespace) -> tuple[list[Ledger], list[EditError]]:
    """The ledgers that are meant, and what is wrong with those that can not be read."""
    from readwrite_edit.edit.ledger import find_ledgers, read_ledger

    found, troubles = [], []
    for folder in find_ledgers(args.ledger):
        try:
            ledger = read_ledger(folder)
        except EditError as error:
            troubles.append(error)
            continue
        if args.model is None or _is_of(ledger, args.model):
            found.append(ledger)
    return found, troubles


def _the_ledger(args: argparse.Namespace) -> Ledger:
    """The one ledger that is meant.

    Raises:
        EditError: There is none, there are several, or one that may be meant can not be read.
    """
    found, troubles = _ledgers(args)
    if troubles and (args.model is None or not found):
        raise troubles[0]
    if len(found) == 1:
        return found[0]
    of_model = f" of {args.model}" if args.model else ""
    if not found:
        raise EditError(f"no ledger{of_model} under {args.ledger}: name its folder with --ledger, see edit ls")
    named = ", ".join(ledger.folder.name for ledger in found)
    raise EditError(f"{len(found)} ledgers{of_model} under {args.ledger}: choose one with --model ({named})")


def _is_of(ledger: Ledger, model: str) -> bool:
    """Whether a model's name means a ledger: its source as the ledger has it, a path to it, or the folder's name."""
    names = {ledger.base.source, ledger.folder.name, f"{ledger.base.source}@{ledger.base.revision}"}
    return model in names or str(Path(model).expanduser().absolute()) == ledger.base.source


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
